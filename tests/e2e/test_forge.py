"""A real push to a real forge starts a run of a real chain, by webhook and only once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.tags import is_reserved
from support import forge_chain
from support.clones import Clone
from support.forge import BRANCH, USER, Forge, forge, missing
from support.forge_chain import CHAIN, HOOKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.chain_runs import Sandbox

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(missing()), reason=missing())]
BY = f"webhook {HOOKS}"
SOON = timedelta(seconds=10)
"""Timeout from the time in the forge's request, in whole seconds, to the run; measured at less than 2 s."""
TAG = "refs/tags/v1.0"


@dataclass(frozen=True, slots=True)
class Work(Clone):
    """A clone with a forge to push to."""

    forge: Forge

    def push(self, name: str) -> None:
        """Push a branch or tag."""
        self.git("push", "-q", self.forge.clone_url, name)


@pytest.fixture(scope="module")
def work(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    """A forge that sends its webhooks to the sandbox, and a clone with a first commit."""
    with forge(tmp_path_factory.mktemp("forge"), forge_chain.webhook(sandbox.api)) as running:
        forge_chain.connect(sandbox.layout, sandbox.api, running)
        found = Work(tmp_path_factory.mktemp("clone"), running)
        found.git("init", "-q", "-b", BRANCH)
        (found.folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n", "ascii")
        found.git("add", "Dockerfile")
        found.commit("One")
        forge_chain.wait(lambda: forge_chain.seen(sandbox.api) is not None, "the sensor's first look")
        yield found


def test_a_branch_that_no_rule_takes(sandbox: Sandbox, work: Work) -> None:
    """It is reported once, and starts nothing."""
    work.push(BRANCH)
    forge_chain.wait(lambda: forge_chain.told(sandbox.api), "the webhook of a branch")
    [entry] = forge_chain.told(sandbox.api)
    assert (entry["ref"], entry["by"], entry["why"]) == (f"refs/heads/{BRANCH}", BY, "no build rule matches")
    assert (entry["commit"], entry["actor"]) == (work.git("rev-parse", "HEAD"), USER)
    assert sandbox.api.runs(CHAIN) == []


def test_a_tag_is_one_run(sandbox: Sandbox, work: Work) -> None:
    """An annotated tag of a new commit is reported by its tag object, and again like a branch, but starts one run.

    The sensor polls every second and might be first, so it is held back until the webhook has started the run.
    """
    api = sandbox.api
    commit = work.commit("Two")
    work.git("tag", "-a", "-m", "Release", "v1.0")
    forge_chain.pause(api, paused=True)
    try:
        work.push("v1.0")
        forge_chain.wait(lambda: api.runs(CHAIN), "the run of a tag")
    finally:
        forge_chain.pause(api, paused=False)
    [run] = api.runs(CHAIN)
    conf = run["conf"]
    expected = {"rule": "release", "ref": TAG, "commit": commit, "sender": BY, "actor": USER}
    assert {name: conf[name] for name in expected} == expected
    assert datetime.fromisoformat(conf["seen_at"]) - datetime.fromisoformat(conf["pushed_at"]) < SOON

    forge_chain.wait(
        lambda: (forge_chain.seen(api) or {}).get(TAG) == commit, "the sensor to have seen the tag"
    )
    ended = sandbox.of_run(CHAIN, run["dag_run_id"])
    assert ended.state == "success", ended.note
    assert [one["dag_run_id"] for one in api.runs(CHAIN)] == [run["dag_run_id"]]
    [entry] = [entry for entry in forge_chain.told(api) if entry["ref"] == TAG]
    assert (entry["commit"], entry["outcomes"][0]["run_id"]) == (commit, run["dag_run_id"])
    assert [tag for tag in sandbox.tags("forge/app") if not is_reserved(tag)] == ["1.0"]
