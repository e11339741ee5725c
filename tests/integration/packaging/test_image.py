"""The Dockerfile on a real engine, and builds inside its image, as its user and with compose's options."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from delivery_chain.core.names.registry import Registry
from delivery_chain.oci.client import RegistryClient
from delivery_chain.scanners.trivy.command import find_trivy
from support import docker_engine
from support.builds import running_registry
from support.docker_engine import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.docker_engine import Engine

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
IMAGE = "delivery-chain:test"
WORK = "/var/lib/delivery-chain/work"
BUILD = """
import json, os, shutil, signal, sys
from pathlib import Path
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.registry import Registry
from delivery_chain.builders.interface import BuildWork
from delivery_chain.builders.table import BUILDERS
from delivery_chain.tools.job_folder import job_folder

host, work_folder = sys.argv[1], Path(sys.argv[2])
jobs = work_folder / str(os.getuid()) / "jobs"


def build(name, step, on_line):
    with job_folder(work_folder, name, log=lines.append) as folder:
        context = folder / "context"
        context.mkdir(mode=0o755)
        context.chmod(0o755)
        shutil.copy("/busybox", context / "busybox")
        run = json.dumps(["/bin/busybox", "sh", "-c", step])
        (context / "Dockerfile").write_text(f"FROM scratch\\nCOPY busybox /bin/busybox\\nRUN {run}\\n")
        target = f"{host}/shop/api:{name}"
        registry = Registry(host, plain_http=True)
        work = BuildWork(context, context / "Dockerfile", Platform.LINUX_AMD64, target, registry, folder)
        return BUILDERS.load("buildah")().build(work, seconds=240, log=on_line)


lines = []
child = os.fork()
if child == 0:
    # In the RUN step, which has written files as another user, and a folder that forbids its removal.
    step = "/bin/busybox mkdir /closed; echo x > /closed/file; /bin/busybox chmod 0 /closed; echo $((6*7)) begun"
    build("killed", step, lambda line: "42 begun" in line and os.kill(os.getpid(), signal.SIGKILL))
# By its number: this is the container's first process, which orphans of all others come to.
killed = os.waitpid(child, 0)[1]
left = [path.name for path in jobs.iterdir()]
output = build("built", "echo 1 > /made; /bin/busybox chown 33:33 /made", lines.append)
after = [path.name for path in jobs.iterdir()]
print(json.dumps({
    "user": [os.getuid(), os.getgid()], "killed": killed, "left": left, "after": after,
    "swept": sum("removed leftovers of a killed job" in line for line in lines),
    "digest": output.digest, "isolation": output.isolation.partition(",")[0],
}))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine with the image; its gigabytes are removed after the module."""
    with tempfile.TemporaryDirectory(prefix="delivery-chain-tests-") as name:
        folder = Path(name)
        try:
            with docker_engine.engine(folder) as made:
                base = docker_engine.base_image(made, folder)
                trivy = docker_engine.trivy_image(made, folder, Path(find_trivy(wheel=True)))
                arguments = [f"--build-arg=BASE={base}", f"--build-arg=TRIVY={trivy}"]
                made.build(IMAGE, ROOT, *arguments, seconds=900)
                yield made
        except Unavailable as why:
            pytest.skip(str(why))


def options(service: str) -> list[str]:
    """The options of a service in docker-compose.yml beyond Docker's defaults, for `docker run`."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    said = yaml.safe_load(text)["services"][service]
    return [f"--security-opt={one}" for one in said["security_opt"]] + [
        f"--device={one}" for one in said["devices"] if Path(one).exists()
    ]


def test_the_image_has_what_a_worker_needs(engine: Engine) -> None:
    """Its user is not root, and finds Airflow, this project and the tools."""
    programs = ["airflow", "buildah", "runc", "slirp4netns", "git", "trivy"]
    script = f"id -un; delivery-chain dags-folder; for one in {' '.join(programs)}; do command -v $one; done"
    found = engine.docker(
        "run", "--rm", "--network=none", "--entrypoint=sh", IMAGE, "-c", script, seconds=120
    )
    user, dags, *paths = found.splitlines()
    assert (user, Path(dags).name) == ("airflow", "_dags")
    assert [Path(path).name for path in paths] == programs


def test_a_build_with_a_step_works_as_the_images_user(engine: Engine, tmp_path: Path) -> None:
    """In runc's container, with compose's options; leftovers of a killed build are removed."""
    with running_registry(tmp_path) as host:
        mounts = ["--volume=/bin/busybox:/busybox:ro", f"--volume=work:{WORK}"]
        command = ["run", "--rm", "--interactive", "--network=host", *options("scheduler"), *mounts]
        said = engine.docker(
            *command, "--entrypoint=python", IMAGE, "-", host, WORK, stdin=BUILD, seconds=300
        )
        found = json.loads(said.splitlines()[-1])
        digest = found.pop("digest")
        with RegistryClient(Registry(host, plain_http=True)) as client:
            held = client.head_manifest("shop/api", "built")
    assert found == {
        "user": [50000, 0],
        "killed": 9,
        "left": ["killed"],
        "after": [],
        "swept": 1,
        "isolation": "isolation container",
    }
    assert held is not None
    assert held.digest == digest
