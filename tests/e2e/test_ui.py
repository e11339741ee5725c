"""Tests what users see in Airflow's pages, with a real browser: forms, runs, buttons, connections, import errors."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from support.browser import connection_form, follow, trigger_form, visiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page

    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e

BAD_SPEC = """\
version: 1
name: misspelt
scope: {instance: cn-hangzhou, namespace: shop, repositories: [worker]}
scan:
  block: {severity: hgih}
"""
VERDICT = "blocked: 11 findings at or above high (limit 1)"


@pytest.fixture(scope="module")
def bad_spec(sandbox: Sandbox) -> Iterator[Path]:
    """A spec with a mistake in line 5, in the folder from before the first test to after the last."""
    lines = sandbox.layout.airflow_env.read_text("utf-8").splitlines()
    (line,) = [line for line in lines if "AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER" in line]
    folder = Path(shlex.split(line)[1].partition("=")[2])
    assert sandbox.layout.root.parent in folder.parents, f"{folder}: tests write into no other folder"
    file = folder / "misspelt.yaml"
    file.write_text(BAD_SPEC, "ascii")
    yield file
    file.unlink()


@pytest.fixture(scope="module")
def visitor(sandbox: Sandbox, bad_spec: Path) -> Iterator[BrowserContext]:
    """A browser in which a user has logged in through the login page."""
    del bad_spec  # Airflow reads the specs every 30 s, while the other tests run.
    with visiting(sandbox) as context:
        yield context


@pytest.fixture
def page(visitor: BrowserContext, tmp_path: Path) -> Iterator[Page]:
    """A new tab. Its final content is kept in the test's temporary folder."""
    tab = visitor.new_page()
    yield tab
    tab.screenshot(path=tmp_path / "end.png")
    tab.close()


def test_the_trigger_form_starts_a_run(sandbox: Sandbox, page: Page) -> None:
    """The form's fields are open and explained; the values become the run's configuration."""
    form = trigger_form(page, "shop-api")
    for text in (
        "Branch or tag to build",
        "Built as if it had just been pushed",
        "Build rule",
        "the one that matches",
        "Or use an existing image",
    ):
        expect(form.get_by_text(text)).to_be_visible()
    form.locator("[name=element_ref]").fill("asked-in-the-form")
    form.get_by_role("button", name="Trigger", exact=True).click()
    expect(page).to_have_url(re.compile("/dags/shop-api/runs/manual__"))
    confs = [run["conf"] for run in sandbox.api.runs("shop-api") if run["run_type"] == "manual"]
    assert {
        "ref": "asked-in-the-form",
        "rule": None,
        "repository": None,
        "tag": None,
        "digest": None,
        "announce": True,
    } in confs


def test_a_chain_of_images_asks_for_an_image(page: Page) -> None:
    """The form of a chain that builds nothing has no field for a git ref."""
    form = trigger_form(page, "base-images")
    for label in ("Repository", "Image tag", "Image digest"):
        expect(form.get_by_text(label, exact=True)).to_be_visible()
    expect(form.get_by_text("Branch or tag to build")).to_have_count(0)


def test_a_run_names_its_platforms_regions_and_triggers(page: Page, clean: Ended) -> None:
    """Mapped steps are distinguished by name, and the note gives the image's outcome."""
    page.goto(f"/dags/shop-api/runs/{clean.run_id}")
    expect(page.get_by_text("passed with no findings, published, copied to")).to_be_visible()
    names = page.get_by_test_id("table-cell-rendered_map_index")
    shown = names if names.count() else page.get_by_role("cell")
    for name in ("linux/amd64", "to-singapore", "to-frankfurt", "redeploy-prod"):
        expect(shown.filter(has_text=name).first).to_be_visible()


def test_a_blocked_run_says_why(page: Page, blocked: Ended) -> None:
    """The run's page has the verdict; the log of the failed step has it as well, followed by each finding."""
    page.goto(f"/dags/shop-api/runs/{blocked.run_id}")
    expect(page.get_by_text(VERDICT)).to_be_visible()
    denied = page.get_by_role("row").filter(has=page.get_by_role("link", name="denied", exact=True))
    expect(denied.get_by_text("Failed")).to_be_visible()
    denied.get_by_role("link", name="denied", exact=True).click()
    expect(page.get_by_text(f"PolicyViolation: {VERDICT}. Digest sha256:")).to_be_visible()
    expect(page.get_by_text("CVE-2019-10906 high: Jinja2 2.10 (fixed in 2.10.1)")).to_be_visible()
    expect(page.get_by_text("Fix the packages and push again")).to_be_visible()


@pytest.mark.parametrize("task", ["scan/mapped/0", "denied"])
def test_the_scan_report_can_be_read(page: Page, blocked: Ended, task: str) -> None:
    """The button leads to every finding of the image, even a removed one, with links to the advisories."""
    page.goto(f"/dags/shop-api/runs/{blocked.run_id}/tasks/{task}/details")
    follow(page, "Scan report")
    expect(page.get_by_role("heading", name="linux/amd64: 11 high, 3 medium")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="CVE-2019-10906")
    expect(row.get_by_role("cell")).to_have_text(
        [
            "high",
            "CVE-2019-10906",
            "Jinja2",
            "2.10",
            "2.10.1",
            "Jinja2: templates leave the sandbox through str.format_map",
        ]
    )
    expect(row.get_by_role("link")).to_have_attribute("href", re.compile("CVE-2019-10906", re.IGNORECASE))
    page.get_by_role("link", name=blocked.run_id).click()
    expect(page).to_have_url(re.compile("/dags/shop-api/runs/"))


def test_the_image_can_be_found(page: Page, sandbox: Sandbox, clean: Ended) -> None:
    """The button of `publish` leads to the digest, and to the image's address in each region."""
    digest = clean.xcom("publish")["digest"]
    page.goto(f"/dags/shop-api/runs/{clean.run_id}/tasks/publish/details")
    follow(page, "Image")
    expect(page.get_by_text("Passed with no findings", exact=True)).to_be_visible()
    for region in ("ap-southeast-1", "eu-central-1"):
        row = page.get_by_role("row").filter(has_text=f"In {region}")
        expect(row).to_contain_text(f"{sandbox.registries[region].host}/shop/api@{digest}")


def test_a_quarantined_image_can_be_found(page: Page, sandbox: Sandbox, blocked: Ended) -> None:
    """The button of `quarantine` leads to the backup of the latest try."""
    backup = sandbox.again(blocked).xcom("quarantine")["backup"]
    page.goto(f"/dags/shop-api/runs/{blocked.run_id}/tasks/quarantine/details")
    follow(page, "Image")
    row = page.get_by_role("row").filter(has_text="Backed up as")
    expect(row).to_contain_text(backup)


def test_the_ledger_is_in_the_menu(page: Page, clean: Ended) -> None:
    """Browse > Push events lists the push with its run; the link leaves the frame for the run's page."""
    page.goto("/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Push events").click()
    ledger = page.frame_locator("iframe[title='Push events']")
    ledger.get_by_label("Source").fill("git_shop")
    ledger.get_by_label("Branch, tag or image").fill("v1.0.*")
    ledger.get_by_role("button", name="Show").click()
    row = ledger.get_by_role("row").filter(has_text=clean.run_id)
    expect(row).to_contain_text("tag v1.0.0")
    row.get_by_role("link", name=clean.run_id).click()
    expect(page).to_have_url(re.compile(f"/dags/shop-api/runs/{re.escape(clean.run_id)}"))


def test_a_run_s_page_asks_for_a_login(visitor: BrowserContext, clean: Ended) -> None:
    """Without a login, no report can be read."""
    browser = visitor.browser
    assert browser is not None
    stranger = browser.new_context()
    try:
        answer = stranger.request.get(clean.xcoms["publish", -1, "_link_RegistryLink"])
        assert (answer.status, answer.json()) == (401, {"detail": "Not authenticated"})
    finally:
        stranger.close()


@pytest.mark.parametrize(
    ("wrong", "title", "message"),
    [
        (False, "Test Connection Successful", "is an OCI registry and grants access anonymously"),
        (True, "Test Connection Failed", "Connection refused. Check that the registry runs"),
    ],
    ids=["right", "wrong"],
)
def test_a_registry_s_connection_can_be_tested(
    page: Page, sandbox: Sandbox, title: str, message: str, *, wrong: bool
) -> None:
    """The form has our fields; the Test button queries the registry, and says what is wrong."""
    name = f"ui-{title[-6:].strip().lower()}"
    host, _, port = sandbox.home.host.partition(":")
    form = connection_form(page, "OCI registry")
    form.get_by_label("Connection ID").fill(name)
    form.get_by_label("Registry host").fill(host)
    form.get_by_label("Port").fill("1" if wrong else port)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for label in ("Region", "Web page of an image", "Plain HTTP", "CA certificate"):
        expect(form.get_by_text(label, exact=True)).to_be_visible()
    form.locator("[name=element_region]").fill("nearby")
    form.locator("[id='switch:element_plain_http:control']").click()
    form.get_by_role("button", name="Save").click()
    row = page.get_by_role("row").filter(has_text=name)
    # Do not use the mouse: the last message may cover the button, and stays while the mouse is over it.
    row.get_by_role("button", name="Test Connection").dispatch_event("click")
    told = page.get_by_role("status").filter(has_text=title)
    expect(told).to_contain_text(message)


def test_a_webhook_s_connection_can_be_tested(page: Page) -> None:
    """The Test button of a trigger connects, and says that it sends nothing."""
    page.goto("/connections")
    row = page.get_by_role("row").filter(has_text="prod_redeploy")
    # Do not use the mouse: the last message may cover the button, and stays while the mouse is over it.
    row.get_by_role("button", name="Test Connection").dispatch_event("click")
    told = page.get_by_role("status").filter(has_text="Test Connection Successful")
    expect(told).to_contain_text("no request was sent, it could start a redeploy; deliveries will be signed")


def test_a_bad_spec_is_shown_and_harms_no_other_chain(page: Page, bad_spec: Path) -> None:
    """The home page shows file, line, key and expected value; the other chains stay."""
    page.goto("/")
    page.get_by_role("button", name="Dag Import Error").click()
    errors = page.get_by_role("dialog")
    errors.get_by_role("button").filter(has_text="delivery_chain_errors.py").click()
    expect(
        errors.get_by_text(f"{bad_spec}:5: scan.block.severity: expected 'critical', 'high'")
    ).to_be_visible()
    page.goto("/dags?tags=delivery-chain")
    for chain in ("base-images", "shop-api", "shop-web"):
        expect(page.get_by_role("link", name=chain, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="misspelt")).to_have_count(0)
