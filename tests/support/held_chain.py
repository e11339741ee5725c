"""A chain whose Dag is paused for a while: its spec, its source, the pushes to it, and a chart next to its images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_MANIFEST
from support.branches import git, push_again, push_branches
from support.faults import FROM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.sandbox.layout import Layout

CHAIN = "held"
IMAGE = "held/app"
HELM = "application/vnd.cncf.helm.config.v1+json"
SPEC = f"""\
version: 1
name: {CHAIN}
scope: {{instance: cn-hangzhou, namespace: held, repositories: [app]}}
sources: {{app: {{connection: git_shop, url: held/app.git}}}}
build: {{rules: [{{name: any, branch: '(?<branch>.+)', tags: [{{tag: '${{branch}}'}}]}}]}}
scan: {{enabled: false}}
replicate: [{{name: near, to: ap-southeast-1}}]
distribute: [{{name: tell, url_connection: faults_redeploy}}]
"""
DOCKERFILES = {"moves": FROM + 'LABEL a="1"\n', "stopped": FROM + 'LABEL a="2"\n'}
"""Dockerfiles by branch, pushed while the Dag is paused."""
SOON = FROM + 'RUN ["/bin/busybox", "sleep", "15"]\n'
"""Seconds that a build waits: long enough to be stopped, short enough to be repeated."""
STOPPED = {
    "goes-on": SOON + 'LABEL b="1"\n',
    "at-once": SOON + 'LABEL b="2"\n',
    "task": SOON + 'LABEL b="3"\n',
}
"""Dockerfiles by branch; their builds are stopped."""


def repository(layout: Layout) -> Path:
    """Path of the chain's source."""
    return layout.git / "held" / "app.git"


def create_source(layout: Layout) -> None:
    """Create the source, empty."""
    git(layout, "init", "--quiet", "--bare", str(repository(layout)))


def push(layout: Layout, folder: Path, dockerfiles: Mapping[str, str]) -> dict[str, str]:
    """Push all branches at once; return their commits."""
    return push_branches(layout, folder, repository(layout), dockerfiles)


def move(layout: Layout, folder: Path) -> str:
    """Push to the branch `moves` again; return the commit."""
    return push_again(layout, folder, repository(layout), "moves", FROM + 'LABEL a="3"\n')


def push_chart(home: Registry, tag: str) -> str:
    """Push a Helm chart next to the images; return its digest."""
    with RegistryClient(home) as client:
        config, chart = client.put_blob_bytes(IMAGE, b"{}"), client.put_blob_bytes(IMAGE, b"chart")
        raw = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": HELM, "digest": config.digest, "size": 2},
                "layers": [
                    {
                        "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                        "digest": chart.digest,
                        "size": 5,
                    }
                ],
            }
        ).encode()
        return client.put_manifest(IMAGE, tag, raw, OCI_MANIFEST)
