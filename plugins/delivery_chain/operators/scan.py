"""Scanning by digest, and the gate that judges what was found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.branch import BaseBranchOperator

from delivery_chain.core.names.platform import OTHER_PLATFORMS
from delivery_chain.core.names.reference import sha256_digest, short_digest
from delivery_chain.core.results import Scanned, ScanResult
from delivery_chain.core.steps import Step
from delivery_chain.operators.base import leave, planned, skip, subject_of
from delivery_chain.operators.links import ScanReportLink
from delivery_chain.operators.missing_image import check_there
from delivery_chain.operators.on_worker import WorkerOperator
from delivery_chain.operators.reasons import LeavesReason
from delivery_chain.operators.slots import SlotOperator
from delivery_chain.operators.verdict import CREATED, REPORT_TYPE, judge_run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from airflow.sdk import Context

    from delivery_chain.core.gate.judge import Verdict
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Image
    from delivery_chain.core.spec.model import ChainSpec


class ScanOperator(SlotOperator, WorkerOperator):
    """Scans every image of one platform with every engine of the spec; the reports become referrers of the images."""

    operator_extra_links = (ScanReportLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a Scanned as JSON; skipped where the image has nothing of the platform.

        Raises:
            NotFound: The image is not in the registry any more. Not retryable.
        """
        plan, spec = planned(context["ti"])
        platform = self.item(spec)
        subject = subject_of(context["ti"])
        if not spec.scan.enabled:
            raise skip("the chain has scan.enabled: false")
        if not subject.images:
            raise skip("it is no image: there is nothing to scan")
        images = [image for image in subject.images if _takes(platform, image, spec)]
        if not images:
            raise skip(f"the image has no {platform}")
        from delivery_chain.hooks.registry import OciRegistryHook

        with OciRegistryHook(plan.instance).client() as client:
            check_there(client, plan, *(image.digest for image in images))
        results = []
        with self.folder(context) as folder:
            for image in images:
                deadline = time.monotonic() + 60 * spec.scan.timeout_minutes
                results += [self._scan(engine, plan, image, folder, deadline) for engine in spec.scan.engine]
        context["ti"].xcom_push("report_url", _blob_url(plan, results[0].report))
        return leave(context, Scanned(results=tuple(results)))

    def _scan(self, name: str, plan: Plan, image: Image, folder: Path, deadline: float) -> ScanResult:
        from delivery_chain.hooks.registry import OciRegistryHook
        from delivery_chain.oci.referrers import attach
        from delivery_chain.scanners.interface import ScanRequest, load_engine
        from delivery_chain.scanners.trivy.databases import TrivySettings
        from delivery_chain.settings import Settings

        settings = Settings.load()
        hook = OciRegistryHook(plan.instance)
        trivy = TrivySettings(
            settings.trivy_cache_dir,
            settings.trivy_db_repository,
            settings.trivy_db_max_age_hours,
            settings.trivy_java_db_repository,
            settings.trivy_java_db_max_age_hours,
            wheel=settings.trivy_wheel == "allow",
        )
        request = ScanRequest(hook.registry(), plan.name, image.digest, image.platform, trivy, folder)
        output = load_engine(name).scan(request, deadline=deadline, on_line=self.log.info)
        report = output.report
        with hook.client() as client:
            about = client.get_manifest(plan.name, image.digest).descriptor()
            notes = {CREATED: report.database.updated_at.isoformat()}
            referrer = attach(
                client, plan.name, about, output.media_type, output.raw, output.media_type, notes
            )
            facts = report.model_dump_json().encode()
            attach(client, plan.name, about, REPORT_TYPE, facts, REPORT_TYPE, notes)
        counts = report.counts()
        self.log.info("%s looked at %s: %s", name, image.platform, report.coverage.sentence)
        found = ", ".join(f"{n} {s}" for s, n in counts.items())
        self.log.info("%s on %s (%s): %s", name, short_digest(image.digest), image.platform, found)
        return ScanResult(
            engine=name,
            platform=image.platform,
            digest=image.digest,
            counts=counts,
            database=report.database,
            report=sha256_digest(facts),
            referrer=referrer.digest,
        )


def _takes(platform: str, image: Image, spec: ChainSpec) -> bool:
    if platform == OTHER_PLATFORMS:
        return image.platform not in spec.scan_platforms
    return image.platform == platform


def _blob_url(plan: Plan, digest: str) -> str:
    from delivery_chain.hooks.registry import OciRegistryHook

    return f"{OciRegistryHook(plan.instance).registry().base_url}/v2/{plan.name}/blobs/{digest}"


class GateOperator(BaseBranchOperator, LeavesReason):
    """Judges all reports together: on to publish, or to quarantine. Its XCom is the verdict."""

    ui_color = "#fdf3d8"
    operator_extra_links = (ScanReportLink(),)

    def choose_branch(self, context: Context) -> str | Iterable[str]:
        """Return the next task id, and leave the verdict as the task's return value.

        Raises:
            ScanFailed: There is no full and current set of reports. Not retryable.
        """
        verdict = judge_run(context["ti"])
        self._explain(verdict)
        # A branch leaves its task by an exception, so there is no return value: the verdict is pushed as one.
        context["ti"].xcom_push("return_value", leave(context, verdict))
        return Step.PUBLISH if verdict.passed else Step.QUARANTINE

    def _explain(self, verdict: Verdict) -> None:
        self.log.info("%s, digest %s", verdict.sentence, verdict.digest)
        for line in (*verdict.looked_at, *verdict.notes, *(f"excepted {text}" for text in verdict.excepted)):
            self.log.info("%s", line)
        for finding in verdict.deciding:
            self.log.info("  %s", finding.line)
