"""A worker that is killed in the middle of a copy: its retry goes on instead of starting over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.results import RegionResult, Subject
from delivery_chain.core.seal import unproven
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import put_tag
from delivery_chain.operators.publish import PublishOperator
from support.chain_steps import NAME, Run, chain, image_plan, verdict
from support.oci_images import push_image
from support.oci_proxy import line_to
from support.oci_registry import docker_registry
from support.replicate_worker import start_try

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

pytestmark = pytest.mark.integration
LAYERS, LAYER, AT_ONCE = 12, 2_000_000, 4


def connect(monkeypatch: pytest.MonkeyPatch, name: str, registry: Registry) -> None:
    fields = {"conn_type": "oci_registry", "host": registry.host, "extra": {"plain_http": True}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


def published(home: Registry) -> tuple[Run, str]:
    """A run about a large image, up to `replicate`."""
    with RegistryClient(home) as client:
        image = push_image(client, NAME, sizes=(LAYER,) * LAYERS)
        put_tag(client, NAME, "v1", image.digest)
    spec = chain(replicate=[{"name": "to-west", "to": "west"}])
    run = Run(spec, image_plan(image.digest, "v1"))
    run.leave("assemble", Subject(digest=image.digest, media_type=image.media_type, size=image.size))
    run.leave("gate", verdict(image.digest))
    run.do(PublishOperator(task_id="publish"))
    return run, image.digest


def test_the_retry_of_a_killed_worker_sends_no_finished_blob_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after half of the bytes: no tag has moved; the retry sends the rest, and what was under way once more."""
    folders = {name: tmp_path / name for name in ("home", "west", "task")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER", str(tmp_path / "work"))
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__REGISTRY_MEGABYTES_PER_SECOND", "16")
    with (
        docker_registry(folders["home"]) as home,
        docker_registry(folders["west"]) as west,
        line_to(west) as line,
    ):
        connect(monkeypatch, "home", home)
        connect(monkeypatch, "west", line.registry)
        run, digest = published(home)
        first = start_try(run, 0, folders["task"])
        try:
            line.wait_for(up=LAYERS * LAYER // 2)
        finally:
            first.kill()
            first.join()
        with RegistryClient(west) as client:
            assert client.head_manifest(NAME, "v1") is None
        second = start_try(run, 0, folders["task"])
        second.join(60)
        assert second.exitcode == 0
        result = RegionResult.from_xcom(unproven(json.loads((folders["task"] / "result.json").read_text())))
        with RegistryClient(west) as client:
            held = client.head_manifest(NAME, "v1")
    assert held is not None
    assert (held.digest, result.digest, result.copied + result.skipped) == (digest, digest, LAYERS + 1)
    assert result.skipped >= 1
    assert line.up < (LAYERS + AT_ONCE + 1) * LAYER
