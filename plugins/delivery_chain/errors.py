"""Every error the project raises, and whether trying again helps.

    DeliveryChainError                  not retryable unless said otherwise below
    ├── SpecError                       problems: file, line, key path, message of each
    ├── UsageError                      a command or a form was filled in wrongly
    ├── InvalidReference                also ValueError: a repository, tag or digest no registry takes
    ├── EventRefused                    the event makes no run; says why
    │   ├── Superseded                  a newer push of the same ref is there
    │   └── BuiltBefore                 the push was told again, and its image is there
    ├── UnderWay                        retryable: an earlier run has to end first
    ├── WebhookRefused                  a webhook's request is not taken: status, and why in one line
    ├── ConfigurationError              a connection, setting or file of this installation is missing or wrong
    │   └── ConnectionMissing           Airflow has no connection of a name
    ├── TaskStopped                     retryable: Airflow told the task to end
    ├── JobFailed                       a job ended with an error that this release does not know
    ├── JobLost                         retryable: a job ended without a result
    ├── RegistryError                   method, url (redacted), status, codes
    │   ├── RegistryUnreachable         retryable
    │   ├── RegistryBusy                retryable; retry_after from 429/503
    │   ├── RegistryFailure             retryable: 5xx
    │   ├── Unauthorized                401 or 403; never shows the credential
    │   ├── DeletesDisabled             the registry deletes nothing, as docker-registry by default
    │   ├── NotFound                    manifest, blob or repository
    │   ├── ContentMismatch             retryable: the bytes are not what their digest or size says
    │   ├── TagConflict                 the target tag exists with another digest, or is immutable
    │   └── ProtocolViolation           the registry broke the OCI distribution spec
    ├── ToolError                       tool, exit code, last lines of its output
    │   ├── ToolMissing                 names the tool and how to install it
    │   ├── ToolTimeout                 the deadline passed; the tool was stopped
    │   ├── ProbeFailed                 retryable: what this worker can do could not be found out
    │   ├── DiskFull                    retryable: the machine may have room later
    │   ├── SourceError                 git: refused transport, missing ref, no permission
    │   │   └── SourceUnreachable       retryable
    │   ├── BuildFailed                 the Dockerfile's own failure, or the context's
    │   ├── ScanFailed                  no report, a partial or unreadable one, no or a stale database
    │   │   └── DatabaseUnavailable     retryable: the vulnerability database can't be fetched now
    │   └── AirflowUnreachable          retryable: Airflow's API or database did not answer
    ├── DeliveryFailed                  a trigger's target answered wrongly; attempts tells all
    │   └── DeliveryUnavailable         retryable: timeout, connection error, 429, 5xx
    ├── NotDelivered                    the run did not do what it should; says how it ended
    └── PolicyViolation                 the scan worked, the image is refused; carries the clauses hit
        ├── Unjudged                    a step was asked to let out a digest that no gate passed
        └── SealBroken                  what a step left was changed by somebody else, or copied from elsewhere

Airflow's retry decision is made from two attributes, see `delivery_chain.retry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTPUT_LINES = 20
"""Lines of a tool's output that an error keeps: enough for a compiler's message, short enough to read."""


class DeliveryChainError(Exception):
    """Base of all errors: the message names the thing, what was expected, what was found and the next step."""

    retryable: ClassVar[bool] = False
    """Whether the same call may work later with nothing changed."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds the other side asked to wait before the next attempt, or None."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a spec file."""

    file: str
    line: int
    """1-based line in `file`."""
    key: str
    """Path such as `build.rules[0].tags`; empty for the document itself."""
    message: str

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}: {where}{self.message}"


class SpecError(DeliveryChainError):
    """A chain spec is wrong. Nothing was started. Running it again without an edit gives the same answer."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class UsageError(DeliveryChainError):
    """A command line or form has a wrong value. Nothing was started. Correct it and try again."""


class InvalidReference(DeliveryChainError, ValueError):
    """A repository, tag or digest is not one that a registry takes. Nothing was sent."""


class EventRefused(DeliveryChainError):
    """An event makes no run, for the reason in the message. Nothing was built or moved."""


class Superseded(EventRefused):
    """A newer push of the same ref is there; its own run does the work. Nothing was moved."""


class BuiltBefore(EventRefused):
    """A push was told again whose image is in the registry. Nothing was built or moved."""


class UnderWay(DeliveryChainError):
    """Another run, which may be of the same push, has not ended."""

    retryable = True


class WebhookRefused(DeliveryChainError):
    """A webhook's request is not taken. Nothing was started. The sender has to send another one."""

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status
        """What the sender is answered: 400, 401, 413, 429 or 503."""


class ConfigurationError(DeliveryChainError):
    """This installation lacks something, or has it wrong. Nothing was done. Fix it, then clear the task."""


class ConnectionMissing(ConfigurationError):
    """Airflow has no connection of a name. Nothing was done. Add it, then clear the task."""


class TaskStopped(DeliveryChainError):
    """Airflow told the task to end. What it had under way was stopped and removed. A retry starts it over."""

    retryable = True


class JobFailed(DeliveryChainError):
    """A job failed in a way that this release does not know, and trying again does not help."""


class JobLost(DeliveryChainError):
    """A job ended without a result: its process, container or machine went away. A retry starts it over."""

    retryable = True


class RegistryError(DeliveryChainError):
    """A registry did not do what was asked."""

    def __init__(
        self,
        message: str,
        *,
        method: str = "",
        url: str = "",
        status: int | None = None,
        codes: Sequence[str] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.method = method
        self.url = url
        """Redacted: query values apart from an allow-list are left out."""
        self.status = status
        self.codes = tuple(codes)
        """The registry's own error codes, such as `MANIFEST_UNKNOWN`."""


class RegistryUnreachable(RegistryError):
    """No answer: name, route, TLS or a connection that broke. What was uploaded stays. A retry goes on."""

    retryable = True


class RegistryBusy(RegistryError):
    """The registry asked to slow down (429, 503). What was uploaded stays. A retry waits `retry_after`."""

    retryable = True


class RegistryFailure(RegistryError):
    """The registry failed itself (5xx). What was uploaded stays. A retry may work."""

    retryable = True


class Unauthorized(RegistryError):
    """The registry knows no such user (401) or does not let it (403). Nothing was changed."""


class DeletesDisabled(RegistryError):
    """The registry deletes nothing. Nothing was changed. Enable deletes there, then clear the task."""


class NotFound(RegistryError):
    """The manifest, blob or repository is not there. Nothing was changed."""


class ContentMismatch(RegistryError):
    """Bytes did not match their digest or size. They were thrown away. A retry fetches them again."""

    retryable = True


class TagConflict(RegistryError):
    """TAG_CONFLICT: the tag exists with another digest and may not be moved. The tag was left alone."""


class ProtocolViolation(RegistryError):
    """The registry's answer breaks the OCI distribution spec. Nothing was taken from it."""


class ToolError(DeliveryChainError):
    """An outside program failed."""

    def __init__(
        self,
        message: str,
        *,
        tool: str = "",
        exit_code: int | None = None,
        output: Sequence[str] = (),
        logged: bool = False,
        retry_after: float | None = None,
    ) -> None:
        kept = tuple(output)[-OUTPUT_LINES:]
        # What stands in the log as it came is not said once more.
        shown = "" if logged else "".join(f"\n    {line}" for line in kept)
        super().__init__(f"{message}{shown}", retry_after=retry_after)
        self.tool = tool
        self.exit_code = exit_code
        self.output = kept
        """The last lines of what the tool printed, secrets masked."""


class ToolMissing(ToolError):
    """A program is not installed. Nothing was done. Install it on the worker, then clear the task."""


class ToolTimeout(ToolError):
    """A program ran past its deadline and was stopped with its children. What it wrote was removed."""


class DiskFull(ToolError):
    """The worker's disk is full. What was half written was removed. A retry may find room."""

    retryable = True


class ProbeFailed(ToolError):
    """What this worker offers could not be found out. Nothing was built. A retry may work."""

    retryable = True


class SourceError(ToolError):
    """Git refused: a transport that is not allowed, a ref that is not there, no permission."""


class SourceUnreachable(SourceError):
    """The git server did not answer. Nothing was changed. A retry may work."""

    retryable = True


class BuildFailed(ToolError):
    """The Dockerfile or its context is at fault. Nothing was pushed. The source has to change."""


class ScanFailed(ToolError):
    """There is no full and current report, so the image does not pass. Nothing was published."""


class DatabaseUnavailable(ScanFailed):
    """The vulnerability database can't be fetched now. Nothing was published. A retry may work."""

    retryable = True


class AirflowUnreachable(ToolError):
    """Airflow's API or database did not answer. Whether it heard the request is not known. A retry may work."""

    retryable = True


class DeliveryFailed(DeliveryChainError):
    """A trigger's target refused the delivery. Sending the same again gives the same answer."""


class DeliveryUnavailable(DeliveryFailed):
    """A trigger's target did not answer, or failed. A retry sends the same delivery id."""

    retryable = True


class NotDelivered(DeliveryChainError):
    """The run did not end well; its task `report` fails with this, so that Airflow has the run as failed, too.

    Mend what the message names and clear the task that failed: `report` is run again by itself.
    """


class PolicyViolation(DeliveryChainError):
    """The gate refuses the image. It was quarantined as its rule says. The image or the rule has to change."""


class Unjudged(PolicyViolation):
    """No gate of this run passed this digest, so it is not let out. Nothing was moved or sent."""


class SealBroken(PolicyViolation):
    """What a step left for others was not left by a step: it was changed, or copied. Nothing was moved or sent."""
