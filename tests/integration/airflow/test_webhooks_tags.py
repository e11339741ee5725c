"""For senders that report only the tag object of an annotated tag, the receiver asks the source for the commit."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.webhook_airflow import SECRET, connect, connect_git, spec

if TYPE_CHECKING:
    from pathlib import Path

    from support.webhook_airflow import Receiver, Sent
    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
TAG = "refs/tags/v1"
CHAIN = spec(
    build={"rules": [{"name": "release", "tag": r"v(?<n>\d+)", "tags": [{"tag": "v${n}"}]}]},
)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: Stored) -> Path:
    """The repository behind the connection `git_shop`, with the annotated tag `v1`, and Azure DevOps as its sender."""
    folder = tmp_path / "api.git"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    git(folder, "tag", "-m", "x", "v1")
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__GIT_TRANSPORTS", "file")
    connect_git(monkeypatch, host=tmp_path.as_uri())
    connect(monkeypatch, "azure_hooks", extra={"sender": "azure"})
    stored.add(CHAIN)
    return folder


def tell(receiver: Receiver, *told: tuple[str, str]) -> Sent:
    """Azure's delivery of created tags."""
    updates = [{"name": name, "oldObjectId": "0" * 40, "newObjectId": new} for name, new in told]
    repository = {"name": "api", "remoteUrl": "https://dev.azure.com/api"}
    payload = {
        "id": "one",
        "eventType": "git.push",
        "resource": {"refUpdates": updates, "repository": repository},
    }
    proof = base64.b64encode(f"any:{SECRET}".encode()).decode()
    return receiver.post("azure_hooks", json.dumps(payload).encode(), {"authorization": f"Basic {proof}"})


def test_the_run_is_of_the_commit(stored: Stored, receiver: Receiver, source: Path) -> None:
    """As the sensor sees it, so that both start one run."""
    found = tell(receiver, (TAG, git(source, "rev-parse", TAG)))
    assert [entry.commit for entry in found.entries] == [git(source, "rev-parse", "HEAD")]
    ((_, run_id),) = stored.runs()
    assert (found.made, stored.run("shop", run_id)["event"].commit) == (
        [run_id],
        git(source, "rev-parse", "HEAD"),
    )


def test_a_tag_that_moved_on_is_left_to_the_sensor(stored: Stored, receiver: Receiver, source: Path) -> None:
    """The commit that the tag pointed at can't be resolved any more, and is not guessed."""
    told = git(source, "rev-parse", TAG)
    git(source, "tag", "-f", "-m", "y", "v1")
    found = tell(receiver, (TAG, told))
    assert ([entry.why for entry in found.entries], stored.runs()) == (
        ["a tag whose commit can't be resolved now; the sensor finds it"],
        [],
    )


def test_a_source_that_does_not_answer_is_no_error(stored: Stored, receiver: Receiver, source: Path) -> None:
    """The delivery is accepted, and the sensor finds the tag when the source is back."""
    told = git(source, "rev-parse", TAG)
    source.rename(source.with_name("gone"))
    found = tell(receiver, (TAG, told))
    assert (found.status, [bool(entry.outcomes) for entry in found.entries], stored.runs()) == (
        200,
        [False],
        [],
    )
