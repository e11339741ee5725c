"""What is done with a blocked image: kept safe first, then removed, then the run fails with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.results import Quarantined, Subject
from delivery_chain.core.tags import is_reserved, quarantine_name, quarantine_tag
from delivery_chain.errors import NotFound, PolicyViolation
from delivery_chain.operators.base import ChainOperator, leave, planned, subject_of
from delivery_chain.operators.links import RegistryLink, ScanReportLink
from delivery_chain.operators.publish import blocked_verdict

if TYPE_CHECKING:
    from delivery_chain.core.gate import Verdict
    from delivery_chain.core.plan import Plan


class QuarantineOperator(ChainOperator):
    """Backs a blocked image up and removes it, as the chain's `on_block` says. A failed backup removes nothing."""

    operator_extra_links = (RegistryLink(), ScanReportLink())

    def execute(self, context: Any) -> dict[str, Any]:
        """Return a Quarantined as JSON."""
        verdict = blocked_verdict(context["ti"])
        plan, spec = planned(context["ti"])
        subject = subject_of(context["ti"])
        from delivery_chain.hooks.registry import OciRegistryHook

        policy = spec.scan.block.on_block if spec.scan.block else None
        with OciRegistryHook(plan.instance).client() as client:
            host = OciRegistryHook(plan.instance).registry().host
            backup = _back_up(client, host, plan, subject, verdict) if policy and policy.backup else ""
            deleted = _delete(client, plan, subject) if policy and policy.delete else ()
        tag = plan.staging() if plan.build else (plan.tags[0] if plan.tags else "")
        kept = (
            ""
            if policy and policy.delete
            else f"{host}/{plan.name}{f':{tag}' if tag else ''}@{subject.digest}"
        )
        self.log.info(
            "Backup: %s. Removed: %s. Kept: %s",
            backup or "none",
            ", ".join(deleted) or "nothing",
            kept or "no",
        )
        return leave(context, Quarantined(digest=subject.digest, backup=backup, deleted=deleted, kept=kept))


def _back_up(client: Any, host: str, plan: Plan, subject: Subject, verdict: Verdict) -> str:
    from delivery_chain.oci.copy import copy_image, put_tag

    name = quarantine_name(plan.namespace, plan.repository)
    tag = quarantine_tag(plan.tags[0] if plan.tags else plan.key, verdict.judged_at)
    held = client.head_manifest(name, tag)
    if held is None or held.digest != subject.digest:
        # Thorough: what is deleted next has to be here whole.
        copy_image(client, plan.name, subject.digest, client, name, thorough=True)
        put_tag(client, name, tag, subject.digest)
    return f"{host}/{name}:{tag}"


def _delete(client: Any, plan: Plan, subject: Subject) -> tuple[str, ...]:
    from delivery_chain.oci.referrers import fallback_tag

    tags = staging_tags(plan) if plan.build else _tags_of(client, plan, {subject.digest, plan.digest})
    for tag in tags:
        client.delete_tag(plan.name, tag)
    # What was pushed, where platforms were left out of it, is as blocked as what is left.
    wholes = tuple(dict.fromkeys(digest for digest in (subject.digest, plan.digest) if digest))
    if any(_still_tagged(client, plan.name, digest) for digest in wholes):
        return tags
    # The platforms of an image that others pushed may be parts of other images too.
    digests = dict.fromkeys((*wholes, *(image.digest for image in subject.images if plan.build)))
    for digest in digests:
        client.delete_tag(plan.name, fallback_tag(digest))
        client.delete_manifest(plan.name, digest)
    return (*tags, *digests)


def _tags_of(client: Any, plan: Plan, digests: set[str]) -> tuple[str, ...]:
    """The tags of an image that others pushed; one that they moved to another image since is not its any more."""
    from delivery_chain.oci.client import DELETED_TAG

    held = {tag: client.head_manifest(plan.name, tag) for tag in plan.tags}
    return tuple(
        tag
        for tag, found in held.items()
        # A retry goes on where its killed try was in the middle of a tag, or past it.
        if found is None
        or found.digest in digests
        or client.get_manifest(plan.name, found.digest).artifact_type == DELETED_TAG
    )


def _still_tagged(client: Any, name: str, digest: str) -> bool:
    """Whether a user's tag points at the digest, so that removing the manifest would take that tag with it."""
    try:
        tags = client.list_tags(name)
    except NotFound:
        return False
    held = (client.head_manifest(name, tag) for tag in tags if not is_reserved(tag))
    return any(found is not None and found.digest == digest for found in held)


def staging_tags(plan: Plan) -> tuple[str, ...]:
    """Every staging tag that a run may have made."""
    platforms = plan.build.platforms if plan.build else ()
    return (*(plan.staging(platform) for platform in platforms), plan.staging()) if plan.build else ()


class DeniedOperator(ChainOperator):
    """Fails the run with the clause that was hit and the findings that hit it."""

    ui_color = "#fbe3e1"
    operator_extra_links = (ScanReportLink(),)

    def execute(self, context: Any) -> None:
        """Raise the refusal.

        Raises:
            PolicyViolation: Always, for a blocked image. Not retryable.
        """
        verdict = blocked_verdict(context["ti"])
        plan, _ = planned(context["ti"])
        lines = "".join(f"\n    {finding.line}" for finding in verdict.deciding)
        raise PolicyViolation(
            f"{verdict.sentence}. Nothing of {plan.title} was published, digest {verdict.digest}.{lines}\n"
            "Fix the packages and push again, or change the chain's scan.block with a reason."
        )
