"""Find out whether a push was built before, from its images in the home registry and its runs in flight."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.built import Origin
from delivery_chain.core.events.event import Kind
from delivery_chain.core.events.routing import Start
from delivery_chain.core.plan import tags_of, timed_tags
from delivery_chain.core.times import not_after, read_time
from delivery_chain.errors import NotFound, UnderWay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.plan import Plan, SourceSelection
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.operators.task_instance import TaskInstance

MOST_TIMED = 5
"""Number of newest tags inspected, for a rule that puts a time into its tags. Pushes of a commit whose image has an
older tag count as distinct."""
MOST_STAYS = 32
"""Maximum number of visits of a ref to one commit whose runs are queried."""
ACTIVE = ["queued", "running"]


def images_of(
    spec: ChainSpec, selection: SourceSelection, event: Event, plan: Plan, *, elsewhere: bool = False
) -> list[Origin]:
    """Return the origins of the images under the tags that the rule gives to the commit and to the previous commit.

    With `elsewhere`, include the tags of the other commits that the ref reportedly pointed at.

    Raises:
        RegistryError: The registry can't be queried. The error's class says whether a retry helps.
    """
    from delivery_chain.hooks.registry import OciRegistryHook

    with OciRegistryHook(plan.instance).client() as client:
        commits = [plan.build.commit if plan.build else "", event.previous, *(event.elsewhere * elsewhere)]
        tags = _tags(client, spec, selection, plan, [commit for commit in commits if commit])
        return list(_origins(client, plan.name, tags))


def _tags(
    client: RegistryClient, spec: ChainSpec, selection: SourceSelection, plan: Plan, commits: list[str]
) -> dict[str, None]:
    tags = [*plan.tags]
    for commit in commits:
        tags += tags_of(spec, selection, commit=commit, pushed_at=plan.pushed_at)
    patterns = [pattern for commit in commits for pattern in timed_tags(selection, commit=commit)]
    if patterns:
        listed = _listed(client, plan.name)
        for pattern in dict.fromkeys(patterns):
            tags += sorted(filter(pattern.fullmatch, listed), reverse=True)[:MOST_TIMED]
    return dict.fromkeys(tags)


def _listed(client: RegistryClient, name: str) -> tuple[str, ...]:
    try:
        return client.list_tags(name)
    except NotFound:
        return ()


def _origins(client: RegistryClient, name: str, tags: Iterable[str]) -> Iterator[Origin]:
    now, seen = datetime.now(UTC), set()
    for tag in tags:
        found = client.head_manifest(name, tag)
        if found is None or found.digest in seen:
            continue
        seen.add(found.digest)
        try:
            annotations = client.get_manifest(name, found.digest).annotations
        except NotFound:
            continue
        if origin := Origin.read(found.digest, annotations, now):
            yield origin


def await_earlier(ti: TaskInstance, spec: ChainSpec, event: Event) -> None:
    """Wait for earlier runs of the same push: whether they built it is known only once they have ended.

    Such runs exist only if an event might have been a redelivery, see `delivery_chain.core.events.dedupe`.

    Raises:
        UnderWay: A run is in flight. Retryable.
    """
    if event.kind is not Kind.SOURCE_PUSH:
        return
    start = Start(spec.name, spec.scope.namespace, event)
    ids = _run_ids(start)
    _await_removed(ti, spec, event, ids)
    earlier = ids[: ids.index(ti.run_id)] if ti.run_id in ids else []
    if not earlier or not ti.get_dr_count(dag_id=spec.name, run_ids=earlier, states=ACTIVE):
        return
    for run_id in earlier:
        active = ti.get_dr_count(dag_id=spec.name, run_ids=[run_id], states=ACTIVE)
        if active and _is_of(spec.name, run_id, start):
            raise UnderWay(
                f"run {run_id} of {event.ref} at {event.commit[:12]} is in flight and may be of this very push: this "
                "run resumes when that one has ended"
            )


def _await_removed(ti: TaskInstance, spec: ChainSpec, event: Event, ids: list[str]) -> None:
    """Wait for runs of the push in removed chains: a renamed chain ends its runs under its old name."""
    from delivery_chain.spec_store.in_force import removed_chains

    for name in removed_chains():
        if name != spec.name and ti.get_dr_count(dag_id=name, run_ids=ids, states=ACTIVE):
            raise UnderWay(
                f"a run of {event.ref} at {event.commit[:12]} is in flight in chain {name!r}, which was removed or "
                "renamed since: this run resumes when that one has ended"
            )


def await_elsewhere(ti: TaskInstance, spec: ChainSpec, event: Event) -> None:
    """Wait for runs of the commits that the ref pointed at before: what they publish would replace this run's image.

    Raises:
        UnderWay: A run is in flight. Retryable.
    """
    key, what = ("commit", event.ref) if event.ref else ("digest", f"tag {event.tag}")
    for place in dict.fromkeys(filter(None, (event.previous, *event.elsewhere))):
        before = event.model_copy(update={key: place})
        ids = _run_ids(Start(spec.name, spec.scope.namespace, before))
        if ti.get_dr_count(dag_id=spec.name, run_ids=ids, states=ACTIVE):
            raise UnderWay(
                f"a run of {what} at {place[:19]}, where it pointed before, is in flight: this run resumes when that "
                "one has ended"
            )


def _run_ids(start: Start) -> list[str]:
    return [start.run_id(visit) for visit in range(1, MOST_STAYS + 1)]


def _is_of(dag_id: str, run_id: str, start: Start) -> bool:
    """Whether a run is of this push, and was created after its ref was last known to point elsewhere."""
    from airflow.sdk.execution_time.comms import GetDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    run: Any = SUPERVISOR_COMMS.send(GetDagRun(dag_id=dag_id, run_id=run_id))
    if not start.made(run.run_type, run.triggering_user_name, run.conf):
        return False
    left = start.event.left
    return left is None or not_after(read_time(run.conf.get("seen_at")), run.run_after) > left
