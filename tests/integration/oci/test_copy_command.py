"""`delivery-chain copy` as used by people and scripts, between real registries, and killed midway."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.commands.main import main
from delivery_chain.oci.copy.api import put_tag
from delivery_chain.oci.referrers import attach, list_referrers
from support.oci_images import push_image, push_index
from support.oci_proxy import line_to
from support.oci_registry import PASSWORD, USER, docker_registry
from support.oci_tls import make_certificates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.manifest import Descriptor

pytestmark = pytest.mark.integration
PLUGINS = Path(__file__).parents[3] / "plugins"


def tagged(
    client: RegistryClient, name: str, tag: str, *, seed: int = 1, sizes: tuple[int, ...] = (3000,)
) -> Descriptor:
    image = push_image(client, name, seed=seed, sizes=sizes)
    put_tag(client, name, tag, image.digest)
    return image


def plain(*clients: RegistryClient) -> list[str]:
    return [f"--plain-http={client.registry.host}" for client in clients]


@pytest.fixture(autouse=True)
def no_logins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The developer's own logins are not found."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_an_image_goes_to_two_repositories(
    oci_client: RegistryClient,
    oci_target: RegistryClient,
    oci_repository: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Index, platforms and referrers arrive; the tag is the source's, or the given one."""
    children = tuple(
        push_image(oci_client, oci_repository, seed=seed, platform=f"linux/{one}")
        for seed, one in ((1, "amd64"), (2, "arm64"))
    )
    index = push_index(oci_client, oci_repository, children)
    put_tag(oci_client, oci_repository, "v1", index.digest)
    report = attach(oci_client, oci_repository, index, "x/report", b"{}", "application/json")
    source = f"{oci_client.registry.host}/{oci_repository}:v1"
    first, second = (f"{oci_target.registry.host}/{region}/{oci_repository}" for region in ("eu", "us"))

    code = main(["copy", *plain(oci_client, oci_target), source, first, f"{second}:stable"])

    out = capsys.readouterr()
    assert code == 0, out.err
    assert out.out.splitlines()[0].startswith(f"{first}:v1: {index.digest[:19]}, 7 blobs sent")
    tags = [
        oci_target.head_manifest(f"{region}/{oci_repository}", tag)
        for region, tag in (("eu", "v1"), ("us", "stable"))
    ]
    assert [one.digest for one in tags if one] == [index.digest] * 2
    assert [one.digest for one in list_referrers(oci_target, f"us/{oci_repository}", index.digest)] == [
        report.digest
    ]


def test_all_tags_that_match(
    oci_client: RegistryClient,
    oci_target: RegistryClient,
    oci_repository: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The pattern has to match whole tags; lists of referrers are not images."""
    for number, tag in enumerate(("v1", "v2", "v10-rc", "latest")):
        image = tagged(oci_client, oci_repository, tag, seed=number)
        attach(oci_client, oci_repository, image, "x/report", b"{}", "application/json")
    places = [f"{client.registry.host}/{oci_repository}" for client in (oci_client, oci_target)]

    code = main(["copy", "--json", "--all-tags", r"v\d+", *plain(oci_client, oci_target), *places])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [(one["tag"], one["targets"][0]["referrers"]) for one in document["images"]] == [
        ("v1", 1),
        ("v2", 1),
    ]
    assert [tag for tag in oci_target.list_tags(oci_repository) if not tag.startswith("sha256-")] == [
        "v1",
        "v2",
    ]


def test_a_dry_run_sends_nothing(
    oci_client: RegistryClient,
    oci_target: RegistryClient,
    oci_repository: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The plan is printed, and the target is unchanged."""
    image = tagged(oci_client, oci_repository, "v1")
    places = [
        f"{oci_client.registry.host}/{oci_repository}:v1",
        f"{oci_target.registry.host}/{oci_repository}",
    ]

    code = main(["copy", "--dry-run", *plain(oci_client, oci_target), *places])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].endswith(f"v1 is {image.digest}")
    assert lines[1].endswith("2 blobs (3.1 kB), 1 manifests, 0 referrers")
    assert oci_target.head_manifest(oci_repository, image.digest) is None


def test_logins_and_a_ca_are_found(
    tmp_path: Path,
    oci_client: RegistryClient,
    oci_repository: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The login comes from docker's file, the CA from the option; without the login, the error says what is missing."""
    authority, certificate, key = make_certificates(tmp_path)
    (tmp_path / "ca.pem").write_text(authority)
    tls = {"tls": {"certificate": str(certificate), "key": str(key)}}
    tagged(oci_client, oci_repository, "v1")
    source = f"{oci_client.registry.host}/{oci_repository}:v1"
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry", htpasswd=True, http=tls) as registry:
        command = [
            "copy",
            *plain(oci_client),
            f"--ca-file={registry.host}={tmp_path / 'ca.pem'}",
            source,
            f"{registry.host}/a",
        ]
        assert main([word for word in command if not word.startswith("--ca-file")]) == 1
        assert "--ca-file HOST=FILE" in (untrusted := capsys.readouterr().err)
        assert main(["copy", source, f"{registry.host}/a"]) == 1
        assert "--plain-http HOST" in (no_tls := capsys.readouterr().err)
        assert main(command) == 1
        assert "HTTP 401" in (no_login := capsys.readouterr().err)
        assert "docker login" in no_login
        assert not re.search("connection|worker", untrusted + no_tls + no_login)
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        assert main(command) == 0

    out = capsys.readouterr()
    assert PASSWORD not in out.out + out.err


def test_a_tag_that_may_not_move_is_an_error(
    oci_client: RegistryClient,
    oci_target: RegistryClient,
    oci_repository: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--no-overwrite` does not move another image's tag, and the exit code is 1."""
    tagged(oci_client, oci_repository, "v1")
    other = tagged(oci_target, oci_repository, "v1", seed=2)
    places = [
        f"{oci_client.registry.host}/{oci_repository}:v1",
        f"{oci_target.registry.host}/{oci_repository}",
    ]

    code = main(["copy", "--no-overwrite", *plain(oci_client, oci_target), *places])

    assert code == 1
    assert "TAG_CONFLICT" in capsys.readouterr().err
    held = oci_target.head_manifest(oci_repository, "v1")
    assert held is not None
    assert held.digest == other.digest


HOST = "127.0.0.1:1"
WRONG: dict[str, tuple[Sequence[str], str]] = {
    "no tag": ([f"{HOST}/a", f"{HOST}/b"], "expected a tag or digest"),
    "no host": (["a:v1", f"{HOST}/b"], "with the host"),
    "digest at the target": ([f"{HOST}/a:v1", f"{HOST}/b@sha256:{'0' * 64}"], "expected a tag or nothing"),
    "tags and all tags": (["--all-tags=.*", f"{HOST}/a:v1", f"{HOST}/b"], "without tag"),
    "no pattern": (["--all-tags=(", f"{HOST}/a", f"{HOST}/b"], "RE2"),
    "a rate of nothing": (["--limit-rate=fast", f"{HOST}/a:v1", f"{HOST}/b"], "bytes per second"),
    "no jobs": (["--jobs=0", f"{HOST}/a:v1", f"{HOST}/b"], "at least 1"),
    "twice the same": ([f"{HOST}/a:v1", f"{HOST}/b", f"{HOST}/b:v2"], "once"),
    "a CA without host": (["--ca-file=x.pem", f"{HOST}/a:v1", f"{HOST}/b"], "HOST=FILE"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_command_line_is_two(
    words: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No request is sent."""
    assert main(["copy", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_registry_that_is_not_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the address, and says what to check."""
    assert main(["copy", f"--plain-http={HOST}", f"{HOST}/a:v1", f"{HOST}/b"]) == 1
    assert "Check that the registry runs" in capsys.readouterr().err


def started(*words: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        "from delivery_chain.commands.main import main; raise SystemExit(main())",
        "copy",
        *words,
    ]
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_kill_at_any_moment_leaves_nothing_half_tagged(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Killed at random moments again and again, the tag is absent or complete; blobs stay, and a last try works."""
    image = tagged(oci_client, oci_repository, "v1", sizes=(6_000_000, 5_000_000, 4_000_000, 3_000_000))
    manifest = oci_client.get_manifest(oci_repository, image.digest)
    words = [
        *plain(oci_client, oci_target), "--limit-rate=30M", "--jobs=2",
        f"{oci_client.registry.host}/{oci_repository}:v1", f"{oci_target.registry.host}/{oci_repository}",
    ]  # fmt: skip
    chance = random.Random(7)  # noqa: S311
    held = 0
    for _ in range(6):
        process = started(*words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.2, 0.9))
        process.send_signal(signal.SIGKILL)
        process.wait()
        there = sum(oci_target.head_blob(oci_repository, blob.digest) is not None for blob in manifest.blobs)
        assert there >= held
        held = there
        if oci_target.head_manifest(oci_repository, "v1") is not None:
            assert held == len(manifest.blobs)

    assert started(*words).wait(60) == 0
    for blob in manifest.blobs:
        assert len(oci_target.get_blob(oci_repository, blob.digest)) == blob.size
    found = oci_target.head_manifest(oci_repository, "v1")
    assert found is not None
    assert found.digest == image.digest


def test_a_stop_by_hand_ends_at_once(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Ctrl-C ends a copy that would take minutes, with exit code 1 and no tag."""
    tagged(oci_client, oci_repository, "v1", sizes=(6_000_000, 5_000_000))
    with line_to(oci_target.registry) as line:
        process = started(
            *plain(oci_client), f"--plain-http={line.registry.host}", "--limit-rate=50k",
            f"{oci_client.registry.host}/{oci_repository}:v1", f"{line.registry.host}/{oci_repository}",
        )  # fmt: skip
        line.wait_for(up=50_000)
        process.send_signal(signal.SIGINT)

        assert process.wait(10) == 1
    assert oci_target.head_manifest(oci_repository, "v1") is None
