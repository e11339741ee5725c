"""A headless Chromium that looks at Airflow's pages like a user."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Locator, Page

    from support.chain_runs import Sandbox

LONGEST_WAIT = 60_000
"""Timeout in milliseconds for a page or element: two busy cores are slow, and a wait ends when the element appears."""
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the machine's Chromium; it is stopped whatever happens."""
    program = shutil.which("chromium")
    assert program, "expected chromium on PATH, found none: scripts/setup.sh installs it"
    expect.set_options(timeout=LONGEST_WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=list(ARGUMENTS), timeout=2 * LONGEST_WAIT
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(sandbox: Sandbox) -> Iterator[BrowserContext]:
    """A browser in which the admin has logged in through the login page."""
    with chromium() as browser:
        context = browser.new_context(
            base_url=sandbox.api.address, viewport={"width": 1500, "height": 950}, reduced_motion="reduce"
        )
        context.set_default_timeout(LONGEST_WAIT)
        page = context.new_page()
        log_in(page, sandbox)
        page.close()
        yield context


def log_in(page: Page, sandbox: Sandbox) -> None:
    """Open Airflow, get redirected to the login page, and log in."""
    page.goto("/")
    expect(page).to_have_url(re.compile("/auth/login"))
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(sandbox.secrets["admin"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Welcome")).to_be_visible()


def trigger_form(page: Page, dag_id: str) -> Locator:
    """Open the trigger form of a Dag from the Dag's page."""
    page.goto(f"/dags/{dag_id}")
    page.get_by_role("button", name="Trigger Dag").click()
    return page.get_by_role("dialog")


def connection_form(page: Page, kind: str) -> Locator:
    """Open the form for a new connection of a type, given by the name that the form shows."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox").fill(kind)
    page.get_by_role("option", name=kind, exact=True).click()
    return form


def follow(page: Page, button: str) -> None:
    """Click the button on a task's page that leads to the plugin's page of the run."""
    page.get_by_role("link", name=button, exact=True).click()
    expect(page).to_have_url(re.compile("/delivery-chain/shop-api/"))


def mark_failed(page: Page, what: str) -> None:
    """Mark what a page is about, a `Dag Run` or `Task Instance`, as failed by its buttons."""
    page.get_by_role("button", name=f"Mark {what} as...").first.click()
    page.get_by_role("menuitem", name="Failed").click()
    confirm(page)


def clear(page: Page, *, only_failed: bool = False) -> None:
    """Clear what a page is about, a run or a task instance, by its button; of the run all, or what failed."""
    page.get_by_role("button", name="Press shift+c to clear").click()
    form = page.get_by_role("dialog")
    # What it will clear is asked of Airflow first.
    expect(form.get_by_text("Affected Tasks: ")).to_be_visible()
    if only_failed:
        form.get_by_role("button", name="Clear only failed tasks").click()
        expect(form.get_by_text("Affected Tasks: 2", exact=True)).to_be_visible()
    confirm(page)


def confirm(page: Page) -> None:
    """Confirm a form, and wait until Airflow has taken it."""
    form = page.get_by_role("dialog")
    form.get_by_role("button", name="Confirm").click()
    expect(form).to_have_count(0)
