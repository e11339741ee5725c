"""Quarantine a blocked image: back it up, then remove it, then fail the run with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.tags import quarantine_name, quarantine_tag
from delivery_chain.core.results import Quarantined, Subject
from delivery_chain.core.run.blocked import fate
from delivery_chain.core.steps import Step
from delivery_chain.core.xcom_keys import RETURNED
from delivery_chain.errors import (
    DeletesDisabled,
    PolicyViolation,
    RegistryError,
    Unauthorized,
)
from delivery_chain.operators.base import ChainOperator, leave, planned, pull, subject_of
from delivery_chain.operators.links import RegistryLink, ScanReportLink
from delivery_chain.operators.missing_image import check_there
from delivery_chain.operators.publish import blocked_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from delivery_chain.core.gate.judge import Verdict
    from delivery_chain.core.plan import Plan
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.tag_holders import Holder


class QuarantineOperator(ChainOperator):
    """Back up a blocked image and remove it, as configured by `on_block`. If the backup fails, nothing is removed."""

    operator_extra_links = (RegistryLink(), ScanReportLink())

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a Quarantined as JSON.

        Raises:
            RegistryError: The backup or the removal failed. If the registry refuses to delete the image
                (DeletesDisabled, Unauthorized, TagConflict; not retryable), the XCom says what remains.
            NotFound: A backup is required, but the image no longer exists. Not retryable.
        """
        ti = context["ti"]
        verdict = blocked_verdict(ti)
        plan, spec = planned(ti)
        subject = subject_of(ti)
        from delivery_chain.hooks.registry import OciRegistryHook

        policy = spec.scan.block.on_block if spec.scan.block else None
        with OciRegistryHook(plan.instance).client() as client:
            backup = _back_up(client, plan, subject, verdict) if policy and policy.backup else ""
            here = _Here(client, plan, subject)
            try:
                deleted = here.remove() if policy and policy.delete else ()
            except RegistryError as refused:
                if refused.retryable:
                    raise
                left = Quarantined(digest=subject.digest, backup=backup, kept=here.kept())
                ti.xcom_push(RETURNED, leave(context, left))
                self.log.warning("Not removed: %s. %s", refused, fate(plan, left))
                raise
            found = Quarantined(digest=subject.digest, backup=backup, deleted=deleted, kept=here.kept())
        self.log.info("%s", fate(plan, found))
        return leave(context, found)


def _back_up(client: RegistryClient, plan: Plan, subject: Subject, verdict: Verdict) -> str:
    from delivery_chain.oci.copy.api import copy_image, put_tag

    name = quarantine_name(plan.namespace, plan.repository)
    tag = quarantine_tag(plan.tags[0] if plan.tags else plan.key, verdict.judged_at)
    held = client.head_manifest(name, tag)
    if held is None or held.digest != subject.digest:
        # An earlier try may have removed the image; its backup then exists, under the tag of another verdict.
        if client.head_digest(plan.name, subject.digest) or not client.head_digest(name, subject.digest):
            check_there(client, plan, subject.digest)
            # `thorough`, because the backup must be complete before the image is deleted.
            copy_image(client, plan.name, subject.digest, client, name, thorough=True)
        put_tag(client, name, tag, subject.digest)
    return f"{client.registry.host}/{name}:{tag}"


class _Here:
    """The blocked image in its own repository."""

    def __init__(self, client: RegistryClient, plan: Plan, subject: Subject) -> None:
        self.client = client
        self.plan = plan
        self.own = staging_tags(plan) or plan.tags
        self.digest = subject.digest
        # If platforms were dropped, the original index is blocked along with the reduced one.
        self.wholes = tuple(dict.fromkeys(one for one in (subject.digest, plan.digest) if one))
        self.parts = tuple(dict.fromkeys((*self.wholes, *(image.digest for image in subject.images))))

    def remove(self) -> tuple[str, ...]:
        """Remove the run's tags, and each manifest that no other tag serves; return what was removed, tags first.

        If the image was pushed by others, its platforms stay, because clients may pull them by digest.
        """
        from delivery_chain.oci.referrers import fallback_tag
        from delivery_chain.oci.tag_holders import holders

        name, wanted = self.plan.name, self.parts if self.plan.build else self.wholes
        held = holders(self.client, name, wanted)
        free = [part for part in wanted if not held.limit and not held.others(part, self.own)]
        for part in free:
            self._delete(part)
        tags = tuple(tag for tag in self.own if self._delete_tag(tag, wanted))
        removed = tuple(part for part in free if self._delete(part))
        for part in removed:
            self.client.delete_tag(name, fallback_tag(part))
        return (*tags, *removed)

    def _delete(self, digest: str) -> bool:
        """Delete by digest, which spares a tag that has moved in the meantime; return whether it was deleted."""
        try:
            self.client.delete_manifest(self.plan.name, digest)
        except (DeletesDisabled, Unauthorized):
            raise
        except RegistryError as error:
            # Some registries require a manifest's tags to be deleted first; others never delete an index's children.
            if error.retryable:
                raise
            return False
        return True

    def _delete_tag(self, tag: str, wanted: Iterable[str]) -> bool:
        """Delete a tag of the run, unless it has since moved to another image."""
        return any(self.client.delete_tag(self.plan.name, tag, part) for part in wanted)

    def kept(self) -> str:
        """Name every tag and index that still serves the image or one of its platforms; empty if none does."""
        from delivery_chain.oci.tag_holders import holders

        name = self.plan.name
        there = [part for part in self.parts if self.client.head_digest(name, part)]
        held = holders(self.client, name, there)
        # The platforms of a build have staging tags, too; naming the tag of the whole image is enough.
        hidden = self.own[:-1] if self.plan.build else ()
        whole = held.others(self.digest, hidden)
        said = [self._named(self.digest, one) for one in whole]
        for part in there:
            said += [self._named(part, one) for one in held.others(part, hidden) if one not in whole]
        if self.digest in there and not whole:
            said.append(self._named(self.digest))
        if held.limit and there:
            said.append(f"perhaps more, as not all of {name} was searched: {held.limit}")
        return ", ".join(dict.fromkeys(said))

    def _named(self, part: str, holder: Holder | None = None) -> str:
        """Format a holder as `host/shop/api:v2@sha256:…`, with a note on how it serves the image."""
        where = f"{self.client.registry.host}/{self.plan.name}{f':{holder.tag}' if holder else ''}"
        what = holder.digest if holder else part
        notes = ["an index that contains it"] * (what != part) + ["a platform of it"] * (
            part not in self.wholes
        )
        return f"{where}@{what}" + (f" ({', '.join(notes)})" if notes else "")


def staging_tags(plan: Plan) -> tuple[str, ...]:
    """Return every staging tag that a run may have created."""
    platforms = plan.build.platforms if plan.build else ()
    return (*(plan.staging(platform) for platform in platforms), plan.staging()) if plan.build else ()


class DeniedOperator(ChainOperator):
    """Fail the run with the clause that blocked the image and the findings that decided it."""

    ui_color = "#fbe3e1"
    operator_extra_links = (ScanReportLink(),)

    def execute(self, context: Context) -> None:
        """Raise the refusal.

        Raises:
            PolicyViolation: Always, for a blocked image. Not retryable.
        """
        verdict = blocked_verdict(context["ti"])
        plan, _ = planned(context["ti"])
        lines = "".join(f"\n    {finding.line}" for finding in verdict.deciding)
        where = fate(plan, pull(context["ti"], Step.QUARANTINE, Quarantined))
        raise PolicyViolation(
            f"{verdict.sentence}. Digest {verdict.digest}. {where}{lines}\n"
            "Fix the packages and push again, or change the chain's scan.block."
        )
