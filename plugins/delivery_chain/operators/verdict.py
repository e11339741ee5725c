"""Decide the one question no step may skip: did a gate of this run pass exactly this image, and would it pass now?

Task states don't count, since a person may have changed them; the sealed results of earlier steps do. But a seal does
not prove that a result is the newest of the run. So an image is judged again before it is published, by the reports
that the registry keeps by digest, and by every later report on the same images.
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
"""Maximum size of a report, in bytes; for an image with 10,000 findings it has about 20 MB."""
MOST_LATER = 20
"""Maximum number of later reports read per image; if there are more, the image has to be scanned again."""


def judge_run(ti: TaskInstance) -> Verdict:
    """Judge the run's image by the reports of its scans.

    Raises:
        ScanFailed: The set of reports is incomplete or out of date. Not retryable.
        SealBroken: The result of an earlier step was altered. Not retryable.
    """
    plan, spec = planned(ti)
    subject, results = subject_of(ti), scan_results(ti)
    return _judge(plan, spec, subject, results, later=False)


def passed(ti: TaskInstance) -> tuple[Plan, ChainSpec, Subject, Verdict]:
    """Return plan, spec, image and verdict of a run whose gate passed exactly this image, which still passes now.

    Raises:
        Unjudged: The verdict is missing, is about another image, or is not a pass. Not retryable.
        SealBroken: The result of an earlier step was altered. Not retryable.
    """
    plan, spec = planned(ti)
    subject, results = subject_of(ti), scan_results(ti)
    verdict = pull(ti, Step.GATE, Verdict)
    shown = short_digest(subject.digest)
    if verdict is None:
        raise Unjudged(f"no gate of this run judged {shown}, so it is not published: clear the task `gate`")
    if verdict.digest != subject.digest:
        raise Unjudged(
            f"the gate judged {short_digest(verdict.digest)}, this run's image is {shown} now: clear `scan` and `gate`"
        )
    if not verdict.passed:
        raise Unjudged(f"the gate refused {shown}: {verdict.sentence}")
    if verdict.judged != _judged(plan, spec, subject, results):
        raise Unjudged(
            f"the run's plan, image or scans were made again after the gate passed {shown}: clear `gate`, and first "
            "`scan` if it is older than the image"
        )
    now = _judge(plan, spec, subject, results, later=True)
    if not now.passed:
        raise Unjudged(
            f"the gate passed {shown} on {verdict.judged_at:%Y-%m-%d %H:%M} UTC, but judged again now it is refused: "
            f"{now.sentence}. Clear `scan` and `gate` if a new scan may find less"
        )
    return plan, spec, subject, verdict


def scan_results(ti: TaskInstance) -> list[ScanResult]:
    """Return the results of the run's scans."""
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
    """Read the reports of the scans back from the registry by digest, and all later ones on the same images.

    Raises:
        Unjudged: A report is no longer there. Not retryable.
        NotFound: The report's image is missing, too. Not retryable.
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
                f"a report of this run's scans is no longer in the registry: clear `scan` and everything downstream. "
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
    """Yield reports on an image made with the same or a newer database; they can only make a verdict stricter.

    Anyone who may push to the repository may add referrers, so all but our own reports on this image are ignored.
    """
    from delivery_chain.oci.referrers import list_referrers

    since = min(result.database.updated_at for result in known)
    listed = list_referrers(client, name, digest, artifact_type=REPORT_TYPE)
    later = [entry.digest for entry in listed if _time(entry.annotations.get(CREATED, "")) >= since]
    if len(later) > MOST_LATER + len(known):
        raise Unjudged(
            f"{short_digest(digest)} has {len(later)} reports since its scan, more than {MOST_LATER}: clear `scan` and "
            "`gate` to judge it by a new one"
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
            # The report's findings can only make the verdict stricter, but its advice could come from anyone.
            yield report.without_advice()


def _read(client: RegistryClient, name: str, digest: str) -> ScanReport:
    return ScanReport.model_validate_json(client.get_blob(name, digest, LARGEST_REPORT))


def _time(text: str) -> datetime:
    """Parse an untrusted time; an invalid one becomes the latest time possible, so that the report is read."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)
