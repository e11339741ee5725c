"""Defines a job, one build or scan as JSON: it names connections, commits and digests, but no path or password."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from delivery_chain.core.gate.findings import Database
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.value import Value
from delivery_chain.errors import UsageError
from delivery_chain.jobs.failure import Failure

LARGEST = 1024 * 1024
"""Maximum size in bytes of a job, of its logins and of its result."""


class SourceRef(Value):
    """A commit of a git source."""

    connection: str
    """Airflow connection of type `git`."""
    url: str
    """URL as in the spec: empty, relative to the connection's URL, or absolute."""
    ref: str
    """Full ref."""
    commit: str
    older: bool = False
    """Whether the ref may have moved past the commit."""
    submodules: bool = False


class ReadRef(Value):
    """A registry that base images may come from."""

    rule: str
    """Name for messages: `build.from[0]`."""
    connection: str
    host: str = ""
    """Registry's name in image references; empty for the connection's own host."""
    namespaces: tuple[str, ...] = ()
    """Namespaces that may be read; empty for all."""


class BuildJob(Value):
    """Builds one platform of a commit and pushes it under a tag."""

    kind: Literal["build"] = "build"
    builder: str
    options: dict[str, str] = {}
    """The builder's own settings."""
    source: SourceRef
    context: str
    dockerfile: str
    platform: Platform
    registry: str
    """Airflow connection of type `oci_registry`."""
    name: str
    """Repository with its namespace."""
    tag: str
    args: dict[str, str] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    reads: tuple[ReadRef, ...] = ()
    """Registries that base images may come from."""
    strangers: bool = False
    """Whether images of registries that `reads` does not list are read without a login."""
    seconds: float = Field(gt=0)
    """Timeout."""

    @property
    def registries(self) -> tuple[str, ...]:
        """Connections of type `oci_registry` that the job needs, each once."""
        return tuple(dict.fromkeys([self.registry, *(read.connection for read in self.reads)]))

    @property
    def sources(self) -> tuple[SourceRef, ...]:
        """Git sources that the job needs."""
        return (self.source,)


class ScanJob(Value):
    """Scans one image with one engine."""

    kind: Literal["scan"] = "scan"
    engine: str
    options: dict[str, Any] = {}
    """The engine's own options, see `scanners.interface.Options`."""
    registry: str
    """Airflow connection of type `oci_registry`."""
    name: str
    """Repository with its namespace."""
    digest: str
    """Digest of an image's own manifest, not of an index."""
    platform: str
    """The image's platform: `linux/arm64`."""
    seconds: float = Field(gt=0)
    """Time limit of the whole job."""

    @property
    def registries(self) -> tuple[str, ...]:
        """Connections of type `oci_registry` that the job needs."""
        return (self.registry,)

    @property
    def sources(self) -> tuple[SourceRef, ...]:
        """Git sources that the job needs: none."""
        return ()


class BuildDone(Value):
    """A pushed image."""

    kind: Literal["build"] = "build"
    digest: str
    build_seconds: float
    push_seconds: float
    isolation: str
    """Description of how RUN steps were isolated from the machine."""


class ScanDone(Value):
    """A scanned image. The registry has the engine's own report and the project's `ScanReport` as its referrers."""

    kind: Literal["scan"] = "scan"
    counts: dict[str, int]
    """Findings per severity."""
    database: Database
    """The vulnerability database that was used."""
    report: str
    """Digest of the blob with the `ScanReport` as JSON."""
    referrer: str
    """Digest of the referrer manifest under which the engine's own report is kept."""


Job = BuildJob | ScanJob
Done = BuildDone | ScanDone
JobResult = Annotated[Done | Failure, Field(discriminator="kind")]
_JOB: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])
_RESULT: TypeAdapter[Done | Failure] = TypeAdapter(JobResult)


def job_from_json(data: bytes) -> Job:
    """Parse a job written by `model_dump_json`.

    Raises:
        UsageError: It is too large, or not a job of this release. Not retryable.
    """
    if len(data) > LARGEST:
        raise UsageError(f"job: expected at most {LARGEST} bytes, found more")
    try:
        return _JOB.validate_json(data)
    except ValidationError as error:
        raise UsageError(f"job: expected one that this release knows, found {_first(error)}") from None


def result_from_json(data: bytes) -> Done | Failure:
    """Parse a result written by `model_dump_json`.

    Raises:
        UsageError: It is too large, or not a result of this release. Not retryable.
    """
    if len(data) > LARGEST:
        raise UsageError(f"job's result: expected at most {LARGEST} bytes, found more")
    try:
        return _RESULT.validate_json(data)
    except ValidationError as error:
        raise UsageError(
            f"job's result: expected one that this release knows, found {_first(error)}"
        ) from None


def _first(error: ValidationError) -> str:
    """Describe the location and reason of the first invalid value, without the value."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
