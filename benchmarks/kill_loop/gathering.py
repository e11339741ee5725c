"""Gathers the outcomes of the pushes from where they count: Airflow, the registries, the receiver and this machine."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kill_loop import watching
from benchmarks.kill_loop.chains import HOME, REPOSITORIES
from benchmarks.kill_loop.facts import Delivery, Facts, Run
from benchmarks.kill_loop.parts import parent_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.kill_loop.facts import Push
    from benchmarks.kill_loop.parts import Parts

    from delivery_chain.sandbox.api import AirflowApi
    from delivery_chain.sandbox.layout import Layout

STAYS = frozenset({"limits"})
"""Permanent contents of the work folder."""
STAGING = "_staging-"
SKIPPED_FOLDERS = frozenset({"proc", "sys"})


def gather(
    parts: Parts,
    api: AirflowApi,
    pushes: tuple[Push, ...],
    watcher: watching.Watcher,
    hosts: Mapping[str, str],
) -> Facts:
    """Gather all facts for `judge`."""
    chains = tuple(repository.chain for repository in REPOSITORIES)
    layout = parts.layout
    runs = tuple(run for chain in chains for run in read_runs(api, chain.name))
    names = [name for chain in chains for name in (chain.image, chain.quarantine)]
    held: dict[tuple[str, str, str], str] = {}
    ever: dict[tuple[str, str, str], frozenset[str]] = {}
    images = dict(watcher.images)
    for region, host in hosts.items():
        with watching.Registry(host) as registry:
            for name in names:
                for tag in registry.tags(name):
                    digest = held[region, name, tag] = registry.digest(name, tag)
                    if (
                        watching.is_users(tag)
                        and digest not in images
                        and (image := registry.image(name, digest))
                    ):
                        images[digest] = image
        images_of = watching.ever(layout.registry(region) / "data", [chain.image for chain in chains])
        ever |= {(region, *place): digests for place, digests in images_of.items()}
    bad = {push.commit for push in pushes if push.vulnerable}
    of_chain = {chain.name: chain.image for chain in chains}
    with watching.Registry(hosts[HOME]) as home:
        pullable = frozenset(
            run.digest
            for run in runs
            if run.commit in bad and run.digest and home.digest(of_chain[run.chain], run.digest)
        )
    return Facts(
        chains=chains,
        home=HOME,
        regions=tuple(hosts),
        pushes=pushes,
        runs=runs,
        sights=tuple(watcher.sights),
        held=held,
        ever=ever,
        images=images,
        deliveries=tuple(deliveries(layout)),
        pullable=pullable,
        left=(*_staged(held), *_files(layout), *_processes(parts), *_mounts(layout)),
    )


def read_runs(api: AirflowApi, chain: str) -> Iterator[Run]:
    """Yield all runs of a chain, with the results of their steps."""
    for run in api.runs(chain):
        run_id, conf = run["dag_run_id"], run["conf"] or {}
        states: dict[str, list[str]] = defaultdict(list)
        for one in api.task_instances(chain, run_id):
            states[one["task_id"]].append(one["state"] or "")
        subject, published, kept, record = (
            api.xcom(chain, run_id, task) or {} for task in ("assemble", "publish", "quarantine", "report")
        )
        digest = subject.get("digest", "")
        yield Run(
            chain=chain,
            run_id=run_id,
            ref=conf.get("ref", ""),
            commit=conf.get("commit", ""),
            pushed_at=conf.get("pushed_at") or run["run_after"],
            state=run["state"],
            note=run["note"] or "",
            end=record.get("end", ""),
            failed=tuple(sorted(task for task, found in states.items() if "failed" in found)),
            digest=digest,
            held=tuple(
                move["tag"] for move in published.get("tags", ()) if digest and move["digest"] == digest
            ),
            backup=kept.get("backup", "").rpartition(":")[2],
            sentence=record.get("sentence", ""),
            recorded=record.get("digest", ""),
            regions=record.get("regions", {}),
            triggers=record.get("triggers", {}),
        )


def deliveries(layout: Layout) -> Iterator[Delivery]:
    """Yield all deliveries that the receiver stored, ignoring a line that a kill cut short."""
    with suppress(FileNotFoundError), layout.deliveries.open(encoding="utf-8") as lines:
        for line in lines:
            with suppress(ValueError, KeyError):
                yield _delivery(json.loads(line))


def _delivery(kept: dict[str, Any]) -> Delivery:
    body = json.loads(kept["body"])
    return Delivery(
        id=kept["headers"]["webhook-id"],
        hook=kept["path"].partition("?")[0].rpartition("/")[2],
        chain=body["delivery_chain"]["chain"],
        run_id=body["delivery_chain"]["run_id"],
        tag=body["push_data"]["tag"],
        digest=body["push_data"]["digest"],
    )


def _staged(held: Mapping[tuple[str, str, str], str]) -> Iterator[str]:
    for region, name, tag in held:
        if tag.startswith(STAGING):
            yield f"staging tag {name}:{tag} in {region}"


def _files(layout: Layout) -> Iterator[str]:
    """Yield files that jobs left in the work folder, in `<user>/jobs/…` and `<user>/limits/…`, and temporary files."""
    for user in _entries(layout.root / "work"):
        for entry in _entries(user):
            left = _entries(entry) if entry.name == "jobs" else [entry] if entry.name not in STAYS else []
            yield from (f"work folder: {one.relative_to(layout.root)}" for one in left)
    yield from (f"temporary folder: {one.name}" for one in _entries(layout.root / "tmp"))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _processes(parts: Parts) -> Iterator[str]:
    """Yield processes that use this sandbox's folder, but are not part of the sandbox."""
    from delivery_chain.sandbox import processes  # noqa: PLC0415

    expected = _forebears()
    for name in parts.names:
        expected |= {mark.pid for mark in processes.family(parts.mark(name))}
    for pid, line in strangers(parts.layout.root):
        if pid not in expected:
            yield f"process {pid}: {line[:200]}"


def _forebears() -> set[int]:
    """Return this process and its ancestors, which may have the folder in their arguments."""
    found, pid = set[int](), os.getpid()
    while pid:
        found.add(pid)
        pid = parent_of(pid)
    return found


def strangers(root: Path) -> Iterator[tuple[int, str]]:
    """Yield pid and command line of processes with this folder in their arguments, environment or working directory."""
    needle = str(root).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            known = needle in line or needle in (entry / "environ").read_bytes()
            if known or needle in os.fsencode((entry / "cwd").readlink()):
                yield int(entry.name), line.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _mounts(layout: Layout) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        place = line.split()[4]
        if place.startswith(f"{layout.root}/"):
            yield f"mount {place}"
