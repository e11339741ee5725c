"""Tests whole chains on a real Airflow: pushes go in; tags, copies, deliveries and refusals come out."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks.webhooks import Webhook

from delivery_chain.core.gate.findings import REPORT_TYPE
from delivery_chain.core.names.tags import STAGING_PREFIX, is_reserved
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import list_referrers
from delivery_chain.sandbox.receiver import read_deliveries

if TYPE_CHECKING:
    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e

CLEAN = "v1.0.0"
VULNERABLE = "v1.1.0"
IMAGE = "shop/api"
QUARANTINE = "shop-quarantine/api"
NOWHERE = {"cn-hangzhou": "", "ap-southeast-1": "", "eu-central-1": ""}


def staged(sandbox: Sandbox, name: str) -> list[str]:
    """Remaining staging tags."""
    return [tag for tag in sandbox.tags(name) if tag.startswith(STAGING_PREFIX)]


def deliveries(sandbox: Sandbox, stage: str) -> list[dict[str, Any]]:
    kept = read_deliveries(sandbox.layout.deliveries)
    return [one for one in kept if one["path"].partition("?")[0] == f"/hooks/{stage}"]


def acr_time(run: Ended) -> str:
    pushed = datetime.fromisoformat(run.conf["pushed_at"])
    return pushed.astimezone(timezone(timedelta(hours=8))).strftime("%Y-%m-%d %H:%M:%S")


def test_a_clean_release_succeeds(clean: Ended) -> None:
    """Every step of a clean release succeeds, and those for blocked images are skipped."""
    assert clean.state == "success", clean.note
    assert {task for task, states in clean.states.items() if "failed" in states} == set()
    assert (clean.states["quarantine"], clean.states["denied"]) == (("skipped",), ("skipped",))


def test_a_clean_release_is_everywhere_under_one_digest(sandbox: Sandbox, clean: Ended) -> None:
    """Its tag has the judged digest in all three registries, and so does `latest` in the home registry."""
    digest = clean.xcom("assemble")["digest"]
    assert clean.xcom("gate")["digest"] == digest
    assert sandbox.digests(IMAGE, CLEAN) == dict.fromkeys(NOWHERE, digest)
    assert sandbox.digests(IMAGE, "latest")["cn-hangzhou"] == digest


def test_no_staging_tag_is_left(sandbox: Sandbox, clean: Ended, blocked: Ended, branch: Ended) -> None:
    """Runs leave no staging tags, whether they passed or were blocked; users see only their own tags."""
    ends = [run.states["report"] for run in (clean, blocked, branch)]
    assert ends == [("success",), ("failed",), ("success",)]
    assert {name: staged(sandbox, name) for name in (IMAGE, "shop/web")} == {IMAGE: [], "shop/web": []}
    assert {tag for tag in sandbox.tags(IMAGE) if not is_reserved(tag)} == {CLEAN, "latest"}


def test_production_is_told_once(sandbox: Sandbox, clean: Ended, blocked: Ended) -> None:
    """Of the two releases, only the clean one is delivered, with a valid signature and ACR's body."""
    assert blocked.state == "failed"
    (delivery,) = deliveries(sandbox, "prod")
    Webhook(sandbox.secrets["prod"]).verify(delivery["body"], dict(delivery["headers"]))
    body = json.loads(delivery["body"])
    assert list(body) == ["push_data", "repository", "delivery_chain"]
    assert body["push_data"] == {
        "digest": clean.xcom("assemble")["digest"],
        "pushed_at": acr_time(clean),
        "tag": CLEAN,
    }
    assert body["repository"] == {
        "date_created": acr_time(clean),
        "name": "api",
        "namespace": "shop",
        "region": "cn-hangzhou",
        "repo_authentication_type": "NO_CERTIFIED",
        "repo_full_name": IMAGE,
        "repo_origin_type": "NO_CERTIFIED",
        "repo_type": "PRIVATE",
    }
    assert (body["delivery_chain"]["chain"], body["delivery_chain"]["run_id"]) == ("shop-api", clean.run_id)


def test_a_vulnerable_release_fails_at_denied(blocked: Ended) -> None:
    """`denied` fails, and with it the run's `report`; the log names the deciding findings, and nothing was released."""
    assert blocked.state == "failed"
    assert {task for task, states in blocked.states.items() if "failed" in states} == {"denied", "report"}
    assert set(blocked.states["publish"]) == {"skipped"}
    assert "PolicyViolation" in blocked.logs["denied", -1]
    assert blocked.xcom("gate")["deciding"][0]["id"] in blocked.logs["denied", -1]


def test_the_verdict_says_what_decided(blocked: Ended) -> None:
    """The gate's XCom refuses the run's digest, with findings at or above high."""
    verdict = blocked.xcom("gate")
    assert (verdict["passed"], verdict["digest"]) == (False, blocked.xcom("assemble")["digest"])
    assert {finding["severity"] for finding in verdict["deciding"]} <= {"high", "critical"}
    assert "CVE-2023-4911" in {finding["id"] for finding in verdict["deciding"]}


def test_a_vulnerable_release_is_in_no_registry(sandbox: Sandbox, blocked: Ended) -> None:
    """No registry has its tag, and `latest` has another digest."""
    assert sandbox.digests(IMAGE, VULNERABLE) == NOWHERE
    assert blocked.xcom("assemble")["digest"] not in sandbox.digests(IMAGE, "latest").values()


def test_a_vulnerable_release_is_quarantined_with_its_report(sandbox: Sandbox, blocked: Ended) -> None:
    """The quarantine repository has the digest under tag and time, along with the scan reports."""
    digest = blocked.xcom("assemble")["digest"]
    (tag,) = [tag for tag in sandbox.tags(QUARANTINE) if not is_reserved(tag)]
    assert tag.startswith(f"{VULNERABLE}.")
    assert blocked.xcom("quarantine")["backup"] == f"{sandbox.home.host}/{QUARANTINE}:{tag}"
    with RegistryClient(sandbox.home) as client:
        assert client.get_manifest(QUARANTINE, tag).digest == digest
        reports = list_referrers(client, QUARANTINE, digest, artifact_type=REPORT_TYPE)
        assert len(reports) == 1
        layer = json.loads(client.get_manifest(QUARANTINE, reports[0].digest).raw)["layers"][0]
        report = json.loads(client.get_blob(QUARANTINE, layer["digest"]))
    assert "CVE-2023-4911" in {finding["id"] for finding in report["findings"]}


def test_a_branch_push_becomes_an_index_of_two_platforms(sandbox: Sandbox, branch: Ended) -> None:
    """Both tags point at one index, at home and in the region that takes all tags."""
    assert branch.state == "success", branch.note
    commit = branch.conf["commit"]
    minute = datetime.fromisoformat(branch.conf["pushed_at"]).strftime("%Y%m%d%H%M")
    wanted = f"main-{minute}-{commit[:8]}"
    assert {tag for tag in sandbox.tags("shop/web") if not is_reserved(tag)} == {wanted, "edge"}
    index = sandbox.manifest("shop/web", "edge")
    platforms = [(one["platform"]["os"], one["platform"]["architecture"]) for one in index["manifests"]]
    assert platforms == [("linux", "amd64"), ("linux", "arm64")]
    digest = branch.xcom("assemble")["digest"]
    held = {"cn-hangzhou": digest, "ap-southeast-1": digest, "eu-central-1": ""}
    assert [sandbox.digests("shop/web", tag) for tag in (wanted, "edge")] == [held, held]


def test_staging_is_told_of_edge(sandbox: Sandbox, branch: Ended) -> None:
    """The trigger fires for the tag `edge` only."""
    assert branch.state == "success", branch.note
    (delivery,) = deliveries(sandbox, "staging")
    Webhook(sandbox.secrets["staging"]).verify(delivery["body"], dict(delivery["headers"]))
    assert json.loads(delivery["body"])["push_data"]["tag"] == "edge"


def test_an_image_pushed_by_hand_is_replicated(sandbox: Sandbox, image: Ended, by_hand: str) -> None:
    """It is scanned and judged without a build, and then replicated to the region of the rule."""
    assert image.state == "success", image.note
    assert set(image.states["build"]) == {"skipped"}
    assert image.xcom("gate")["digest"] == by_hand
    held = {"cn-hangzhou": by_hand, "ap-southeast-1": "", "eu-central-1": by_hand}
    assert sandbox.digests("base/busybox", "1.0") == held


@pytest.mark.parametrize(
    ("run_id", "reason"),
    [
        ("refused-ref", "no build rule of chain 'shop-api' matches 'nope' as a whole name"),
        ("refused-rule", "build rule 'release' has a pattern"),
    ],
)
def test_what_makes_no_run_is_refused_at_plan(
    sandbox: Sandbox, started: object, run_id: str, reason: str
) -> None:
    """The first step fails at its first try, and its log has the reason."""
    del started
    refused = sandbox.of_run("shop-api", run_id)
    assert (refused.state, refused.states["plan"]) == ("failed", ("failed",))
    assert refused.note.startswith(f"refused: {reason}")
    assert "EventRefused" in refused.logs["plan", -1]
    assert reason in refused.logs["plan", -1]
    assert "UP_FOR_RETRY" not in refused.logs["plan", -1]


def test_the_note_of_a_run_is_its_summary(clean: Ended, blocked: Ended) -> None:
    """The list of runs shows the outcome of each release."""
    assert clean.note.startswith(f"delivered: {IMAGE} {CLEAN}")
    assert "passed" in clean.note
    assert blocked.note.startswith("blocked: ")
    assert f"; {IMAGE} {VULNERABLE}, latest at sha256:" in blocked.note


def tries(sandbox: Sandbox, run: Ended) -> dict[str, int]:
    """The try that each task instance is at."""
    instances = sandbox.api.task_instances(run.dag_id, run.run_id)
    return {f"{one['task_id']}{one['map_index']}": one["try_number"] for one in instances}


def test_denied_and_report_alone_say_the_same_again(sandbox: Sandbox, clean: Ended, blocked: Ended) -> None:
    """Of a blocked and of a delivered run: nothing else runs, and state, note and what is out there stay."""
    runs = {"denied": blocked, "report": clean}
    before = {task: tries(sandbox, run) for task, run in runs.items()}
    sent = len(deliveries(sandbox, "prod"))
    for task, run in runs.items():
        sandbox.clear(run, task)
    again = {task: sandbox.again(run) for task, run in runs.items()}
    for task, run in runs.items():
        assert (again[task].state, again[task].note) == (run.state, run.note)
        assert again[task].states == run.states
        ran = {key for key, number in tries(sandbox, run).items() if number != before[task][key]}
        assert ran == {f"{task}-1", "report-1"}
    assert again["denied"].logs["denied", -1].count("PolicyViolation") > 0
    assert len(deliveries(sandbox, "prod")) == sent
    assert (sandbox.digests(IMAGE, VULNERABLE), staged(sandbox, IMAGE)) == (NOWHERE, [])


@pytest.mark.parametrize("tasks", [("publish",), ("publish", "replicate", "distribute")])
def test_a_cleared_publish_of_a_blocked_run_lets_nothing_out(
    sandbox: Sandbox, blocked: Ended, tasks: tuple[str, ...]
) -> None:
    """A user points the gate's branch at `publish` and clears it: `publish` checks the verdict, and fails."""
    gate = sandbox.task_path(blocked, "gate")
    followed = {"value": {"followed": ["publish"]}, "map_index": -1}
    assert sandbox.api.call("PATCH", f"{gate}/xcomEntries/skipmixin_key", body=followed)
    sandbox.clear(blocked, *tasks)
    again = sandbox.again(blocked)
    assert (again.state, again.states["gate"], again.states["publish"]) == (
        "failed",
        ("success",),
        ("failed",),
    )
    assert "Unjudged" in again.logs["publish", -1]
    assert "success" not in again.states["replicate"] + again.states["distribute"]
    assert sandbox.digests(IMAGE, VULNERABLE) == NOWHERE


def test_a_publish_marked_as_success_lets_nothing_out(sandbox: Sandbox, blocked: Ended) -> None:
    """A user marks `publish` as successful and clears the copies: each of them checks the verdict, and fails."""
    marked = {"new_state": "success", "include_downstream": False}
    assert sandbox.api.call("PATCH", sandbox.task_path(blocked, "publish"), body=marked)
    sandbox.clear(blocked, "replicate", "distribute")
    again = sandbox.again(blocked)
    assert (again.state, set(again.states["replicate"])) == ("failed", {"failed"})
    assert ["Unjudged" in again.logs["replicate", index] for index in (0, 1)] == [True, True]
    assert sandbox.digests(IMAGE, VULNERABLE) == NOWHERE
    assert len(deliveries(sandbox, "prod")) == 1


def test_no_secret_is_in_logs_or_xcoms(
    sandbox: Sandbox, clean: Ended, blocked: Ended, branch: Ended, image: Ended
) -> None:
    """The REST API shows no secret, and the log files of tasks and processes contain none."""
    shown = {
        f"{run.run_id} {what}": text
        for run in (clean, blocked, branch, image)
        for what, text in [("xcoms", repr(run.xcoms)), *((str(key), log) for key, log in run.logs.items())]
    }
    folders = (sandbox.layout.airflow_home / "logs", sandbox.layout.logs)
    files = [file for folder in folders for file in folder.rglob("*.log") if file.is_file()]
    shown |= {
        str(file.relative_to(sandbox.layout.root)): file.read_text("utf-8", "replace") for file in files
    }
    assert len(shown) > 40
    # A signing secret without its prefix is still a secret.
    secrets = {name: secret.removeprefix("whsec_") for name, secret in sandbox.secrets.items()}
    leaks = {(name, place) for place, text in shown.items() for name in secrets if secrets[name] in text}
    assert leaks == set()


def test_the_page_of_a_run_without_a_plan_says_why(sandbox: Sandbox, started: object) -> None:
    """The button leads to a page, although the run has no image."""
    del started
    refused = sandbox.of_run("shop-api", "refused-rule")
    assert "build rule &#39;release&#39; has a pattern" in sandbox.page(f"shop-api/{refused.run_id}").text


def test_the_first_page_has_each_chain_and_its_newest_run(sandbox: Sandbox, branch: Ended) -> None:
    """The home page shows the state of each chain's newest run as in Airflow's database."""
    shown = sandbox.page("").text
    assert [chain for chain in ("base-images", "shop-api") if f"../dags/{chain}" not in shown] == []
    row = shown[shown.index("../dags/shop-web") :].partition("</tr>")[0]
    assert (f"shop-web/{branch.run_id}" in row, branch.note in row) == (True, True)


def test_push_events_have_the_state_of_their_runs(sandbox: Sandbox, clean: Ended, blocked: Ended) -> None:
    """The page shows the states of a delivered and of a blocked run."""
    shown = sandbox.page("events?since=1d&source=git_shop&chain=shop-api").text
    states = {
        run.run_id: re.findall(rf"<code>{re.escape(run.run_id)}</code></a> <span class=\"(\w+)\"", shown)
        for run in (clean, blocked)
    }
    assert states == {clean.run_id: ["success"], blocked.run_id: ["failed"]}
