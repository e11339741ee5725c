"""Reads the logins of a job from Airflow's connections, by the ids in the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.hooks.registry import OciRegistryHook
from delivery_chain.jobs.logins import Logins

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.jobs.job import Job


def logins_for(job: Job, transports: Iterable[str]) -> Logins:
    """Read the connections of a job.

    Args:
        job: The job.
        transports: Allowed git transports: any of https, ssh, file, http.

    Raises:
        ConfigurationError: A connection is missing or wrong. Not retryable.
        SourceError: The source's URL is malformed, or its transport is not allowed. Not retryable.
    """
    return Logins(
        registries={name: OciRegistryHook(name).registry() for name in job.registries},
        sources={
            one.connection: GitSourceHook(one.connection, transports).source(one.url) for one in job.sources
        },
    )
