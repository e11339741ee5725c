"""Marks of delivered images in the home registry: reading them for a plan, and leaving one at a run's end."""

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
"""Marks of one image that are read."""


def not_told_again(ti: TaskInstance, spec: ChainSpec, event: Event, plan: Plan) -> Plan:
    """The plan of an image that is to be delivered: a new push, or somebody's wish.

    Raises:
        BuiltBefore: The chain built or delivered it before, and the push was told again. Not retryable.
        RegistryError: The registry can't be asked. Its class says whether that is retryable.
        UnderWay: A run of an image that the tag is said to have been at has not ended. Retryable.
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
    """Leave the mark of an image that others pushed, which is delivered now.

    A registry that does not take it costs at most that a push which is told again after `airflow db clean` is announced
    again, under the same delivery id.
    """
    from delivery_chain.hooks.registry import OciRegistryHook
    from delivery_chain.oci.manifest import EMPTY_BLOB, OCI_EMPTY, Descriptor
    from delivery_chain.oci.referrers import attach

    about = Descriptor(subject.media_type, subject.digest, subject.size)
    try:
        with OciRegistryHook(plan.instance).client() as client:
            attach(client, plan.name, about, MARK, EMPTY_BLOB, OCI_EMPTY, says(plan, client.registry.host))
    except DeliveryChainError as refused:
        log.warning("That this image was delivered is not marked in the registry: %s", refused)
