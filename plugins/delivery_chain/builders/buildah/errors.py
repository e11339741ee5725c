"""Maps buildah's messages to errors: buildah exits with 125 or 1 on any failure, so only the text tells them apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from delivery_chain.core.dockerfile.error_line import place
from delivery_chain.errors import (
    BuildFailed,
    DiskFull,
    NotFound,
    RegistryBusy,
    RegistryFailure,
    RegistryUnreachable,
    ToolError,
    ToolMissing,
    ToolTimeout,
    Unauthorized,
)

if TYPE_CHECKING:
    from delivery_chain.errors import DeliveryChainError, RegistryError

_SILENT = "it did not respond; a retry may help"
_UNKNOWN = "the host name can't be resolved: check the spelling; if it is correct, a retry may help"
_REGISTRY: tuple[tuple[str, type[RegistryError], str], ...] = (
    (r"toomanyrequests|\b429\b", RegistryBusy, "it asked to slow down; a retry waits"),
    (
        r"unauthorized|authentication required|denied|forbidden|status code 40[13]",
        Unauthorized,
        "it rejected the credentials; check the user name, password and permissions of its connection",
    ),
    (
        r"certificate|x509|server gave http response to https client",
        RegistryUnreachable,
        "no trusted TLS connection could be made; check the CA certificate and plain_http of its connection",
    ),
    (r"no such host", RegistryUnreachable, _UNKNOWN),
    (r"connection refused|timeout|timed out|network is unreachable", RegistryUnreachable, _SILENT),
    (r"no route to host|reset by peer|\beof\b|broken pipe|temporary failure", RegistryUnreachable, _SILENT),
    (r"closed network connection|server misbehaving", RegistryUnreachable, _SILENT),
    (
        r"status(?: code)?:? 5\d\d|\b50[0234] ",
        RegistryFailure,
        "it returned a server error (5xx); a retry may help",
    ),
    (
        r"manifest unknown|name unknown|not found|status code 404",
        NotFound,
        "the image does not exist; check its name",
    ),
)
_NAMES = re.compile(r"docker://[^\s\"]+|sha256:[0-9a-f]+")
"""Names, to be ignored: they may contain anything, such as a digest with 429 or a repository named `denied`."""
_NOT_PULLED = re.compile(
    r"(?:^|: )(\S+): image not known|from=(\S*?): no stage or image found with that name", re.IGNORECASE
)
"""buildah's message for an image that is not in its storage when pulling is disabled."""


def of_pull(error: ToolError, what: str) -> DeliveryChainError:
    """Return the error for a failed `buildah pull`."""
    if isinstance(error, DiskFull | ToolMissing | ToolTimeout):
        return error
    found = _of_registry(_said_of_registry(error), what)
    if isinstance(found, Unauthorized):
        return Unauthorized(
            f"{found}\n    `build.from` of the spec defines what a chain may read, and with which login"
        )
    return found or BuildFailed(
        f"{what}: expected an image that can be pulled from a registry; correct the Dockerfile:",
        tool="buildah",
        exit_code=error.exit_code,
        output=error.output,
    )


def of_build(error: ToolError, target: str, dockerfile: str = "") -> DeliveryChainError:
    """Return the error for a failed `buildah bud`.

    Args:
        error: The process's error.
        target: The image's name.
        dockerfile: The Dockerfile's text, from `decode`.
    """
    if isinstance(error, DiskFull | ToolMissing | ToolTimeout):
        return error
    missing = _NOT_PULLED.search(_said(error))
    if missing:
        return BuildFailed(
            f"build of {target}: {(missing[1] or missing[2])!r} was not pulled: expected a "
            "name given in full in the Dockerfile, found one that the build computes (a variable of the base image, "
            "ONBUILD); a build itself pulls nothing. Write the image's name into the Dockerfile",
            tool="buildah",
            exit_code=error.exit_code,
            output=error.output,
        )
    where = place(dockerfile, error.output)
    failed = f"uild of {target}: the Dockerfile failed; what it printed is above"
    return BuildFailed(
        f"{where}\n    B{failed}" if where else f"b{failed}",
        tool="buildah",
        exit_code=error.exit_code,
        output=error.output,
        logged=True,
    )


def of_push(error: ToolError, target: str) -> DeliveryChainError:
    """Return the error for a failed `buildah push`."""
    if isinstance(error, DiskFull | ToolMissing | ToolTimeout):
        return error
    return _of_registry(_said_of_registry(error), f"push of {target}") or ToolError(
        f"push of {target}: buildah failed; its last lines:",
        tool="buildah",
        exit_code=error.exit_code,
        output=error.output,
    )


def _said(error: ToolError) -> str:
    lines = [line for line in error.output if line.lower().startswith("error")]
    return lines[-1] if lines else ""


def _said_of_registry(error: ToolError) -> str:
    """Return the last error and the lines after it: a registry may give several reasons."""
    starts = [at for at, line in enumerate(error.output) if line.lower().startswith("error")]
    return " ".join(error.output[starts[-1] :]) if starts else ""


def _of_registry(said: str, what: str) -> RegistryError | None:
    words = _NAMES.sub("", said)
    for pattern, kind, meaning in _REGISTRY:
        if re.search(pattern, words, re.IGNORECASE):
            return kind(f"{what}: {meaning}\n    {said}")
    return None
