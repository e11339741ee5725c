"""The real Trivy against real registries: what fails, and what that is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import (
    DatabaseUnavailable,
    DeliveryChainError,
    NotFound,
    RegistryUnreachable,
    ScanFailed,
    ToolMissing,
    ToolTimeout,
    Unauthorized,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.sandbox import vulndb
from support.oci_registry import docker_registry, free_port
from support.scan_images import CLEAN, OLD
from support.trivy_bench import ARM64, BUILT, DATABASE, Bench
from support.trivy_cases import NO_DIGEST, packed

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.scanners.interface import ScanOutput

pytestmark = pytest.mark.integration


class _Case:
    """A fault, and its expected error."""

    def missing_image(self, bench: Bench) -> ScanOutput:
        bench.push("demo/image", CLEAN)
        return bench.scan("demo/image", NO_DIGEST)

    def missing_repository(self, bench: Bench) -> ScanOutput:
        return bench.scan("demo/none", NO_DIGEST)

    def dead_registry(self, bench: Bench) -> ScanOutput:
        dead = Registry(f"127.0.0.1:{free_port()}", plain_http=True)
        return bench.scan("demo/image", NO_DIGEST, registry=dead)

    def another_platform(self, bench: Bench) -> ScanOutput:
        return bench.scan("demo/image", bench.push("demo/image", OLD), platform=ARM64)

    def no_image(self, bench: Bench) -> ScanOutput:
        head = bench.client.head_manifest(DATABASE, "2")
        assert head is not None
        return bench.scan(DATABASE, head.digest)

    def no_database(self, bench: Bench) -> ScanOutput:
        bench.options = bench.options.model_copy(
            update={"db_repository": f"127.0.0.1:{free_port()}/{DATABASE}:2"}
        )
        return bench.scan("demo/image", bench.push("demo/image", CLEAN))

    def database_not_in_the_mirror(self, bench: Bench) -> ScanOutput:
        bench.options = bench.options.model_copy(
            update={"db_repository": f"{bench.registry.host}/other/name:2"}
        )
        return bench.scan("demo/image", bench.push("demo/image", CLEAN))

    def mirror_holds_an_image(self, bench: Bench) -> ScanOutput:
        bench.options = bench.options.model_copy(
            update={"db_repository": f"{bench.registry.host}/demo/image:1"}
        )
        return bench.scan("demo/image", bench.push("demo/image", CLEAN))

    def another_source_is_down(self, bench: Bench) -> ScanOutput:
        bench.scan("demo/image", bench.push("demo/image", CLEAN))
        return self.no_database(bench)

    def corrupt_in_the_mirror(self, bench: Bench) -> ScanOutput:
        bench.publish(packed(b"no bbolt file" * 1000))
        return bench.scan("demo/image", bench.push("demo/image", OLD))

    def too_late(self, bench: Bench) -> ScanOutput:
        digest = bench.push("demo/image", OLD)
        bench.database_file()
        return bench.scan("demo/image", digest, seconds=0.005)


CASES: dict[str, tuple[type[DeliveryChainError], str]] = {
    "missing_image": (NotFound, NO_DIGEST),
    "missing_repository": (NotFound, "demo/none"),
    "dead_registry": (RegistryUnreachable, "127.0.0.1"),
    "another_platform": (ScanFailed, "expected an image for linux/arm64, found one for 'linux/amd64'"),
    "no_image": (ScanFailed, "its config lists 0 layers, its manifest 1"),
    "no_database": (DatabaseUnavailable, "[delivery_chain] trivy_db_repository"),
    "database_not_in_the_mirror": (DatabaseUnavailable, "other/name"),
    "mirror_holds_an_image": (DatabaseUnavailable, "demo/image:1"),
    "another_source_is_down": (DatabaseUnavailable, "[delivery_chain] trivy_db_repository"),
    "corrupt_in_the_mirror": (ScanFailed, "Trivy can't read it, even after a second download"),
    "too_late": (ToolTimeout, "trivy"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_fails_has_its_own_error(bench: Bench, case: str) -> None:
    """No fault gives a report; each error says what is wrong and what to do."""
    kind, message = CASES[case]

    with pytest.raises(DeliveryChainError) as caught:
        getattr(_Case(), case)(bench)

    assert (type(caught.value), message in str(caught.value)) == (kind, True), str(caught.value)


@pytest.mark.parametrize(
    "login", [{}, {"username": "robot", "password": "wrong-pass"}], ids=["none", "wrong"]
)
def test_a_login_that_is_not_taken_has_its_own_error(tmp_path: Path, login: dict[str, str]) -> None:
    """401 is distinguished from a failed scan, and the message has no password."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(folder, htpasswd=True) as registry, RegistryClient(registry) as client:
        vulndb.publish_sample_database(client, now=BUILT)
        bench = Bench(client, tmp_path / "cache")
        digest = bench.push("demo/old", OLD)
        other = Registry(registry.host, **login, plain_http=True)

        with pytest.raises(Unauthorized) as caught:
            bench.scan("demo/old", digest, registry=other)

    assert "wrong-pass" not in str(caught.value)


def test_without_trivy_the_error_says_how_to_install_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program is searched for before anything else."""
    monkeypatch.setenv("PATH", str(tmp_path))
    bench.options = bench.options.model_copy(update={"wheel": False})

    with pytest.raises(ToolMissing, match="from its maintainers"):
        bench.scan("demo/old", NO_DIGEST)
