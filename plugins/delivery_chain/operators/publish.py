"""Publish an image in the home registry by moving the user's tags; read the verdict of a blocked image."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.built import may_move
from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.results import Published, TagMove
from delivery_chain.core.steps import Step
from delivery_chain.core.xcom_keys import REGISTRY_URL
from delivery_chain.errors import ConfigurationError
from delivery_chain.operators.base import ChainOperator, leave, pull, skip
from delivery_chain.operators.links import RegistryLink
from delivery_chain.operators.missing_image import check_there
from delivery_chain.operators.verdict import passed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from delivery_chain.core.plan import Plan
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.operators.task_instance import TaskInstance


class PublishOperator(ChainOperator):
    """Move the user's tags to the digest that the gate passed. A tag never moves back to an older push."""

    operator_extra_links = (RegistryLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a Published as JSON.

        Raises:
            Unjudged: No gate of this run passed this digest. Not retryable.
            NotFound: The image is no longer in the registry. Not retryable.
        """
        plan, _, subject, _ = passed(context["ti"])
        from delivery_chain.hooks.registry import OciRegistryHook

        first = plan.tags[0] if plan.tags else ""
        url = OciRegistryHook(plan.instance).ui_url(plan.namespace, plan.repository, first, subject.digest)
        context["ti"].xcom_push(REGISTRY_URL, url)
        if plan.build is None and subject.digest == plan.digest:
            self.log.info("The image was pushed by others, together with its tags: none to move")
            moves = tuple(TagMove(tag=t, state="unchanged", digest=subject.digest) for t in plan.tags)
            return leave(context, Published(digest=subject.digest, tags=moves))
        with OciRegistryHook(plan.instance).client() as client:
            check_there(client, plan, subject.digest)
            moves = tuple(move_tag(client, plan, tag, subject.digest) for tag in plan.tags)
        for move in moves:
            self.log.info("%s:%s %s, %s", plan.name, move.tag, move.state, short_digest(move.digest))
        return leave(context, Published(digest=subject.digest, tags=moves))


def move_tag(client: RegistryClient, plan: Plan, tag: str, digest: str) -> TagMove:
    """Point one tag of the home registry at `digest`, unless the tag belongs to a newer push."""
    from delivery_chain.oci.copy.api import put_tag

    found = client.head_manifest(plan.name, tag)
    if found is not None and found.digest == digest:
        return TagMove(tag=tag, state="unchanged", digest=digest, previous=digest)
    if plan.build is None and (found is None or found.digest != plan.digest):
        # The image was pushed by others, and its tag has been moved or deleted since: do not undo that.
        there = found.digest if found else ""
        return TagMove(tag=tag, state="kept", digest=there, previous=there)
    if plan.build and found is not None and not _may_move(client, plan, found.digest):
        return TagMove(tag=tag, state="kept", digest=found.digest, previous=found.digest)
    put_tag(client, plan.name, tag, digest)
    return TagMove(tag=tag, state="moved", digest=digest, previous=found.digest if found else "")


def _may_move(client: RegistryClient, plan: Plan, digest: str) -> bool:
    return may_move(plan, client.get_manifest(plan.name, digest).annotations, datetime.now(UTC))


def blocked_verdict(ti: TaskInstance) -> Verdict:
    """Return the verdict of a run whose gate refused the image.

    Raises:
        AirflowSkipException: The gate passed the image, so nothing is blocked.
        ConfigurationError: The run has no verdict. Not retryable.
    """
    verdict = pull(ti, Step.GATE, Verdict)
    if verdict is None:
        raise ConfigurationError("this run has no verdict: clear the task `gate`, so that it runs again")
    if verdict.passed:
        raise skip("the gate of this run passed the image")
    return verdict
