"""Runs one chain's steps without Airflow: the values that tasks leave for each other are kept here as JSON."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.event import Kind
from delivery_chain.core.gate.findings import CREATED, REPORT_TYPE, Database, Finding, ScanReport
from delivery_chain.core.gate.judge import Hit, Verdict
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.core.plan import BuildPlan, Plan, Planned, made_for
from delivery_chain.core.results import BuildResult, Record, Scanned, ScanResult, Subject
from delivery_chain.core.seal import Place, opened, sealed
from delivery_chain.core.spec.model import ChainSpec, Source
from delivery_chain.core.xcom_keys import REASON
from delivery_chain.errors import DeliveryChainError, NotDelivered
from delivery_chain.hooks.signing_secret import signing_secret
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_CONFIG, OCI_MANIFEST
from delivery_chain.oci.referrers import attach
from delivery_chain.operators import base
from delivery_chain.operators import verdict as judging
from delivery_chain.operators.build import AssembleOperator, annotations_of
from delivery_chain.operators.report import ReportOperator
from support.step_task import DAY, RETRIES, Store, Task

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.operators.base import ChainOperator


COMMIT = "a" * 40
NAME = "shop/api"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DATABASE = Database(repository="db.example.com/trivy-db:2", updated_at=DAY)


def chain(**sections: Any) -> ChainSpec:
    """A chain `shop` with one repository that is built from a git tag, unscanned; given sections replace these."""
    body: dict[str, Any] = {
        "version": 1,
        "name": "shop",
        "scope": {"instance": "home", "namespace": "shop", "repositories": ["api"]},
        "sources": {"api": {"connection": "git_shop", "url": "api.git"}},
        "build": {
            "rules": [
                {
                    "name": "release",
                    "tag": r"v(?<n>\d+\.\d+)",
                    "tags": [{"tag": "v${n}"}, {"tag": "latest"}],
                    "args": {"REVISION": "release"},
                }
            ],
            "timezone": "UTC",
        },
        "scan": {"enabled": False},
        **sections,
    }
    return ChainSpec.model_validate({key: value for key, value in body.items() if value is not None})


def both_platforms(**sections: Any) -> ChainSpec:
    """Return the same chain, built for amd64 and arm64."""
    (rule,) = chain().build_rules
    rules = [rule.to_xcom() | {"platforms": ["linux/amd64", "linux/arm64"]}]
    return chain(build={"rules": rules, "timezone": "UTC"}, **sections)


def build_plan(*platforms: str, tags: tuple[str, ...] = ("v1.2", "latest"), **fields: Any) -> Plan:
    """Return the plan of a run that builds, by default for amd64."""
    wanted = platforms or ("linux/amd64",)
    build = BuildPlan(
        rule="release",
        source=Source(connection="git_shop", url="api.git"),
        ref="refs/tags/v1.2",
        commit=COMMIT,
        context=".",
        dockerfile="Dockerfile",
        args={"REVISION": "release"},
        platforms=tuple(Platform(one) for one in wanted),
    )
    return Plan(**(_COMMON | {"tags": tags, "build": build} | fields))


def image_plan(digest: str, *tags: str, **fields: Any) -> Plan:
    """The plan of a run for an image that already exists."""
    return Plan(**(_COMMON | {"kind": Kind.IMAGE_PUSH, "tags": tags, "digest": digest} | fields))


_COMMON: dict[str, Any] = {
    "chain": "shop",
    "run_id": "r1",
    "kind": Kind.SOURCE_PUSH,
    "instance": "home",
    "namespace": "shop",
    "repository": "api",
    "pushed_at": DAY,
    "seen_at": DAY,
}


def verdict(digest: str, *, passed: bool = True, **fields: Any) -> Verdict:
    """A gate's verdict on a digest."""
    hits = () if passed else (Hit(clause="findings at or above high (limit 1)", count=1),)
    known = {"digest": digest, "passed": passed, "judged_at": DAY, "hits": hits, "counts": {"high": 0}}
    return Verdict(**(known | fields))


@dataclass(slots=True)
class Run:
    """Everything that one run's tasks have left so far."""

    spec: ChainSpec
    plan: Plan | None = None
    conf: dict[str, Any] = field(default_factory=dict)
    xcoms: dict[tuple[str, int, str], Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    """States of tasks, by names such as `replicate_0`."""
    run_states: dict[tuple[str, str], str | Exception] = field(default_factory=dict)
    others: dict[tuple[str | None, str], dict[tuple[str, int, str], Any]] = field(default_factory=dict)
    """XComs of other runs."""
    stores: dict[tuple[str, int], Store] = field(default_factory=dict)
    tries: dict[tuple[str, int], int] = field(default_factory=dict)
    max_tries: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.plan is not None:
            self.leave("plan", Planned(plan=self.plan, spec=self.spec))

    @property
    def run_id(self) -> str:
        return self.plan.run_id if self.plan else "r1"

    def leave(self, task: str, value: Any, index: int = -1) -> None:
        """Leave a value as if a task had returned it: sealed, and for the run's plan unless it says otherwise."""
        data = value.to_xcom() if hasattr(value, "to_xcom") else value
        if self.plan is not None and task in {"build", "assemble"}:
            data = data | {"plan": data.get("plan") or made_for(self.plan, self.spec)}
        if self.plan is not None and task == "gate" and not data.get("judged"):
            data = data | {"judged": self.judged()}
        left = sealed(data, Place(self.spec.name, self.run_id, task, index), signing_secret())
        self.xcoms[task, index, "return_value"] = json.loads(json.dumps(left))

    def judged(self) -> str:
        """Value that a verdict must have to cover everything that the run's tasks have left; empty without an image."""
        ti = self.context("gate")["ti"]
        try:
            return judging._judged(*base.planned(ti), base.subject_of(ti), judging.scan_results(ti))
        except DeliveryChainError:
            return ""

    def say(self, task: str, reason: str, error: str, index: int = -1) -> None:
        """Let a task end without a result, for a reason."""
        place = Place(self.spec.name, self.run_id, task, index, REASON)
        self.xcoms[task, index, REASON] = sealed({"reason": reason, "error": error}, place, signing_secret())

    def left(self, task: str, key: str = "return_value", index: int = -1) -> Any:
        """The value that a task returned (without its seal) or pushed; None if it did neither."""
        found = self.xcoms.get((task, index, key))
        if key != "return_value" or found is None:
            return found
        return opened(found, Place(self.spec.name, self.run_id, task, index), signing_secret())

    def context(self, task: str, index: int = -1) -> dict[str, Any]:
        """The context that Airflow would give to a task."""
        return {
            "ti": Task(self, task, index),
            "task_state_store": self.stores.setdefault((task, index), Store()),
            "dag": SimpleNamespace(dag_id=self.spec.name),
            "dag_run": SimpleNamespace(
                clear_number=0,
                dag_id=self.spec.name,
                run_id=self.run_id,
                conf=self.conf,
                run_after=DAY,
                triggering_user_name="anna",
            ),
        }

    def clear(self, task: str, index: int = -1) -> None:
        """Do what Airflow does to a task that a user clears. Source: clear_task_instances."""
        self.max_tries[task, index] = self.tries.get((task, index), 0) + RETRIES

    def do(self, step: ChainOperator, index: int = -1) -> Any:
        """Run a step; its result is left for the others. A new try starts without the results of the last one.

        Returns:
            The value that it left, without its seal, or else its return value.
        """
        for key in [key for key in self.xcoms if key[:2] == (step.task_id, index)]:
            del self.xcoms[key]
        self.tries[step.task_id, index] = self.tries.get((step.task_id, index), 0) + 1
        value = step.execute(self.context(step.task_id, index))
        if not isinstance(value, dict):
            return value
        self.xcoms[step.task_id, index, "return_value"] = json.loads(json.dumps(value))
        return self.left(step.task_id, index=index)


def report_of(run: Run) -> Record:
    """The record that a run's report leaves, even if the report then fails because of the run's outcome."""
    with suppress(NotDelivered):
        run.do(ReportOperator(task_id="report"))
    return Record.from_xcom(run.left("report"))


def push_platform(client: RegistryClient, plan: Plan, platform: str = "linux/amd64", seed: str = "") -> str:
    """Push a small image under the platform's staging tag, as a build of this run would; return its digest."""
    os_name, architecture = platform.split("/", 1)
    config = json.dumps({"os": os_name, "architecture": architecture}).encode()
    parts = [
        replace(client.put_blob_bytes(plan.name, content), media_type=kind).to_json()
        for content, kind in ((config, OCI_CONFIG), (f"{seed}{platform}".encode(), LAYER))
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": parts[0],
        "layers": parts[1:],
        "annotations": annotations_of(plan) if plan.build else {},
    }
    raw = json.dumps(document).encode()
    ref = plan.staging(Platform(platform)) if plan.build else plan.tags[0]
    return client.put_manifest(plan.name, ref, raw, OCI_MANIFEST)


def built(registry: Registry, spec: ChainSpec, plan: Plan, seed: str = "") -> tuple[Run, Subject]:
    """Return a run after build and assemble."""
    run = Run(spec, plan)
    assert plan.build is not None
    with RegistryClient(registry) as client:
        for index, platform in enumerate(plan.build.platforms):
            digest = push_platform(client, plan, platform, seed)
            result = BuildResult(
                platform=platform, digest=digest, build_seconds=1.0, push_seconds=1.0, sandbox="none"
            )
            run.leave("build", result, index)
    return run, Subject.from_xcom(run.do(AssembleOperator(task_id="assemble")))


def judged(
    registry: Registry, spec: ChainSpec, plan: Plan, *, passed: bool = True, seed: str = ""
) -> tuple[Run, str]:
    """A run after its gate, and the digest of its image."""
    run, subject = built(registry, spec, plan, seed)
    if spec.scan.enabled:
        scanned(registry, run)
    run.leave("gate", verdict(subject.digest, passed=passed))
    return run, subject.digest


def scanned(registry: Registry, run: Run, *findings: Finding, database: Database = DATABASE) -> None:
    """Scan each platform of a run's image, so that the reports are in the registry."""
    name = run.plan.name if run.plan else NAME
    for index, image in enumerate(run.left("assemble")["images"]):
        platform, digest = image["platform"], image["digest"]
        run.leave(
            "scan",
            Scanned(
                results=(report_on(registry, platform, digest, *findings, database=database, name=name),)
            ),
            index,
        )


def report_on(
    registry: Registry,
    platform: str,
    digest: str,
    *findings: Finding,
    database: Database = DATABASE,
    name: str = NAME,
) -> ScanResult:
    """Attach a report to an image, as a scan does."""
    report = ScanReport(
        engine="trivy",
        engine_version="1",
        digest=digest,
        platform=platform,
        databases=(database,),
        findings=findings,
    )
    facts = report.model_dump_json().encode()
    with RegistryClient(registry) as client:
        about = client.get_manifest(name, digest).descriptor()
        notes = {CREATED: database.updated_at.isoformat()}
        referrer = attach(client, name, about, REPORT_TYPE, facts, REPORT_TYPE, notes)
    return ScanResult(
        engine="trivy",
        platform=platform,
        digest=digest,
        counts=report.counts(),
        database=database,
        report=sha256_digest(facts),
        referrer=referrer.digest,
    )
