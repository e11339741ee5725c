"""The images that a build may read, decided by name before anything is sent."""

from __future__ import annotations

import pytest

from delivery_chain.core.dockerfile.base_image_policy import (
    BaseImagePolicy,
    ImageName,
    ReadRule,
    is_own_machine,
)
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import BuildFailed, InvalidReference
from support.builds import own_namespace

DIGEST = "sha256:" + "0" * 64
HOME = Registry("r.example.com", "robot", "s3cr3t")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("grafana/loki", "docker.io/grafana/loki:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("R.Example.com/a/b:1", "r.example.com/a/b:1"),
        ("r:5000/a", "r:5000/a:latest"),
        ("localhost/a", "localhost/a:latest"),
        (f"r.io/a/b@{DIGEST}", f"r.io/a/b@{DIGEST}"),
        (f"r.io/a/b:1@{DIGEST}", f"r.io/a/b:1@{DIGEST}"),
    ],
)
def test_names_in_full(text: str, expected: str) -> None:
    """As docker's users expect them."""
    assert str(ImageName.parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "oci:/x", "oci:x", "dir:/etc", "docker-daemon:debian:12", "docker://r.io/a", "docker-archive:x", "a:b:c",
        "containers-storage:x", "r.io/", "A", "-x", "a b", "r.io/a@sha256:0", "r.io/../a", "r.io/a:",
        "sha256:" + "0" * 64 + "/x", "oci-archive:/mnt/context/a.tar", "tarball:/x", "sif:x",
    ],
)  # fmt: skip
def test_no_names(text: str) -> None:
    """Files and daemons of the worker, and what no registry takes."""
    with pytest.raises(InvalidReference):
        ImageName.parse(text)


def login(policy: BaseImagePolicy, name: str) -> tuple[str, str]:
    rule = policy.rule_for(ImageName.parse(name), "line 1")
    return rule.registry.host, rule.registry.username


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("r.example.com/shop/base", ("r.example.com", "robot"), id="own namespace"),
        pytest.param("r.example.com/shop/deep/base", ("r.example.com", "robot"), id="below it"),
        pytest.param("debian", ("docker.io", ""), id="Docker Hub"),
        pytest.param("r.example.com:444/shop/a", ("r.example.com:444", ""), id="another port"),
    ],
)
def test_without_rules(name: str, expected: tuple[str, str]) -> None:
    """The chain's login is for its own namespace only; other registries are read without one."""
    assert login(own_namespace(HOME, "shop"), name) == expected


def test_official_images_are_everybodys() -> None:
    """They are read without a login, also where the chain's own registry is Docker Hub."""
    home = Registry("index.docker.io", "robot", "x")
    assert login(own_namespace(home, "shop"), "debian") == ("docker.io", "")


OWN = own_namespace(HOME, "shop")
RULES = BaseImagePolicy(
    (
        ReadRule("build.from[0]", HOME.host, ("base", "shop"), HOME),
        ReadRule("build.from[1]", "docker.io", (), Registry("mirror.example.com", "reader", "x")),
    ),
    strangers=False,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("r.example.com/base/a", ("r.example.com", "robot"), id="listed"),
        pytest.param("debian", ("mirror.example.com", "reader"), id="mirror"),
    ],
)
def test_with_rules(name: str, expected: tuple[str, str]) -> None:
    """Each registry has its own login."""
    assert login(RULES, name) == expected


@pytest.mark.parametrize(
    ("policy", "name", "message"),
    [
        pytest.param(
            RULES, "r.example.com/secretteam/a", r"build.from\[0\] allows base, shop of", id="namespace"
        ),
        pytest.param(RULES, "quay.io/a/b", "no entry of `build.from` is for quay.io", id="registry"),
        pytest.param(OWN, "r.example.com/secretteam/app", "own namespace allows shop of", id="another's"),
        pytest.param(OWN, "R.example.com/shopping/app", "own namespace allows shop of", id="a longer name"),
        pytest.param(BaseImagePolicy((), strangers=False), "debian", "no entry", id="nothing"),
        pytest.param(BaseImagePolicy(), "127.0.0.1:5000/a", "is the worker itself", id="loopback"),
        pytest.param(BaseImagePolicy(), "localhost/build", "is the worker itself", id="localhost"),
    ],
)
def test_refusals(policy: BaseImagePolicy, name: str, message: str) -> None:
    """They name the image, the line, the rule and the next step."""
    with pytest.raises(BuildFailed, match=message) as caught:
        policy.rule_for(ImageName.parse(name), "Dockerfile:3: FROM x")
    text = str(caught.value)
    assert ("Dockerfile:3:" in text, str(ImageName.parse(name)) in text, "build.from" in text) == (True,) * 3


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:5000", True), ("a.localhost", True), ("127.1:80", True), ("2130706433", True), ("0x7f000001", True),
        ("0177.0.0.1", True), ("[::1]:80", True), ("[::ffff:127.0.0.1]", True), ("0.0.0.0", True),  # noqa: S104 - a text
        ("169.254.169.254", True),
        ("10.0.0.1", False), ("r.example.com", False), ("localhost.example.com", False), ("LOCALHOST.".lower(), True),
    ],
)  # fmt: skip
def test_own_machine(host: str, *, expected: bool) -> None:
    """However it is spelled."""
    assert is_own_machine(host) is expected
