"""A worker is killed in the middle of a copy: its retry resumes instead of starting over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.results import RegionResult, Subject
from delivery_chain.core.seal import unproven
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import put_tag
from delivery_chain.operators.publish import PublishOperator
from support.chain_steps import NAME, Run, chain, image_plan, verdict
from support.oci_images import push_image
from support.oci_memory import memory_registry
from support.oci_proxy import line_to
from support.oci_registry import docker_registry
from support.replicate_worker import start_try

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

pytestmark = pytest.mark.integration
LAYERS, AT_ONCE = 12, 4
SMALL, LARGE = 2_000_000, 12_000_000
"""Sizes of layers in bytes, below and above `oci.copy.resume.WORTH_KEEPING`."""


@dataclass(frozen=True, slots=True)
class Killed:
    """Actions of the retry."""

    result: RegionResult
    more: int
    """Bytes sent to the region by both tries, in addition to the size of the layers."""
    resumed: int
    """Number of resumed uploads."""


def connect(monkeypatch: pytest.MonkeyPatch, name: str, registry: Registry) -> None:
    fields = {"conn_type": "oci_registry", "host": registry.host, "extra": {"plain_http": True}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


def published(home: Registry, layers: int, size: int) -> tuple[Run, str]:
    """A run for a large image, up to `replicate`."""
    with RegistryClient(home) as client:
        image = push_image(client, NAME, sizes=(size,) * layers)
        put_tag(client, NAME, "v1", image.digest)
    spec = chain(replicate=[{"name": "to-west", "to": "west"}])
    run = Run(spec, image_plan(image.digest, "v1"))
    run.leave("assemble", Subject(digest=image.digest, media_type=image.media_type, size=image.size))
    run.leave("gate", verdict(image.digest))
    run.do(PublishOperator(task_id="publish"))
    return run, image.digest


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Killed]:
    """Copy layers of a size to a region; kill the worker after half of the bytes, and let the retry finish."""
    folders = {name: tmp_path / name for name in ("home", "west", "task")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER", str(tmp_path / "work"))
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__REGISTRY_MEGABYTES_PER_SECOND", "16")

    def kill(layers: int, size: int, west: Registry) -> Killed:
        with docker_registry(folders["home"]) as home, line_to(west) as line:
            connect(monkeypatch, "home", home)
            connect(monkeypatch, "west", line.registry)
            run, digest = published(home, layers, size)
            first = start_try(run, 0, folders["task"])
            try:
                line.wait_for(up=layers * size // 2)
            finally:
                first.kill()
                first.join()
            with RegistryClient(west) as client:
                assert client.head_manifest(NAME, "v1") is None
            second = start_try(run, 0, folders["task"])
            second.join(120)
            assert second.exitcode == 0
            left = json.loads((folders["task"] / "result.json").read_text())
            result = RegionResult.from_xcom(unproven(left))
            with RegistryClient(west) as client:
                held = client.head_manifest(NAME, "v1")
        assert held is not None
        assert (held.digest, result.digest) == (digest, digest)
        assert result.copied + result.skipped == layers + 1
        return Killed(result, line.up - layers * size, line.resumed)

    return kill


def test_the_retry_sends_no_finished_blob_again(killed: Callable[..., Killed], tmp_path: Path) -> None:
    """Small layers that had arrived are found in the region; those in flight are sent again."""
    with docker_registry(tmp_path / "west") as west:
        again = killed(LAYERS, SMALL, west)
    assert again.result.skipped >= LAYERS // 2 - AT_ONCE
    assert again.more < (AT_ONCE + 1) * SMALL


def test_the_retry_goes_on_with_open_uploads(killed: Callable[..., Killed]) -> None:
    """For large layers, all in flight at once: the retry asks the region for the offset of each, and sends the rest.

    The registry is in memory, because docker-registry can't resume an upload that was cut.
    """
    with memory_registry(resumes=True) as west:
        again = killed(AT_ONCE, LARGE, west.registry)
    # One upload for each layer, one for the config, and one to probe whether digests are checked.
    assert (again.resumed, west.opened) == (AT_ONCE, AT_ONCE + 2)
    assert again.more < SMALL
