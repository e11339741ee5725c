"""Runs the scan job: scans one image with one engine, and attaches the reports to the image."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from delivery_chain.core.gate.findings import CREATED, REPORT_TYPE
from delivery_chain.core.names.reference import sha256_digest, short_digest
from delivery_chain.core.section import Section
from delivery_chain.errors import UsageError
from delivery_chain.jobs.job import ScanDone
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import attach
from delivery_chain.scanners.interface import ImageRef, Workplace
from delivery_chain.scanners.table import SCANNERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.core.gate.findings import ScanReport
    from delivery_chain.jobs.job import ScanJob
    from delivery_chain.jobs.logins import Logins
    from delivery_chain.jobs.run import Machine
    from delivery_chain.oci.manifest import Descriptor
    from delivery_chain.scanners.interface import Options, ScanOutput


def run(job: ScanJob, logins: Logins, machine: Machine, log: Callable[[str], None]) -> ScanDone:
    """Scan the image, and attach the engine's own report and the `ScanReport` made from it.

    Raises:
        UsageError: The engine does not accept the job's options. Not retryable.
        ScanFailed, RegistryError, ToolError, ConfigurationError: As in `Scanner.prepare` and `Scanner.scan`.
    """
    until = time.monotonic() + job.seconds
    registry = logins.registry(job.registry)
    scanner = SCANNERS.load(job.engine)()
    options = _options(job, scanner.options)
    with RegistryClient(registry) as client:
        # First, so that a missing image or a rejected login gets its own error.
        image = client.get_manifest(job.name, job.digest).descriptor()
    workplace = Workplace(machine.folder, Section(machine.option), (registry,))
    database = scanner.prepare(options, workplace, seconds=job.seconds, log=log)
    output = scanner.scan(
        ImageRef(registry, job.name, job.digest),
        job.platform,
        database,
        seconds=until - time.monotonic(),
        log=log,
    )
    with RegistryClient(registry) as client:
        done = _keep(client, job, image, output)
    _tell(output.report, job, log)
    return done


def _options(job: ScanJob, kind: type[Options]) -> Options:
    try:
        return kind.model_validate(job.options)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"job: options of {job.engine}: {where}: {first['msg']}") from None


def _keep(client: RegistryClient, job: ScanJob, image: Descriptor, output: ScanOutput) -> ScanDone:
    report = output.report
    facts = report.model_dump_json().encode()
    notes = {CREATED: report.database.updated_at.isoformat()}
    kind = output.media_type
    referrer = attach(client, job.name, image, kind, output.raw, kind, notes)
    attach(client, job.name, image, REPORT_TYPE, facts, REPORT_TYPE, notes)
    return ScanDone(
        counts=report.counts(),
        database=report.database,
        report=sha256_digest(facts),
        referrer=referrer.digest,
    )


def _tell(report: ScanReport, job: ScanJob, log: Callable[[str], None]) -> None:
    log(f"{job.engine} looked at {job.platform}: {report.coverage.sentence}")
    found = ", ".join(f"{number} {severity}" for severity, number in report.counts().items())
    log(f"{job.engine} on {short_digest(job.digest)} ({job.platform}): {found}")
