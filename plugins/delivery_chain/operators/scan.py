"""Scan images by digest, and judge the findings at the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.branch import BaseBranchOperator

from delivery_chain.core.names.platform import OTHER_PLATFORMS
from delivery_chain.core.results import Scanned, ScanResult
from delivery_chain.core.spec.slots import scan_slots
from delivery_chain.core.steps import Step
from delivery_chain.core.xcom_keys import REPORT_URL, RETURNED
from delivery_chain.operators.base import leave, planned, skip, subject_of
from delivery_chain.operators.job_step import JobOperator
from delivery_chain.operators.links import ScanReportLink
from delivery_chain.operators.missing_image import check_there
from delivery_chain.operators.reasons import LeavesReason
from delivery_chain.operators.slots import SlotOperator
from delivery_chain.operators.verdict import judge_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from delivery_chain.core.gate.judge import Verdict
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Image
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.jobs.job import ScanJob

PART = 12
"""Number of hex digits of an image's digest in the name of its scan job."""


class ScanOperator(SlotOperator, JobOperator):
    """Scan every image of one platform with one engine, and attach the reports to the images as referrers."""

    operator_extra_links = (ScanReportLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a Scanned as JSON; the task is skipped if the image does not have the platform.

        Raises:
            NotFound: The image is no longer in the registry. Not retryable.
        """
        plan, spec = planned(context["ti"])
        self.item(spec)
        slot = scan_slots(spec)[self.slot]
        subject = subject_of(context["ti"])
        if not spec.scan.enabled:
            raise skip("the chain has scan.enabled: false")
        if not subject.images:
            raise skip("not an image: nothing to scan")
        images = [image for image in subject.images if _takes(slot.platform, image, spec)]
        if not images:
            raise skip(f"the image has no {slot.platform}")
        from delivery_chain.hooks.registry import OciRegistryHook

        with OciRegistryHook(plan.instance).client() as client:
            check_there(client, plan, *(image.digest for image in images))
        results = [self._scan(context, _job(plan, spec, slot.engine, image)) for image in images]
        context["ti"].xcom_push(REPORT_URL, _blob_url(plan, results[0].report))
        return leave(context, Scanned(results=tuple(results)))

    def _scan(self, context: Any, job: ScanJob) -> ScanResult:
        from delivery_chain.jobs.job import ScanDone

        done = self.run_job(context, job, ScanDone, part=job.digest.rpartition(":")[2][:PART])
        return ScanResult(
            engine=job.engine,
            platform=job.platform,
            digest=job.digest,
            counts=done.counts,
            database=done.database,
            report=done.report,
            referrer=done.referrer,
        )


def _job(plan: Plan, spec: ChainSpec, engine: str, image: Image) -> ScanJob:
    """Return the job that scans one image. It refers to the registry by connection id."""
    from delivery_chain.core.section import Section
    from delivery_chain.jobs.job import ScanJob
    from delivery_chain.scanners.table import SCANNERS
    from delivery_chain.settings import airflow_option

    return ScanJob(
        engine=engine,
        options=SCANNERS.load(engine)().options.read(Section(airflow_option)).to_xcom(),
        registry=plan.instance,
        name=plan.name,
        digest=image.digest,
        platform=image.platform,
        seconds=60 * spec.scan.timeout_minutes,
    )


def _takes(platform: str, image: Image, spec: ChainSpec) -> bool:
    if platform == OTHER_PLATFORMS:
        return image.platform not in spec.scan_platforms
    return image.platform == platform


def _blob_url(plan: Plan, digest: str) -> str:
    from delivery_chain.hooks.registry import OciRegistryHook

    return f"{OciRegistryHook(plan.instance).registry().base_url}/v2/{plan.name}/blobs/{digest}"


class GateOperator(BaseBranchOperator, LeavesReason):
    """Judge all reports together, then branch to publish or to quarantine. The task's return value is the verdict."""

    ui_color = "#fdf3d8"
    operator_extra_links = (ScanReportLink(),)

    def choose_branch(self, context: Context) -> str | Iterable[str]:
        """Return the next task id, and leave the verdict as the task's return value.

        Raises:
            ScanFailed: The set of reports is incomplete or out of date. Not retryable.
        """
        verdict = judge_run(context["ti"])
        self._explain(verdict)
        # A branch operator ends with an exception and returns nothing, so push the verdict as the return value here.
        context["ti"].xcom_push(RETURNED, leave(context, verdict))
        return Step.PUBLISH if verdict.passed else Step.QUARANTINE

    def _explain(self, verdict: Verdict) -> None:
        self.log.info("%s, digest %s", verdict.sentence, verdict.digest)
        for line in (*verdict.looked_at, *verdict.notes, *(f"excepted: {text}" for text in verdict.excepted)):
            self.log.info("%s", line)
        for finding in verdict.deciding:
            self.log.info("  %s", finding.line)
