"""Every error the project raises, and whether a retry helps.

    DeliveryChainError                  not retryable unless noted below
    ├── SpecError                       an invalid spec: file, line, key path and message of each problem
    ├── UsageError                      invalid arguments of a command or values of a form
    ├── InvalidReference                also ValueError: an invalid repository, tag or digest
    ├── EventRefused                    the event starts no run; says why
    │   ├── Superseded                  superseded by a newer push of the same ref
    │   └── BuiltBefore                 a redelivered push whose image exists
    ├── UnderWay                        retryable: an earlier run has to end first
    ├── WebhookRefused                  a webhook request is rejected: status, and the reason in one line
    │   └── Unproven                    401: it carries no valid signature or token
    ├── ConfigurationError              a connection, setting or file of this installation is missing or wrong
    │   └── ConnectionMissing           Airflow has no connection of this name
    ├── TaskStopped                     retryable: Airflow asked the task to stop
    ├── JobFailed                       a job ended with an error unknown to this release
    ├── JobLost                         retryable: a job ended without a result
    ├── RegistryError                   a registry request failed: method, url (redacted), status, codes
    │   ├── RegistryUnreachable         retryable
    │   ├── RegistryBusy                retryable; retry_after from 429/503
    │   ├── RegistryFailure             retryable: 5xx
    │   ├── Unauthorized                401 or 403; never shows the credential
    │   ├── DeletesDisabled             the registry has deletes disabled, the default of docker-registry
    │   ├── NotFound                    manifest, blob or repository
    │   ├── ContentMismatch             retryable: the bytes do not match their digest or size
    │   ├── TagConflict                 the target tag exists with another digest, or is immutable
    │   └── ProtocolViolation           the registry broke the OCI distribution spec
    ├── ToolError                       an external program failed: tool, exit code, last lines of its output
    │   ├── ToolMissing                 names the tool and how to install it
    │   ├── ToolTimeout                 the deadline passed; the tool was stopped
    │   ├── ProbeFailed                 retryable: probing this worker's capabilities failed
    │   ├── DiskFull                    retryable: the machine may have free space later
    │   ├── SourceError                 git: forbidden transport, missing ref, no permission
    │   │   └── SourceUnreachable       retryable
    │   ├── BuildFailed                 the Dockerfile or its context is at fault
    │   ├── ScanFailed                  the report is missing, partial or unreadable, or the database missing or stale
    │   │   └── DatabaseUnavailable     retryable: the vulnerability database can't be fetched now
    │   └── AirflowUnreachable          retryable: Airflow's API or database did not answer
    ├── DeliveryFailed                  a trigger's target rejected the delivery; `attempts` has the details
    │   └── DeliveryUnavailable         retryable: timeout, connection error, 429, 5xx
    ├── NotDelivered                    the run did not succeed; the message says how it ended
    └── PolicyViolation                 the scan worked, the image is refused; carries the matching clauses
        ├── Unjudged                    a step would release a digest that no gate passed
        └── SealBroken                  a step's result was changed after the step wrote it, or copied from elsewhere

Airflow's retry decision is made from two attributes, see `delivery_chain.retry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTPUT_LINES = 20
"""Number of output lines that an error keeps: enough for a compiler's message, short enough to read."""


class DeliveryChainError(Exception):
    """Base of all errors: the message names the thing, what was expected, what was found and the next step."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later with nothing changed."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the server asked to wait before the next attempt, or None."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in a spec file."""

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
    """Invalid chain spec. Nothing was started. A retry without an edit fails again."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class UsageError(DeliveryChainError):
    """Invalid value in a command line or form. Nothing was started. Correct it and try again."""


class InvalidReference(DeliveryChainError, ValueError):
    """Invalid repository, tag or digest. Nothing was sent."""


class EventRefused(DeliveryChainError):
    """The event starts no run, for the reason in the message. Nothing was built or moved."""


class Superseded(EventRefused):
    """Superseded by a newer push of the same ref, whose own run does the work. Nothing was moved."""


class BuiltBefore(EventRefused):
    """A redelivered push whose image is in the registry. Nothing was built or moved."""


class UnderWay(DeliveryChainError):
    """Another run, which may be of the same push, has not ended."""

    retryable = True


class WebhookRefused(DeliveryChainError):
    """A webhook request is rejected. Nothing was started. The sender has to send a corrected request."""

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status
        """Status of the response: 400, 401, 408, 413, 429 or 503."""


class Unproven(WebhookRefused):
    """A webhook request carries no valid signature or token. Nothing was started. Correct the secret at the sender."""

    def __init__(self, why: str = "") -> None:
        """Refuse every such request alike.

        Args:
            why: Goes only into the log, because it may reveal which connections exist.
        """
        super().__init__(401, "the request carries no valid signature or token")
        if why:
            self.add_note(why)


class ConfigurationError(DeliveryChainError):
    """Something in this installation is missing or wrong. Nothing was done. Fix it, then clear the task."""


class ConnectionMissing(ConfigurationError):
    """Airflow has no connection of this name. Nothing was done. Add it, then clear the task."""


class TaskStopped(DeliveryChainError):
    """Airflow asked the task to stop. Work in flight was stopped and removed. A retry starts it over."""

    retryable = True


class JobFailed(DeliveryChainError):
    """A job failed in a way unknown to this release; a retry does not help."""


class JobLost(DeliveryChainError):
    """A job ended without a result: its process, container or machine was lost. A retry starts it over."""

    retryable = True


class RegistryError(DeliveryChainError):
    """A registry did not fulfil a request."""

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
        """Redacted: query values outside an allowlist are left out."""
        self.status = status
        self.codes = tuple(codes)
        """The registry's own error codes, such as `MANIFEST_UNKNOWN`."""


class RegistryUnreachable(RegistryError):
    """No response, because of DNS, routing, TLS or a broken connection. Uploaded content stays. A retry resumes."""

    retryable = True


class RegistryBusy(RegistryError):
    """The registry asked to slow down (429, 503). Uploaded content stays. A retry waits `retry_after`."""

    retryable = True


class RegistryFailure(RegistryError):
    """The registry itself failed (5xx). Uploaded content stays. A retry may work."""

    retryable = True


class Unauthorized(RegistryError):
    """The registry does not know the user (401) or denies access (403). Nothing was changed."""


class DeletesDisabled(RegistryError):
    """The registry has deletes disabled. Nothing was changed. Enable deletes there, then clear the task."""


class NotFound(RegistryError):
    """The manifest, blob or repository does not exist. Nothing was changed."""


class ContentMismatch(RegistryError):
    """Bytes did not match their digest or size. They were discarded. A retry fetches them again."""

    retryable = True


class TagConflict(RegistryError):
    """TAG_CONFLICT: the tag exists with another digest and may not be moved. The tag is unchanged."""


class ProtocolViolation(RegistryError):
    """The registry's response violates the OCI distribution spec. Nothing in it was used."""


class ToolError(DeliveryChainError):
    """An external program failed."""

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
        # Don't repeat output that is in the log already.
        shown = "" if logged else "".join(f"\n    {line}" for line in kept)
        super().__init__(f"{message}{shown}", retry_after=retry_after)
        self.tool = tool
        self.exit_code = exit_code
        self.output = kept
        """The last lines of what the tool printed, secrets masked."""


class ToolMissing(ToolError):
    """A program is not installed. Nothing was done. Install it on the worker, then clear the task."""


class ToolTimeout(ToolError):
    """A program exceeded its deadline and was stopped together with its children. Its output was removed."""


class DiskFull(ToolError):
    """The worker's disk is full. Partial files were removed. A retry may find space."""

    retryable = True


class ProbeFailed(ToolError):
    """Probing this worker's capabilities failed. Nothing was built. A retry may work."""

    retryable = True


class SourceError(ToolError):
    """Git failed: a transport that is not allowed, a missing ref, no permission."""


class SourceUnreachable(SourceError):
    """The git server did not answer. Nothing was changed. A retry may work."""

    retryable = True


class BuildFailed(ToolError):
    """The Dockerfile or its context is at fault. Nothing was pushed. The source has to change."""


class ScanFailed(ToolError):
    """Without a complete and current report, the image does not pass. Nothing was published."""


class DatabaseUnavailable(ScanFailed):
    """The vulnerability database can't be fetched now. Nothing was published. A retry may work."""

    retryable = True


class AirflowUnreachable(ToolError):
    """Airflow's API or database did not answer, and may or may not have got the request. A retry may work."""

    retryable = True


class DeliveryFailed(DeliveryChainError):
    """A trigger's target rejected the delivery. Sending the same again fails again."""


class DeliveryUnavailable(DeliveryFailed):
    """A trigger's target did not answer, or failed. A retry sends the same delivery id."""

    retryable = True


class NotDelivered(DeliveryChainError):
    """The run did not succeed; its task `report` fails with this, so that the run fails in Airflow, too.

    Fix what the message names and clear the failed task: `report` runs again by itself.
    """


class PolicyViolation(DeliveryChainError):
    """The gate refuses the image. It was quarantined as its rule says. The image or the rule has to change."""


class Unjudged(PolicyViolation):
    """No gate of this run passed this digest, so it is not released. Nothing was moved or sent."""


class SealBroken(PolicyViolation):
    """A result was not written by its step: it was changed, or copied from elsewhere. Nothing was moved or sent."""
