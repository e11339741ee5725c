"""Runs the build job: checks out the commit, builds one platform and pushes it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from delivery_chain.builders.context import resolve_context
from delivery_chain.builders.interface import BuildWork
from delivery_chain.builders.table import BUILDERS
from delivery_chain.core.dockerfile.base_image_policy import BaseImagePolicy, ReadRule
from delivery_chain.jobs.job import BuildDone
from delivery_chain.tools.git.checkout import checkout

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.jobs.job import BuildJob
    from delivery_chain.jobs.logins import Logins
    from delivery_chain.jobs.run import Machine


def run(job: BuildJob, logins: Logins, machine: Machine, log: Callable[[str], None]) -> BuildDone:
    """Build and push the image.

    Raises:
        SourceError: Git failed; the class says whether to retry.
        BuildFailed, RegistryError, ToolError, ConfigurationError: As in `Builder.build`.
    """
    deadline = time.monotonic() + job.seconds
    tree = machine.folder / "source"
    tree.mkdir(mode=0o755)
    checkout(
        logins.source(job.source.connection),
        ref=job.source.ref,
        commit=job.source.commit,
        into=tree,
        submodules=job.source.submodules,
        of_ref=job.source.older,
        deadline=deadline,
        on_line=log,
    )
    context, dockerfile = resolve_context(tree, job.context, job.dockerfile)
    registry = logins.registry(job.registry)
    work = BuildWork(
        context=context,
        dockerfile=dockerfile,
        platform=job.platform,
        target=f"{registry.host}/{job.name}:{job.tag}",
        registry=registry,
        folder=machine.folder,
        args=job.args,
        labels=job.labels,
        annotations=job.annotations,
        reads=_reads(job, logins),
        options=job.options,
    )
    output = BUILDERS.load(job.builder)().build(work, seconds=deadline - time.monotonic(), log=log)
    return BuildDone(
        digest=output.digest,
        build_seconds=round(output.build_seconds, 3),
        push_seconds=round(output.push_seconds, 3),
        isolation=output.isolation,
    )


def _reads(job: BuildJob, logins: Logins) -> BaseImagePolicy:
    """Return the base images that the build may read, with their logins."""
    rules = []
    for read in job.reads:
        registry = logins.registry(read.connection)
        rules.append(ReadRule(read.rule, read.host or registry.host, read.namespaces, registry))
    return BaseImagePolicy(tuple(rules), strangers=job.strangers)
