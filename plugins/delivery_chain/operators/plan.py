"""First step of a run: turn one event into one plan, or refuse it with a reason."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.built import came_back, is_again, same_push, told_again
from delivery_chain.core.events.event import Event, actor_of
from delivery_chain.core.placeholder import deleted_tag_digest
from delivery_chain.core.plan import (
    ImageSelection,
    Plan,
    Planned,
    Selection,
    SourceSelection,
    check_still,
    make_plan,
    select,
    tags_of,
)
from delivery_chain.core.spec.connections import needed_first, needed_later
from delivery_chain.core.spec.in_force import fingerprint
from delivery_chain.core.spec.scan import Artifacts
from delivery_chain.core.times import not_after
from delivery_chain.errors import BuiltBefore, EventRefused, ProtocolViolation, Superseded
from delivery_chain.operators import preflight
from delivery_chain.operators.announced import not_told_again
from delivery_chain.operators.base import ChainOperator, leave, skip
from delivery_chain.operators.built_before import await_earlier, await_elsewhere, images_of
from delivery_chain.operators.on_worker import WorkerOperator
from delivery_chain.spec_store.in_force import version_for

if TYPE_CHECKING:
    from airflow.sdk import Context

    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.operators.task_instance import TaskInstance

LOOK_SECONDS = 120.0
"""Time limit in seconds for git to list a source's refs."""
_AFTER = timedelta(microseconds=1)


class PlanOperator(WorkerOperator):
    """Read the event from the run's `conf`, query the source once, and decide everything."""

    def __init__(self, *, spec: ChainSpec, **kwargs: Any) -> None:
        # Airflow stores the spec with the Dag, where webhooks find it, and people see what the chain was made from.
        super().__init__(doc_json=spec.model_dump_json(by_alias=True, exclude_defaults=True), **kwargs)
        self.spec = spec

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a Planned as JSON.

        Raises:
            EventRefused, UsageError: The event starts no run. Not retryable.
            ConfigurationError: A connection that the run needs is missing or wrong. Not retryable.
        """
        run = context["dag_run"]
        self.spec, number = version_for(self.spec, run.run_after)
        event = Event.from_conf(run.conf or {})
        actor = actor_of(event, getattr(run, "triggering_user_name", "") or "")
        event = event.model_copy(update={"actor": actor})
        selection = select(self.spec, event)
        preflight.check(needed_first(self.spec, selection))
        # Whoever starts a run by hand may set its due time, even to the future.
        now = not_after(run.run_after, datetime.now(UTC))
        with self.stoppable():
            present = _present(self.spec, selection)
        try:
            plan = make_plan(self.spec, selection, event, run_id=run.run_id, now=now, present=present)
            if isinstance(selection, SourceSelection):
                plan = _once(context, self.spec, selection, event, plan)
        except Superseded as newer:
            raise skip(str(newer)) from newer
        _describe(self, plan)
        if not plan.build:
            plan = self._not_told_again(context["ti"], event, plan)
            self._check_image(plan)
        preflight.check(needed_later(self.spec, plan))
        return leave(
            context, Planned(plan=plan, spec=self.spec, number=number, fingerprint=fingerprint(self.spec))
        )

    def _not_told_again(self, ti: TaskInstance, event: Event, plan: Plan) -> Plan:
        try:
            return not_told_again(ti, self.spec, event, plan)
        except BuiltBefore as before:
            raise skip(str(before)) from before

    def _check_image(self, plan: Plan) -> None:
        """Apply the chain's rule for artifacts, if the event is about one.

        Raises:
            AirflowSkipException: The push is an artifact, and the chain skips those.
            EventRefused: The push is an artifact, and the chain refuses those. Not retryable.
        """
        what = _artifact(plan)
        if not what:
            return
        reason = f"{plan.title} is not an image but {what}"
        if self.spec.scan.artifacts is Artifacts.COPY:
            self.log.info("%s: copied without a scan", reason)
            return
        refused = self.spec.scan.artifacts is Artifacts.REFUSE
        reason += (
            ", which the chain refuses (scan.artifacts: refuse)"
            if refused
            else ", which the chain skips (scan.artifacts: skip)"
        )
        raise EventRefused(reason) if refused else skip(reason)


def _once(context: Context, spec: ChainSpec, selection: SourceSelection, event: Event, plan: Plan) -> Plan:
    """Return the plan of a push that was not built before. If the push was seen earlier, the plan has that time.

    Raises:
        AirflowSkipException: The push was built before: the event is a redelivery.
        Superseded: The ref moved while the registry was queried.
        UnderWay: An earlier run, possibly of the same push, has not ended. Retryable.
    """
    await_earlier(context["ti"], spec, event)
    images = images_of(spec, selection, event, plan)
    image = same_push(plan, event.left, images)
    if image and event.elsewhere:
        images = images_of(spec, selection, event, plan, elsewhere=True)
        image = same_push(plan, event.left, images)
    if image and is_again(plan, event, image):
        await_elsewhere(context["ti"], spec, event)
        reason = told_again(plan, image)
        raise skip(reason) from BuiltBefore(reason)
    if image:
        times = {"pushed_at": min(plan.pushed_at, image.pushed_at)}
    elif back := came_back(plan, images):
        check_still(spec, selection, event, _present(spec, selection))
        times = {"pushed_at": max(plan.pushed_at, back), "seen_at": max(plan.seen_at or back, back + _AFTER)}
    else:
        return plan
    commit = plan.build.commit if plan.build else ""
    tags = tags_of(spec, selection, commit=commit, pushed_at=times["pushed_at"])
    return plan.model_copy(update={**times, "tags": tags})


def _artifact(plan: Plan) -> str:
    """Describe a push proven not to be an image, such as `artifact application/vnd.cncf.helm…`; empty for an image."""
    from delivery_chain.hooks.registry import OciRegistryHook
    from delivery_chain.oci.inventory import inventory

    with OciRegistryHook(plan.instance).client() as client:
        try:
            images, others = inventory(client, plan.name, plan.digest)
        except ProtocolViolation:
            # The push is neither an image nor proven not to be one: `assemble` refuses it, with its name in the error.
            return ""
    return "" if images else " and ".join(dict.fromkeys(other.what for other in others))


def _present(spec: ChainSpec, selection: Selection) -> str:
    """Return the commit or digest that the source has now; empty if the ref or tag does not exist."""
    if isinstance(selection, SourceSelection):
        return _commit(selection)
    return _digest(spec, selection)


def _commit(selection: SourceSelection) -> str:
    from delivery_chain.hooks.git import GitSourceHook
    from delivery_chain.settings import Settings
    from delivery_chain.tools.git.refs import list_refs

    hook = GitSourceHook(selection.source.connection, Settings.load().git_transports)
    source = hook.source(selection.source.url)
    return list_refs(source, deadline=time.monotonic() + LOOK_SECONDS).get(selection.ref, "")


def _digest(spec: ChainSpec, selection: ImageSelection) -> str:
    from delivery_chain.hooks.registry import OciRegistryHook
    from delivery_chain.oci.deletion import is_stand_in

    name = f"{spec.scope.namespace}/{selection.repository}"
    with OciRegistryHook(spec.scope.instance).client() as client:
        ref = selection.tag or selection.digest
        if selection.digest == deleted_tag_digest(ref) or is_stand_in(client, name, selection.digest or ref):
            raise skip(f"{name}:{ref}: the placeholder with which a chain deletes a tag, not a pushed image")
        found = client.head_manifest(name, ref)
    return found.digest if found else ""


def _describe(task: ChainOperator, plan: Plan) -> None:
    tags = ", ".join(plan.tags) or "no tag"
    if plan.build:
        platforms = ", ".join(plan.build.platforms)
        task.log.info(
            "Build rule %s: %s at %s becomes %s with %s, for %s",
            plan.build.rule,
            plan.build.ref,
            plan.build.commit,
            plan.name,
            tags,
            platforms,
        )
    else:
        task.log.info("Image %s with %s, digest %s: nothing to build", plan.name, tags, plan.digest)
