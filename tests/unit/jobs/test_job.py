"""Jobs, their results and logins as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import ConfigurationError, SourceError, UsageError
from delivery_chain.jobs.job import (
    LARGEST,
    BuildDone,
    BuildJob,
    ReadRef,
    SourceRef,
    job_from_json,
    result_from_json,
)
from delivery_chain.jobs.logins import Logins
from delivery_chain.tools.git.source import GitSource, Transport

BUILD = BuildJob(
    builder="buildah",
    options={"isolation": "auto"},
    source=SourceRef(connection="git_shop", url="api.git", ref="refs/tags/v1", commit="a" * 40),
    context=".",
    dockerfile="Dockerfile",
    platform=Platform("linux/arm64"),
    registry="home",
    name="shop/api",
    tag="_staging-1",
    args={"A": "1"},
    reads=(ReadRef(rule="build.from[0]", connection="mirror", host="docker.io"),),
    seconds=60,
)
LOGINS = Logins(
    registries={
        "home": Registry(
            "r.example.com", "robot", "s3cr3t", ca_certificate="PEM", private_hosts=("10.0.0.1",)
        )
    },
    sources={
        "git_shop": GitSource(
            "ssh://git@git.example.com/shop/api.git",
            frozenset({Transport.SSH, Transport.HTTPS}),
            password="t0ken",
            private_key="KEY",
            submodule_hosts=frozenset({"*"}),
        )
    },
)


def test_a_job_is_json_both_ways() -> None:
    """What is written is read back equal."""
    assert job_from_json(BUILD.model_dump_json().encode()) == BUILD


def test_a_job_names_each_connection_once() -> None:
    """The registries whose logins it needs, home first."""
    again = BUILD.model_copy(update={"reads": (*BUILD.reads, ReadRef(rule="x", connection="home"))})
    assert again.registries == ("home", "mirror")


def test_a_result_is_json_both_ways() -> None:
    """What is written is read back equal."""
    done = BuildDone(digest="sha256:" + "1" * 64, build_seconds=1.5, push_seconds=0.25, isolation="chroot")
    assert result_from_json(done.model_dump_json().encode()) == done


def changed(**change: Any) -> bytes:
    return json.dumps({**BUILD.model_dump(mode="json"), **change}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "Invalid JSON", id="nothing"),
        pytest.param(b"[]", "", id="no object"),
        pytest.param(changed(kind="deploy"), "", id="a kind of another release"),
        pytest.param(
            changed(path="/etc"), "path: Extra inputs are not permitted", id="a key of another release"
        ),
        pytest.param(changed(seconds=0), "seconds: Input should be greater than 0", id="no time"),
        pytest.param(changed(platform=7), "platform: ", id="a number for a text"),
        pytest.param(b" " * (LARGEST + 1), f"at most {LARGEST} bytes", id="too large"),
    ],
)
def test_what_is_no_job_is_refused(data: bytes, message: str) -> None:
    """The error says where and why, without the value."""
    with pytest.raises(UsageError, match=r"^job: expected ") as caught:
        job_from_json(data)
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind":"failed"}', b" " * (LARGEST + 1)])
def test_what_is_no_result_is_refused(data: bytes) -> None:
    """A truncated result is rejected."""
    with pytest.raises(UsageError, match=r"^job's result: expected "):
        result_from_json(data)


def test_logins_are_json_both_ways() -> None:
    """What is written is read back equal, credentials included."""
    assert Logins.from_json(LOGINS.to_json()) == LOGINS


def test_logins_are_not_shown() -> None:
    """Neither a job nor the text of its logins has a credential."""
    shown = f"{BUILD.model_dump_json()} {LOGINS!r} {LOGINS}"
    assert [secret for secret in LOGINS.secrets if secret in shown] == []
    assert set(LOGINS.secrets) == {"s3cr3t", "t0ken", "KEY"}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"registries":{"home":{"host":7}}}', b'{"passwords":{}}', b"0" * (LARGEST + 1)]
)
def test_what_are_no_logins_is_refused(data: bytes) -> None:
    """The message shows nothing of them."""
    with pytest.raises(UsageError, match=r"^logins: expected ") as caught:
        Logins.from_json(data)
    assert 'host":7' not in str(caught.value)


def test_a_source_is_checked_again() -> None:
    """Logins can't make a source use a transport that it does not allow."""
    data = json.loads(LOGINS.to_json())
    data["sources"]["git_shop"]["url"] = "file:///etc"
    with pytest.raises(SourceError, match="transport file is not allowed"):
        Logins.from_json(json.dumps(data).encode())


def test_a_login_that_was_not_handed_in() -> None:
    """The error names it, and those that were."""
    with pytest.raises(ConfigurationError) as caught:
        LOGINS.registry("west")
    assert str(caught.value) == (
        "job: expected the login of registry 'west' among those handed in, found home"
    )
    with pytest.raises(ConfigurationError, match="git source 'west'"):
        LOGINS.source("west")
