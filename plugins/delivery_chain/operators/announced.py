"""Reads and writes delivery marks: referrers in the home registry that record the delivery of an image."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.announced import (
    MARK,
    Mark,
    built_here,
    is_again,
    ours,
    same_image,
    says,
    times_before,
    told_again,
)
from delivery_chain.core.events.built import is_own
from delivery_chain.core.events.event import Kind
from delivery_chain.errors import BuiltBefore, DeliveryChainError, NotFound
from delivery_chain.operators.built_before import await_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Subject
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.operators.task_instance import TaskInstance

MOST_MARKS = 50
"""Maximum number of marks read per image."""


def not_told_again(ti: TaskInstance, spec: ChainSpec, event: Event, plan: Plan) -> Plan:
    """Return the plan of an image to deliver, unless its event is the redelivery of an earlier push.

    Raises:
        BuiltBefore: The chain has built or delivered the image before, and the push is a redelivery. Not retryable.
        RegistryError: The registry can't be queried. The error's class says whether a retry helps.
        UnderWay: A run for another image that the tag reportedly pointed at is still active. Retryable.
    """
    if event.kind is not Kind.IMAGE_PUSH:
        return plan
    from delivery_chain.hooks.registry import OciRegistryHook

    with OciRegistryHook(plan.instance).client() as client:
        if is_own(plan, client.get_manifest(plan.name, plan.digest).annotations):
            raise BuiltBefore(built_here(plan))
        marks = _marks(client, plan, plan.digest)
        if marks:
            marks += [mark for digest in event.elsewhere for mark in _marks(client, plan, digest)]
    mark = same_image(plan, event.left, marks)
    if mark and is_again(plan, event, mark):
        await_elsewhere(ti, spec, event)
        raise BuiltBefore(told_again(plan, mark))
    return plan.model_copy(update={"again": times_before(plan, marks)})


def _marks(client: RegistryClient, plan: Plan, digest: str) -> list[Mark]:
    return list(ours(plan, client.registry.host, _read(client, plan.name, digest)))


def _read(client: RegistryClient, name: str, digest: str) -> Iterator[Mark]:
    from delivery_chain.oci.referrers import list_referrers

    now = datetime.now(UTC)
    for one in list_referrers(client, name, digest, artifact_type=MARK)[:MOST_MARKS]:
        try:
            annotations = client.get_manifest(name, one.digest).annotations
        except NotFound:
            continue
        if mark := Mark.read(digest, annotations, now):
            yield mark


def leave_mark(plan: Plan, subject: Subject, log: Any) -> None:
    """Attach the delivery mark to an image that was not built by a chain.

    If the registry rejects the mark, the worst case is that a redelivery after `airflow db clean` is announced again,
    under the same delivery id.
    """
    from delivery_chain.hooks.registry import OciRegistryHook
    from delivery_chain.oci.manifest import EMPTY_BLOB, OCI_EMPTY, Descriptor
    from delivery_chain.oci.referrers import attach

    about = Descriptor(subject.media_type, subject.digest, subject.size)
    try:
        with OciRegistryHook(plan.instance).client() as client:
            attach(client, plan.name, about, MARK, EMPTY_BLOB, OCI_EMPTY, says(plan, client.registry.host))
    except DeliveryChainError as refused:
        log.warning("The registry did not accept the mark that this image was delivered: %s", refused)
