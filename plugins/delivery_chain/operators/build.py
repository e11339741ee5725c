"""Build each platform's image from the exact commit, and assemble the one digest that the run is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.built import annotations_of
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.core.plan import made_for
from delivery_chain.core.results import BuildResult, Subject
from delivery_chain.core.steps import Step
from delivery_chain.errors import (
    BuildFailed,
    ContentMismatch,
    EventRefused,
    ScanFailed,
    Unjudged,
)
from delivery_chain.operators.base import ChainOperator, leave, planned, pull_all, skip
from delivery_chain.operators.job_step import JobOperator
from delivery_chain.operators.missing_image import check_there
from delivery_chain.operators.slots import SlotOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from delivery_chain.core.plan import BuildPlan, Plan
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.jobs.job import BuildJob, ReadRef
    from delivery_chain.oci.client import RegistryClient

MOST_IMAGES = 64
"""Maximum number of images that one run scans; official images have a dozen platforms at most."""


class BuildOperator(SlotOperator, JobOperator):
    """Build one platform and push it under the run's staging tag."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a BuildResult as JSON; the task is skipped if the plan does not build this platform."""
        plan, spec = planned(context["ti"])
        platform = self.item(spec)
        build = plan.build
        if build is None:
            raise skip("the image already exists: nothing to build")
        if platform not in build.platforms:
            raise skip(f"build rule {build.rule!r} does not build {platform}")
        from delivery_chain.jobs.job import BuildDone

        done = self.run_job(context, _job(plan, spec, build, Platform(platform)), BuildDone)
        result = BuildResult(
            platform=platform,
            digest=done.digest,
            build_seconds=done.build_seconds,
            push_seconds=done.push_seconds,
            plan=made_for(plan, spec),
            sandbox=done.isolation,
        )
        return leave(context, result)


def _job(plan: Plan, spec: ChainSpec, build: BuildPlan, platform: Platform) -> BuildJob:
    """Return the job that builds one platform. It refers to sources and registries by connection id."""
    from delivery_chain.jobs.job import BuildJob, SourceRef
    from delivery_chain.settings import Settings

    settings = Settings.load()
    source = build.source
    return BuildJob(
        builder="buildah",
        options={"isolation": settings.build_isolation, "network": settings.build_network},
        source=SourceRef(
            connection=source.connection,
            url=source.url,
            ref=build.ref,
            commit=build.commit,
            older=build.older,
            submodules=source.submodules,
        ),
        context=build.context,
        dockerfile=build.dockerfile,
        platform=platform,
        registry=plan.instance,
        name=plan.name,
        tag=plan.staging(platform),
        args=build.args,
        labels={"org.opencontainers.image.revision": build.commit},
        annotations=annotations_of(plan),
        reads=_reads(plan, spec),
        strangers=spec.build is None or spec.build.read_from is None,
        seconds=60 * (spec.build.timeout_minutes if spec.build else 60),
    )


def _reads(plan: Plan, spec: ChainSpec) -> tuple[ReadRef, ...]:
    """Return the registries that the chain's base images may come from."""
    from delivery_chain.jobs.job import ReadRef

    if spec.build is None or spec.build.read_from is None:
        own = ReadRef(
            rule="the chain's own namespace", connection=plan.instance, namespaces=(plan.namespace,)
        )
        return (own,)
    return tuple(
        ReadRef(
            rule=f"build.from[{index}]",
            connection=source.connection,
            host=source.host or "",
            namespaces=source.namespaces,
        )
        for index, source in enumerate(spec.build.read_from)
    )


class AssembleOperator(ChainOperator):
    """Assemble the run's digest: a single image, or an index of all platforms minus those the chain does not ship."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a Subject as JSON.

        Raises:
            BuildFailed: A platform is missing. Not retryable.
            EventRefused: The image has none of the platforms that the chain ships. Not retryable.
            ScanFailed: The image has more parts to scan than one run scans. Not retryable.
            ProtocolViolation: The image contains something that is neither an image nor proven not to be one. Not
                retryable.
            NotFound: An image is no longer in the registry. Not retryable.
            Unjudged: A platform was built for an earlier plan of the run. Not retryable.
        """
        plan, spec = planned(context["ti"])
        from delivery_chain.hooks.registry import OciRegistryHook

        results = pull_all(context["ti"], Step.BUILD, BuildResult) if plan.build else ()
        if old := [result.platform for result in results if result.plan != made_for(plan, spec)]:
            raise Unjudged(
                f"the run was planned again after {', '.join(old)} was built: clear `build` and everything downstream"
            )
        built = {result.platform: result.digest for result in results}
        with OciRegistryHook(plan.instance).client() as client:
            check_there(client, plan, *([plan.digest] if plan.digest else built.values()))
            subject = _read_subject(client, plan.name, plan.digest or _assemble(client, plan, built))
            if spec.scan.ship and subject.images:
                subject = self._ship(client, plan, spec.scan.ship, subject)
        if spec.scan.enabled and len(subject.images) > MOST_IMAGES:
            raise ScanFailed(
                f"{plan.name}@{subject.digest}: expected at most {MOST_IMAGES} images to scan in one run, found "
                f"{len(subject.images)}; list the platforms you ship as `platforms: {{ship: […]}}` in the scan section"
            )
        return leave(context, subject.model_copy(update={"plan": made_for(plan, spec)}))

    def _ship(self, client: RegistryClient, plan: Plan, ship: Sequence[str], subject: Subject) -> Subject:
        from delivery_chain.oci.manifest import Index
        from delivery_chain.oci.platform_subset import without_the_rest

        kept = [image.digest for image in subject.images if image.platform in ship]
        dropped = [image for image in subject.images if image.platform not in ship]
        if not kept:
            found = ", ".join(dict.fromkeys(image.platform for image in dropped))
            raise EventRefused(
                f"{plan.title} is for {found}; the chain ships only {', '.join(ship)} (scan.platforms), so none of it "
                "is published"
            )
        for image in dropped:
            self.log.info(
                "Left out, because the chain does not ship it: %s (%s)", image.platform, image.digest
            )
        index = client.get_manifest(plan.name, subject.digest)
        if not isinstance(index, Index):
            return subject
        others = {other.digest for other in subject.others}
        raw = without_the_rest(index, lambda one: client.get_manifest(plan.name, one), kept, others)
        if raw == index.raw:
            return subject
        ref = plan.staging() if plan.build else sha256_digest(raw)
        return _read_subject(client, plan.name, client.put_manifest(plan.name, ref, raw, index.media_type))


def _assemble(client: RegistryClient, plan: Plan, built: Mapping[str, str]) -> str:
    from delivery_chain.oci.manifest import OCI_INDEX, Descriptor, build_index

    platforms = plan.build.platforms if plan.build else ()
    missing = [platform for platform in platforms if platform not in built]
    if missing:
        raise BuildFailed(
            f"`build` left no image for {', '.join(missing)}: clear `build` and everything downstream"
        )
    if len(platforms) == 1:
        raw = client.get_manifest(plan.name, built[platforms[0]])
        return str(client.put_manifest(plan.name, plan.staging(), raw.raw, raw.media_type))
    children = []
    for platform in platforms:
        child = client.get_manifest(plan.name, built[platform]).descriptor()
        children.append(
            Descriptor(child.media_type, child.digest, child.size, platform=platform.descriptor())
        )
    index = build_index(children, annotations_of(plan))
    return str(client.put_manifest(plan.name, plan.staging(), index, OCI_INDEX))


def _read_subject(client: RegistryClient, name: str, digest: str) -> Subject:
    from delivery_chain.oci.inventory import inventory

    manifest = client.get_manifest(name, digest)
    if manifest.digest != digest:
        raise ContentMismatch(
            f"{name}: expected the manifest {digest}, found {manifest.digest}: do not trust this registry"
        )
    images, others = inventory(client, name, digest)
    return Subject(
        digest=digest,
        media_type=manifest.media_type,
        size=len(manifest.raw),
        images=images,
        others=others,
    )
