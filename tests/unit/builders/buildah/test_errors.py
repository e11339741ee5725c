"""The errors that buildah's last lines are mapped to."""

from __future__ import annotations

import pytest

from delivery_chain.builders.buildah.errors import of_build, of_pull, of_push
from delivery_chain.errors import (
    BuildFailed,
    DeliveryChainError,
    DiskFull,
    NotFound,
    RegistryBusy,
    RegistryFailure,
    RegistryUnreachable,
    ToolError,
    Unauthorized,
)


def failed(*lines: str) -> ToolError:
    return ToolError("x", tool="buildah", exit_code=125, output=lines)


PULL = "Error: creating build container: initializing source docker://h/a:1: "


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            PULL + "pinging container registry h: dial tcp 127.0.0.1:1: connect: connection refused",
            RegistryUnreachable,
        ),
        (PULL + "reading manifest 1 in h/a: manifest unknown", NotFound),
        (PULL + "reading manifest 1 in h/a: unauthorized: authentication required", Unauthorized),
        (
            PULL + "reading manifest 1 in h/a: errors:\ndenied: x\nunauthorized: authentication required",
            Unauthorized,
        ),
        (PULL + "reading manifest 1 in h/a: toomanyrequests: slow down", RegistryBusy),
        (PULL + "received unexpected HTTP status: 503 Service Unavailable", RegistryFailure),
        (PULL + 'Get "http://h/v2/a/blobs/1": EOF', RegistryUnreachable),
        (
            PULL + 'Get "http://h/v2/": write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe',
            RegistryUnreachable,
        ),
        (PULL + "dial tcp: lookup h on 10.0.0.1:53: server misbehaving", RegistryUnreachable),
        (
            "Error: creating build container: Source image rejected: Running image oci:/x is rejected",
            BuildFailed,
        ),
    ],
)
def test_pull(line: str, kind: type[DeliveryChainError]) -> None:
    """A base image that can't be had is the registry's error, one that is refused the Dockerfile's."""
    error = of_pull(failed(*line.split("\n")), "Dockerfile:3: FROM h/a:1")
    assert (type(error), "Dockerfile:3: FROM h/a:1" in str(error)) == (kind, True)


def test_a_base_image_of_an_unknown_host_may_be_misspelt() -> None:
    """An unknown host may be misspelled, so waiting is not the only advice."""
    error = of_pull(
        failed(PULL + "dial tcp: lookup h on 10.0.0.1:53: no such host"), "Dockerfile:3: FROM h/a:1"
    )
    said = (
        "Dockerfile:3: FROM h/a:1: the host name can't be resolved: check the spelling; "
        "if it is correct, a retry may help"
    )
    assert (str(error).splitlines()[0], error.retryable) == (said, True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('Error: building at STEP "RUN x": while running runtime: exit status 3', "the Dockerfile failed"),
        ('Error: building at STEP "COPY x": no such file', "the Dockerfile failed"),
        ("Error: creating build container: h/a:1: image not known", "'h/a:1' was not pulled"),
        (
            "Error: --mount=from=h/b,target=/b from=h/b: no stage or image found with that name",
            "'h/b' was not pulled",
        ),
        ("Error: COPY --from=h/c: no stage or image found with that name", "'h/c' was not pulled"),
    ],
)
def test_build(line: str, message: str) -> None:
    """A build pulls nothing, so that whatever fails is the Dockerfile's."""
    error = of_build(failed("STEP 1/1", line), "x/y:1")
    assert (type(error), message in str(error)) == (BuildFailed, True)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("unauthorized: authentication required", Unauthorized),
        ("received unexpected HTTP status: 429 Too Many Requests", RegistryBusy),
        ("something else", ToolError),
    ],
)
def test_names_are_no_reasons(words: str, kind: type[DeliveryChainError]) -> None:
    """Neither the digits of a digest nor the name of a repository say what went wrong."""
    line = f'Error: pushing "localhost/build" to "docker://h/denied/timeout:1": blob sha256:82bba429828500 : {words}'
    assert type(of_push(failed(line), "h/denied/timeout:1")) is kind


def test_steps_can_not_pose_as_a_registry() -> None:
    """What a RUN step prints does not make its failure retryable."""
    error = of_build(
        failed(
            PULL + "connection refused",
            'Error: building at STEP "RUN x": while running runtime: exit status 1',
        ),
        "h/a:1",
    )
    assert (type(error), error.retryable) == (BuildFailed, False)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "Error: pushing image: writing blob: denied: requested access to the resource is denied",
            Unauthorized,
        ),
        (
            "Error: trying to reuse blob: checking whether a blob exists: authentication required",
            Unauthorized,
        ),
        ("Error: pinging container registry h: dial tcp: lookup h: no such host", RegistryUnreachable),
        ("Error: http: server gave HTTP response to HTTPS client", RegistryUnreachable),
        ("Error: received unexpected HTTP status: 500 Internal Server Error", RegistryFailure),
        ("Error: something new", ToolError),
    ],
)
def test_push(line: str, kind: type[DeliveryChainError]) -> None:
    """A push that fails is the registry's error where its words say so."""
    assert type(of_push(failed(line), "h/a:1")) is kind


def test_full_disk_stays_what_it_is() -> None:
    """Room on the disk is no fault of the Dockerfile."""
    error = DiskFull("x", tool="buildah")
    assert (of_build(error, "t"), of_push(error, "t")) == (error, error)
