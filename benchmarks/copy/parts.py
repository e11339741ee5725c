"""Parts of the copy benchmarks: registries on a tmpfs, images of random bytes, and the tools' commands."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT / "plugins", ROOT / "tests"):
    sys.path.insert(0, str(folder))

from delivery_chain.oci.client import RegistryClient  # noqa: E402 - after the path is set
from delivery_chain.oci.copy.tag import put_tag  # noqa: E402
from delivery_chain.oci.manifest import OCI_CONFIG, OCI_MANIFEST, Descriptor, parse_manifest  # noqa: E402
from support.oci_images import LAYER  # noqa: E402
from support.oci_registry import docker_registry  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from delivery_chain.core.names.registry import Registry

MB = 1_000_000
DEADLINE = 600


@dataclass(frozen=True, slots=True)
class Image:
    """The images to copy: the sizes of the layers in MB, and the number of such images."""

    name: str
    layers: tuple[int, ...]
    count: int = 1

    @property
    def size(self) -> int:
        """Total bytes of all layers."""
        return sum(self.layers) * MB * self.count


IMAGES = {
    image.name: image
    for image in (
        Image("5mb", (3, 2)),
        Image("300mb", (80, 60, 50, 40, 30, 15, 10, 8, 5, 2)),
        Image("2gb", (700, 600, 500, 200)),
        Image("200small", (1,), 200),
    )
}


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run of a command."""

    wall: float
    """Seconds."""
    cpu: float
    """CPU seconds of the client and its children, user and system."""
    inside: float = 0.0
    """Seconds that the command itself reports; 0 if it reports none."""


def push(registry: Registry, image: Image) -> None:
    """Put images of random bytes into a registry, as repository `bench/<name>` with the tags v0, v1, …"""
    with RegistryClient(registry) as client:
        for number in range(image.count):
            name = f"bench/{image.name}"
            config = client.put_blob_bytes(
                name, json.dumps({"os": "linux", "architecture": "amd64", "n": number}).encode()
            )
            layers = [
                replace(
                    client.put_blob_bytes(name, noise(f"{image.name} {number} {at}", size * MB)),
                    media_type=LAYER,
                )
                for at, size in enumerate(image.layers)
            ]
            put_image(client, name, f"v{number}", replace(config, media_type=OCI_CONFIG), layers)


def noise(seed: str, size: int) -> bytes:
    """Return incompressible bytes, equal for equal seeds."""
    chance = random.Random(seed)  # noqa: S311
    # At most 64 MB at a time, because `randbytes` creates one integer of that size.
    return b"".join(chance.randbytes(min(64 * MB, size - at)) for at in range(0, size, 64 * MB))


def put_image(
    client: RegistryClient, name: str, tag: str, config: Descriptor, layers: list[Descriptor]
) -> None:
    """Put a manifest under its digest and a tag."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    manifest = parse_manifest(json.dumps(document).encode(), OCI_MANIFEST)
    client.put_manifest(name, manifest.digest, manifest.raw, OCI_MANIFEST)
    put_tag(client, name, tag, manifest.digest)


@contextmanager
def fresh(folder: Path) -> Iterator[Registry]:
    """Run an empty registry in a process of its own; its data is under `folder`, and removed afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with docker_registry(folder) as registry:
            yield registry
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measured(commands: list[list[str]], *, at_once: bool = False) -> Run:
    """Run commands one after the other, or all at once, and add up the time that they took.

    Raises:
        AssertionError: A command failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with ThreadPoolExecutor(len(commands) if at_once else 1) as pool:
        done = list(pool.map(_run, commands))
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    try:
        inside = float(json.loads(done[0])["seconds"])
    except (ValueError, KeyError, TypeError):
        inside = 0.0
    return Run(wall, cpu, inside)


def _run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE, check=False, env=environment
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout


Commands = list[list[str]]


def ours(source: Registry, targets: list[Registry], image: Image, *extra: str) -> Commands:
    """Return one command, however many targets there are."""
    hosts = [source.host, *(target.host for target in targets)]
    tag = ":v0" if image.count == 1 else ""
    places = [f"{host}/bench/{image.name}{tag}" for host in hosts]
    plain = [f"--plain-http={host}" for host in hosts]
    many = [] if image.count == 1 else ["--all-tags=.*"]
    command = [
        sys.executable,
        "-c",
        "from delivery_chain.commands.main import main; raise SystemExit(main())",
        "copy",
        "--json",
    ]
    return [[*command, *plain, *many, *extra, *places]]


def skopeo(source: Registry, targets: list[Registry], image: Image) -> Commands:
    """Return one command per target."""
    return [_skopeo(source, target, image) for target in targets]


def _skopeo(source: Registry, target: Registry, image: Image) -> list[str]:
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    name = f"bench/{image.name}"
    if image.count > 1:
        sync = ["skopeo", "sync", "--all", "--src=docker", "--dest=docker", *plain]
        return [*sync, f"{source.host}/{name}", f"{target.host}/bench"]
    places = [f"docker://{host}/{name}:v0" for host in (source.host, target.host)]
    return ["skopeo", "copy", "--all", "--preserve-digests", *plain, *places]


def crane(source: Registry, targets: list[Registry], image: Image) -> Commands:
    """Return one command per target."""
    name, program = f"bench/{image.name}", os.environ.get("CRANE", "crane")
    tag, many = (":v0", []) if image.count == 1 else ("", ["--all-tags"])
    return [
        [program, "copy", "--insecure", *many, f"{source.host}/{name}{tag}", f"{target.host}/{name}{tag}"]
        for target in targets
    ]


def found_tools() -> dict[str, Callable[[Registry, list[Registry], Image], Commands]]:
    """Return the tools found on this machine, this project first."""
    crane_program = os.environ.get("CRANE", "crane")
    others = (("skopeo", "skopeo", skopeo), ("crane", crane_program, crane))
    return {"ours": ours} | {name: tool for name, program, tool in others if shutil.which(program)}
