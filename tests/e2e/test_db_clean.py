"""After `airflow db clean` and a restart, every delivery is repeated: nothing is duplicated, and no tag moves.

Each kind of database has a sandbox of its own, because the clean would remove the runs of the other tests.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest
import requests
from benchmarks.kill_loop.watching import ever

from delivery_chain.core.dags import REMOVED
from delivery_chain.core.events.ledger import EVENT
from delivery_chain.core.events.watch_dags import TOLD_PREFIX, images_dag_id
from delivery_chain.core.names.tags import is_reserved
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image, put_tag
from delivery_chain.oci.manifest import OCI_MANIFEST
from delivery_chain.sandbox import airflow_parts, database, outcome, source, stack
from delivery_chain.sandbox.airflow_parts import ADMIN
from delivery_chain.sandbox.api import AirflowApi
from delivery_chain.sandbox.connections import GIT_HOOKS, REGISTRY_HOOKS
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, load_secrets
from delivery_chain.sandbox.receiver import read_deliveries
from delivery_chain.sandbox.runs import RUN_FINISHED
from support import spec_edits
from support.chain_runs import POLL_SECONDS, RUN_SECONDS, Sandbox
from support.spec_edits import dag, wait_for
from support.webhook_samples import standard_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
BUILDS, IMAGES = "once", "once-images"
API, BASE = "shop/api", "base/busybox"
SPECS = {
    BUILDS: """\
version: 1
name: once
scope: {instance: cn-hangzhou, namespace: shop, repositories: [api]}
sources: {api: {connection: git_shop, url: shop/api.git}}
build:
  rules:
    - {name: release, tag: 'v(?<n>.+)', tags: [{tag: 'v${n}'}, {tag: latest}]}
    - {name: main, branch: main, tags: [{tag: edge}, {tag: main, commit_id: 8}]}
scan: {enabled: false}
replicate: [{name: far, to: eu-central-1}]
distribute: [{name: tell, url_connection: prod_redeploy}]
""",
    IMAGES: """\
version: 1
name: once-images
scope: {instance: cn-hangzhou, namespace: base, all: true}
scan: {enabled: false}
replicate: [{name: far, to: eu-central-1, level: namespace}]
distribute: [{name: tell, url_connection: staging_redeploy}]
""",
}
REGIONS = ("cn-hangzhou", "eu-central-1")
MOST_CLEANS = 5
IDLE = BEFORE, OLDER = "built before", "superseded"
"""Ends of runs that did nothing."""
Told = dict[tuple[str, str], set[str]]
"""Ends of the runs of repeated deliveries, by ref and commit; empty if a delivery started no run."""
SOONER = {"AIRFLOW__DELIVERY_CHAIN__IMAGE_POLL_SECONDS": "5"} | spec_edits.SOONER


@dataclass(slots=True)
class House(Sandbox):
    """A sandbox that can be restarted and cleaned."""

    options: stack.Options = field(default_factory=stack.Options)
    branch: list[source.Push] = field(default_factory=list)
    """Pushes to the main branch."""
    releases: list[source.Push] = field(default_factory=list)
    brought: list[str] = field(default_factory=list)
    """Images that were pushed by others, by digest."""

    def up(self) -> None:
        """Start the sandbox, or restart it with all its data."""
        running = stack.up(self.layout, self.options, Console(io.StringIO()))
        self.secrets = load_secrets(self.layout)
        self.registries = running.registries()
        self.api = AirflowApi(running.ui, ADMIN, self.secrets["admin"])

    def restart(self) -> None:
        stack.down(self.layout, Console(io.StringIO()))
        self.up()

    def clean(self) -> None:
        """Run `airflow db clean` up to now, for all tables, without an archive."""
        script = 'set -a; . "$0"; exec airflow db clean --clean-before-timestamp "$1" --skip-archive --yes'
        now = datetime.now(UTC).isoformat()
        outside = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        for _ in range(MOST_CLEANS):
            done = subprocess.run(
                ["sh", "-c", script, str(self.layout.airflow_env), now],
                env=outside, capture_output=True, text=True, timeout=180, check=False,
            )  # fmt: skip
            # Airflow's clean fails like this if a task starts at the same moment; a user would run it again.
            if "ForeignKeyViolation" not in done.stderr:
                break
        assert done.returncode == 0, done.stderr
        assert (self.api.runs(BUILDS), self.api.runs(IMAGES)) == ([], [])

    def told(self) -> list[dict[str, Any]]:
        """Everything that webhooks reported, oldest first, from Airflow's event log."""
        rows = self.api.call("GET", "/eventLogs", query={"event": EVENT, "limit": 100, "order_by": "when"})
        return [json.loads(row["extra"]) for row in rows["event_logs"]]

    def tell(self, told: Sequence[dict[str, Any]], *, same_ids: bool) -> Told:
        """Repeat all reports, and wait until every run that they started has ended."""
        runs: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for entry in told:
            delivery = entry["delivery_id"] if same_ids else token_hex(16)
            send = self._image if entry["by"].endswith(REGISTRY_HOOKS) else self._push
            answer = send(entry, delivery)
            assert answer.status_code == requests.codes.ok, answer.text
            (change,) = answer.json()["changes"]
            made = runs.setdefault((entry["ref"], entry["commit"]), set())
            made |= {(one["chain"], one["run_id"]) for one in change["outcomes"] if one["made"]}
            assert change["outcomes"] or change["why"], f"{entry}: neither a run nor a reason"
        self.quiet()
        return {place: {self.outcome(*run)["end"] for run in found} for place, found in runs.items()}

    def quiet(self) -> None:
        """Wait until no run of a chain is in flight."""
        deadline = time.monotonic() + RUN_SECONDS
        while open_ := [
            run["dag_run_id"]
            for chain in (BUILDS, IMAGES)
            for run in self.api.runs(chain)
            if run["state"] not in RUN_FINISHED
        ]:
            assert time.monotonic() < deadline, open_
            time.sleep(POLL_SECONDS)

    def _push(self, entry: dict[str, Any], delivery: str) -> requests.Response:
        push = {"ref": entry["ref"], "before": entry.get("before", ""), "after": entry["commit"]}
        said = {"type": "source.push", "repository": API, "pushes": [push]}
        body, stamp = json.dumps(said).encode(), str(int(time.time()))
        key = base64.b64decode(self.secrets[GIT_HOOKS].removeprefix("whsec_"))
        proof = standard_of(delivery, body, key=key, stamp=stamp)
        headers = {"webhook-id": delivery, "webhook-timestamp": stamp, "webhook-signature": proof}
        return self._post(GIT_HOOKS, body, headers)

    def _image(self, entry: dict[str, Any], delivery: str) -> requests.Response:
        name, _, tag = entry["ref"].partition(":")
        target = {"mediaType": OCI_MANIFEST, "repository": name, "tag": tag, "digest": entry["commit"]}
        now = datetime.now(UTC).isoformat()
        event = {"id": delivery, "timestamp": now, "action": "push", "target": target}
        headers = {"Authorization": f"Bearer {self.secrets[REGISTRY_HOOKS]}"}
        return self._post(REGISTRY_HOOKS, json.dumps({"events": [event]}).encode(), headers)

    def _post(self, sender: str, body: bytes, headers: dict[str, str]) -> requests.Response:
        url = f"{self.api.address}/delivery-chain/webhooks/{sender}"
        return requests.post(url, data=body, headers=headers, timeout=60)

    def forget(self) -> None:
        """Also delete the history of what webhooks reported."""
        found = self.api.call("GET", "/variables", query={"limit": 100})["variables"]
        for key in [one["key"] for one in found if one["key"].startswith(TOLD_PREFIX)]:
            self.api.call("DELETE", f"/variables/{key}")

    def release(self, tag: str) -> source.Push:
        pushed = source.push(self.layout, "api", tag=tag)
        assert self.of_push(BUILDS, pushed).state == "success"
        self.releases.append(pushed)
        return pushed

    def ever(self) -> dict[tuple[str, str], set[str]]:
        """Every digest that a release's tag ever had, at home and in the region, from the registries' storage."""
        return {
            (region, tag): set(digests)
            for region in REGIONS
            for (_, tag), digests in ever(self.layout.registry(region) / "data", [API]).items()
            if tag.startswith("v")
        }

    def bring(self, digest: str) -> None:
        """Push one of the shop's images as base/busybox:1.0, as others would."""
        with RegistryClient(self.home) as client:
            copy_image(client, API, digest, client, BASE, referrers=False)
            put_tag(client, BASE, "1.0", digest)
        assert self.of_image(IMAGES, digest).state == "success"
        self.brought.append(digest)

    def held(self) -> dict[tuple[str, str, str], str]:
        """The digest of every user's tag, by region, repository and tag."""
        return {
            (region, name, tag): digest
            for name in (API, BASE)
            for here in self.registries
            for tag in self.tags(name, here)
            if not is_reserved(tag)
            for region, digest in outcome.digests({here: self.registries[here]}, name, tag).items()
        }

    def deliveries(self) -> list[tuple[str, str]]:
        """Id and image of every delivery that the receiver got."""
        kept = read_deliveries(self.layout.deliveries)
        images = [outcome.deliveries([one], self.secrets)[0].image for one in kept]
        return [(one["headers"]["webhook-id"], image) for one, image in zip(kept, images, strict=True)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A sandbox after two releases, two pushes to main and two of an image. Its processes are stopped in any case."""
    if database.choose("auto") == "sqlite" and request.param != "sqlite":
        pytest.skip("there is no PostgreSQL here")
    specs = tmp_path_factory.mktemp("specs")
    for name, text in SPECS.items():
        (specs / f"{name}.yaml").write_text(text, "ascii")
    settings = airflow_parts.settings
    patch = pytest.MonkeyPatch()
    patch.setattr(airflow_parts, "settings", lambda *given: settings(*given) | SOONER)
    layout = Layout(tmp_path_factory.mktemp("once"))
    options = stack.Options(database=request.param, specs=str(specs), dags=str(ROOT / "dags"))
    made = House(layout, None, {}, {}, options=options)  # type: ignore[arg-type]
    try:
        made.up()
        for number in (1, 2):
            made.branch.append(source.push(layout, "api"))
            release = made.release(f"v{number}")
            assert made.of_push(BUILDS, made.branch[-1]).state == "success"
            made.bring(made.of_push(BUILDS, release).xcom("publish")["digest"])
        yield made
    finally:
        patch.undo()
        stack.down(layout, Console(io.StringIO()), purge=True)


def expected(house: House) -> dict[tuple[str, str], str]:
    """The expected end of each repeated push's run, by ref and commit."""
    older, newer = ((push.ref, push.commit) for push in house.branch)
    replaced, brought = ((f"{BASE}:1.0", digest) for digest in house.brought)
    released = {(push.ref, push.commit): BEFORE for push in house.releases}
    return released | {older: OLDER, newer: BEFORE, replaced: OLDER, brought: BEFORE}


def test_nothing_is_doubled(house: House) -> None:
    """Repeat reports with the same ids, then with new ones after deleting the history; new pushes still get runs."""
    told, held, sent = house.told(), house.held(), house.deliveries()
    assert len(sent) == 10
    ends = expected(house)
    assert {(one["ref"], one["commit"]) for one in told} >= ends.keys()

    house.clean()
    house.restart()
    first = house.tell(told, same_ids=True)
    house.forget()
    second = house.tell(told, same_ids=False)
    assert {place: first[place] for place in ends} == {place: {end} for place, end in ends.items()}
    # Released tags already have their runs; the others are tags that the chain itself set.
    assert set().union(*(found for told in (first, second) for found in told.values())) <= set(IDLE)
    assert {place for place in ends if not second[place] <= {ends[place]}} == set()
    last = house.release("v3")

    assert [image for _, image in house.deliveries()[len(sent) :]] == [f"{API}:v3", f"{API}:latest"]
    moved = {place: digest for place, digest in house.held().items() if held.get(place) != digest}
    new = house.of_push(BUILDS, last).xcom("publish")["digest"]
    assert moved == {(region, API, tag): new for region in REGIONS for tag in ("v3", "latest")}


def test_what_is_older_goes_beside_what_is_newer(house: House) -> None:
    """A commit that main has left, and an older release, rebuilt by hand, get only their own tags."""
    first, before = house.branch[0].commit, house.held()
    house.api.trigger(BUILDS, "older", {"ref": "main", "commit": first})
    house.api.trigger(BUILDS, "again", {"ref": "v1"})
    older, again = (house.of_run(BUILDS, run_id) for run_id in ("older", "again"))
    assert (older.state, again.state) == ("success", "success")
    assert f"rebuild of refs/heads/main at its older commit {first[:12]}" in older.note
    moved = {place for place, digest in house.held().items() if digest != before.get(place)}
    assert moved == {(region, API, tag) for region in REGIONS for tag in (f"main-{first[:8]}", "v1")}


@pytest.mark.parametrize("house", [database.choose("auto")], indirect=True)
def test_what_no_chain_needs_any_more_ends(house: House) -> None:
    """After a rename, the old Dag and the last run of its watch end. Clearing a run brings the Dag back for a while."""
    watch = images_dag_id(REGIONS[0], "base")
    (Path(house.options.specs) / f"{IMAGES}.yaml").write_text(
        SPECS[IMAGES].replace(IMAGES, "new").replace("base", "new")
    )
    wait_for(lambda: not dag(house.api, IMAGES), "the removed chain's Dag to go")
    wait_for(
        lambda: all(run["state"] in RUN_FINISHED for run in house.api.runs(watch)),
        "the last run of its watch to end",
    )
    assert house.api.runs(watch)[0]["state"] == "success"
    run_id = house.api.runs(IMAGES)[0]["dag_run_id"]
    said = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["report"], "only_failed": False}
    house.api.call("POST", f"/dags/{IMAGES}/clearTaskInstances", body=said)
    house.api.trigger(REMOVED, "look")
    wait_for(lambda: house.api.runs(IMAGES)[0]["state"] in RUN_FINISHED, "the cleared run to end")
    house.api.trigger(REMOVED, "look-again")
    wait_for(lambda: not dag(house.api, IMAGES), "the removed chain's Dag to go again")
