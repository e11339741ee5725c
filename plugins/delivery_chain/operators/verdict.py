"""The one question nobody may skip: was exactly this image passed, by a gate of this run, and would it be now?

Tasks' states are not asked, for a person may have changed them. What earlier steps left is asked, and carries their
seals. An older state of the same run carries them too, so an image is judged again before it is let out: from the
reports that the registry keeps by digest, and from every later report on the same images.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery_chain.core.gate.findings import CREATED, REPORT_TYPE, ScanReport
from delivery_chain.core.gate.judge import Verdict, judge
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.plan import made_for
from delivery_chain.core.results import Scanned, ScanResult, Subject
from delivery_chain.core.seal import fingerprint
from delivery_chain.core.steps import Step
from delivery_chain.errors import NotFound, Unjudged
from delivery_chain.operators.base import planned, pull, pull_all, subject_of
from delivery_chain.operators.missing_image import check_there

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from delivery_chain.core.plan import Plan
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.operators.task_instance import TaskInstance

LARGEST_REPORT = 64 * 1024 * 1024
"""Bytes; an image of 10,000 findings has about 20 MB."""
MOST_LATER = 20
"""Later reports of one image that are read; where there are more, the image has to be scanned again."""


def judge_run(ti: TaskInstance) -> Verdict:
    """Judge the run's image by the reports of its scans.

    Raises:
        ScanFailed: There is no full and current set of reports. Not retryable.
        SealBroken: What an earlier step left was changed. Not retryable.
    """
    plan, spec = planned(ti)
    subject, results = subject_of(ti), scan_results(ti)
    return _judge(plan, spec, subject, results, later=False)


def passed(ti: TaskInstance) -> tuple[Plan, ChainSpec, Subject, Verdict]:
    """Plan, spec, image and verdict of a run whose gate passed exactly this image, and that passes now.

    Raises:
        Unjudged: There is no verdict, it is about something else, or it is not a pass. Not retryable.
        SealBroken: What an earlier step left was changed. Not retryable.
    """
    plan, spec = planned(ti)
    subject, results = subject_of(ti), scan_results(ti)
    verdict = pull(ti, Step.GATE, Verdict)
    shown = short_digest(subject.digest)
    if verdict is None:
        raise Unjudged(f"no gate of this run judged {shown}, so it is not let out: clear the task `gate`")
    if verdict.digest != subject.digest:
        raise Unjudged(
            f"the gate judged {short_digest(verdict.digest)}, this run's image is {shown} now: clear `scan` and `gate`"
        )
    if not verdict.passed:
        raise Unjudged(f"the gate refused {shown}: {verdict.sentence}")
    if verdict.judged != _judged(plan, spec, subject, results):
        raise Unjudged(
            f"since the gate passed {shown}, the run's plan, image or scans were made again: clear `gate`, and `scan` "
            "before it if it is older than the image"
        )
    now = _judge(plan, spec, subject, results, later=True)
    if not now.passed:
        raise Unjudged(
            f"the gate passed {shown} on {verdict.judged_at:%Y-%m-%d %H:%M} UTC, judged again now it is refused: "
            f"{now.sentence}. Clear `scan` and `gate`, if a new scan may find less"
        )
    return plan, spec, subject, verdict


def scan_results(ti: TaskInstance) -> list[ScanResult]:
    """What the run's scans left."""
    return [result for scanned in pull_all(ti, Step.SCAN, Scanned) for result in scanned.results]


def _judge(
    plan: Plan, spec: ChainSpec, subject: Subject, results: Sequence[ScanResult], *, later: bool
) -> Verdict:
    verdict = judge(
        spec.scan,
        _reports(plan, spec, results, later=later),
        digest=subject.digest,
        images=subject.images,
        repository=plan.repository,
        now=datetime.now(UTC),
    )
    return verdict.model_copy(update={"judged": _judged(plan, spec, subject, results)})


def _judged(plan: Plan, spec: ChainSpec, subject: Subject, results: Sequence[ScanResult]) -> str:
    return fingerprint(made_for(plan, spec), subject.to_xcom(), [result.to_xcom() for result in results])


def _reports(plan: Plan, spec: ChainSpec, results: Sequence[ScanResult], *, later: bool) -> list[ScanReport]:
    """The reports of the scans, read back from the registry by digest, and all later ones on the same images.

    Raises:
        Unjudged: One is not there any more. Not retryable.
        NotFound: Nor is its image. Not retryable.
    """
    if not results:
        return []
    from delivery_chain.hooks.registry import OciRegistryHook

    with OciRegistryHook(plan.instance).client() as client:
        try:
            found = [_read(client, plan.name, result.report) for result in results]
        except NotFound as missing:
            check_there(client, plan, *dict.fromkeys(result.digest for result in results))
            raise Unjudged(
                f"a report of this run's scans is not in the registry any more: clear `scan` and all that follow it. "
                f"{missing}"
            ) from missing
        if later:
            for digest in dict.fromkeys(result.digest for result in results):
                known = [result for result in results if result.digest == digest]
                found += _later(client, plan.name, spec, digest, known)
    return found


def _later(
    client: RegistryClient, name: str, spec: ChainSpec, digest: str, known: Sequence[ScanResult]
) -> Iterator[ScanReport]:
    """Reports on an image that were made with the same or a newer database; they can only make a verdict stricter.

    Whoever may push to the repository may add one, so what is no report of ours on this image is passed over.
    """
    from delivery_chain.oci.referrers import list_referrers

    since = min(result.database.updated_at for result in known)
    listed = list_referrers(client, name, digest, artifact_type=REPORT_TYPE)
    later = [entry.digest for entry in listed if _time(entry.annotations.get(CREATED, "")) >= since]
    if len(later) > MOST_LATER + len(known):
        raise Unjudged(
            f"{short_digest(digest)} has {len(later)} reports since its scan, more than {MOST_LATER}: clear `scan` and "
            "`gate`, so that it is judged by a new one"
        )
    reports = {result.report for result in known}
    for manifest in later:
        try:
            blobs = [layer.digest for layer in client.get_manifest(name, manifest).blobs[1:]]
            if len(blobs) != 1 or blobs[0] in reports:
                continue
            report = _read(client, name, blobs[0])
        except (NotFound, ValueError):
            continue
        if report.digest == digest and report.engine in spec.scan.engine:
            # Its findings make the verdict stricter; its advice could be anybody's.
            yield report.without_advice()


def _read(client: RegistryClient, name: str, digest: str) -> ScanReport:
    return ScanReport.model_validate_json(client.get_blob(name, digest, LARGEST_REPORT))


def _time(text: str) -> datetime:
    """A time from outside; what is none is the end of time, for then the report has to be looked at."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)
