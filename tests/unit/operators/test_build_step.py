from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.core.results import BuildResult
from delivery_chain.core.spec.model import ReadFrom
from delivery_chain.errors import (
    BuildFailed,
    ConfigurationError,
    ContentMismatch,
    JobLost,
    NotFound,
    ProtocolViolation,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_INDEX, OCI_MANIFEST
from delivery_chain.operators.base import made_for
from delivery_chain.operators.build import AssembleOperator, BuildOperator, annotations_of
from support.chain_steps import (
    COMMIT,
    DAY,
    NAME,
    Run,
    both_platforms,
    build_plan,
    built,
    chain,
    image_plan,
    push_platform,
)
from support.ports import BUILT, NotingBuilder, noting_builder, noting_runner

if TYPE_CHECKING:
    from pathlib import Path

    from support.oci_memory import MemoryRegistry

DIGEST = "sha256:" + "1" * 64
BOTH = ("linux/amd64", "linux/arm64")


def test_annotations_say_where_an_image_comes_from() -> None:
    """A built image names its push, rule, run, commit and ref, and what it was built for."""
    assert annotations_of(build_plan()) == {
        "dev.delivery-chain.for": "push",
        "dev.delivery-chain.pushed-at": DAY.isoformat(),
        "dev.delivery-chain.rule": "release",
        "dev.delivery-chain.seen-at": DAY.isoformat(),
        "dev.delivery-chain.run": "shop r1",
        "dev.delivery-chain.tags": "v1.2 latest",
        "org.opencontainers.image.revision": COMMIT,
        "org.opencontainers.image.ref.name": "refs/tags/v1.2",
    }


def test_annotations_of_an_image_without_source() -> None:
    """A run about an image that is there says when it was pushed, and in which run."""
    assert annotations_of(image_plan(DIGEST, "v1")) == {
        "dev.delivery-chain.pushed-at": DAY.isoformat(),
        "dev.delivery-chain.run": "shop r1",
        "dev.delivery-chain.tags": "v1",
    }


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (image_plan(DIGEST, "v1"), "the image already exists: nothing to build"),
        (build_plan("linux/amd64"), "build rule 'release' does not build linux/arm64"),
    ],
)
def test_a_platform_that_is_not_built_is_skipped(plan: Any, reason: str) -> None:
    """The instance ends as skipped, with its reason."""
    with pytest.raises(AirflowSkipException) as caught:
        Run(both_platforms(), plan).do(BuildOperator(task_id="build", slot=1), 1)
    assert str(caught.value) == reason


def jobs(folder: Path) -> Path:
    """Where jobs have their folders."""
    return folder / "work" / str(os.geteuid()) / "jobs"


@pytest.fixture
def checkouts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: MemoryRegistry) -> list[tuple[str, ...]]:
    """A git server whose every commit is a Dockerfile; URL, ref and commit of each checkout."""
    asked: list[tuple[str, ...]] = []
    where = {"conn_type": "git", "host": "https://git.example.com/shop"}
    monkeypatch.setenv("AIRFLOW_CONN_GIT_SHOP", json.dumps(where))
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER", str(tmp_path / "work"))

    def checkout(source: Any, *, into: Path, **rest: Any) -> None:
        (into / "Dockerfile").write_text("FROM scratch\n")
        asked.append((source.url, rest["ref"], rest["commit"]))

    monkeypatch.setattr("delivery_chain.jobs.build.checkout", checkout)
    return asked


@pytest.fixture
def builder(checkouts: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> type[NotingBuilder]:
    """A builder that notes what it is given, and a git server for it."""
    return noting_builder(monkeypatch)


def test_a_build_goes_to_its_own_staging_tag(
    builder: type[NotingBuilder], checkouts: list[tuple[str, ...]], home: MemoryRegistry, tmp_path: Path
) -> None:
    """The exact commit is built, and pushed under a tag of the run and platform, never under the user's."""
    plan = build_plan(*BOTH)
    found = Run(both_platforms(), plan).do(BuildOperator(task_id="build", slot=1), 1)
    assert (
        found
        == BuildResult(
            platform="linux/arm64",
            digest=BUILT,
            plan=made_for(plan, both_platforms()),
            build_seconds=1.235,
            push_seconds=0.5,
            sandbox="isolation chroot, network host, storage vfs",
        ).to_xcom()
    )
    assert checkouts == [("https://git.example.com/shop/api.git", "refs/tags/v1.2", COMMIT)]
    (work,) = builder.works
    assert (work.target, work.platform, work.args) == (
        f"{home.registry.host}/{NAME}:_staging-{plan.key}-linux-arm64",
        "linux/arm64",
        {"REVISION": "release"},
    )
    assert (work.annotations, work.labels) == (
        annotations_of(plan),
        {"org.opencontainers.image.revision": COMMIT},
    )
    assert (work.registry.host, work.folder.parent) == (home.registry.host, jobs(tmp_path))


def test_a_build_reads_its_own_namespace(builder: type[NotingBuilder], home: MemoryRegistry) -> None:
    """The chain's login is for it; others are read without one."""
    Run(chain(), build_plan()).do(BuildOperator(task_id="build", slot=0), 0)
    reads = builder.works[0].reads
    assert [(rule.host, rule.namespaces) for rule in reads.rules] == [(home.registry.host, ("shop",))]
    assert reads.strangers is True


def test_a_build_reads_what_its_spec_says(
    builder: type[NotingBuilder], home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry with the login of its own connection, and nothing else."""
    mirror = {"conn_type": "oci_registry", "host": "mirror.example.com", "login": "reader", "password": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_MIRROR", json.dumps(mirror))
    spec = chain()
    entry = ReadFrom.model_validate({"connection": "mirror", "for": "docker.io"})
    assert spec.build is not None
    spec = spec.model_copy(update={"build": spec.build.model_copy(update={"read_from": (entry,)})})
    Run(spec, build_plan()).do(BuildOperator(task_id="build", slot=0), 0)
    reads = builder.works[0].reads
    (rule,) = reads.rules
    assert (rule.rule, rule.host, rule.registry.host, rule.registry.username, reads.strangers) == (
        "build.from[0]",
        "docker.io",
        "mirror.example.com",
        "reader",
        False,
    )


@pytest.mark.parametrize("error", [None, BuildFailed("RUN false: exit code 1")])
def test_a_build_leaves_no_file(
    builder: type[NotingBuilder], tmp_path: Path, error: BuildFailed | None
) -> None:
    """Checkout and storage are removed, also after a failure."""
    builder.error = error
    with suppress(BuildFailed):
        Run(chain(), build_plan()).do(BuildOperator(task_id="build", slot=0), 0)
    assert len(builder.works) == 1
    assert list(jobs(tmp_path).iterdir()) == []


def test_a_failed_job_fails_its_step_with_the_same_error(builder: type[NotingBuilder]) -> None:
    """Kind, message, last lines and the advice on retries come through the runner."""
    builder.error = BuildFailed("Dockerfile:2: RUN false: exit code 1", tool="buildah", output=["boom"])
    with pytest.raises(BuildFailed) as caught:
        Run(chain(), build_plan()).do(BuildOperator(task_id="build", slot=0), 0)
    assert (str(caught.value), vars(caught.value)) == (str(builder.error), vars(builder.error))


def test_the_end_of_a_task_is_the_end_of_its_job(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`on_kill` cancels the job that runs, and nothing before and after it."""
    runner = noting_runner(monkeypatch)
    monkeypatch.setenv(
        "AIRFLOW_CONN_GIT_SHOP", json.dumps({"conn_type": "git", "host": "https://g.example.com"})
    )
    step = BuildOperator(task_id="build", slot=0)
    step.on_kill()
    monkeypatch.setattr(runner, "meanwhile", step.on_kill)
    with pytest.raises(JobLost):
        Run(chain(), build_plan()).do(step, 0)
    step.on_kill()
    assert runner.cancelled == [f"{build_plan().key}-build-0"]


def test_a_retry_removes_what_a_killed_build_left(builder: type[NotingBuilder], tmp_path: Path) -> None:
    """It works in a folder of the same name, which is named after run, step and slot, and removes that of others."""
    step = BuildOperator(task_id="build", slot=0)
    Run(chain(), build_plan()).do(step, 0)
    folder = builder.works[0].folder
    other = folder.with_name("0123456789ab-build-1")
    for left in (folder / "source" / "/".join("a" * 1500), other / "source"):
        subprocess.run(["mkdir", "-p", left], check=True)
    Run(chain(), build_plan()).do(step, 0)
    assert (builder.works[1].folder, folder.name) == (folder, f"{build_plan().key}-build-0")
    assert list(jobs(tmp_path).iterdir()) == []


def test_one_platform_needs_no_index(home: MemoryRegistry) -> None:
    """The run's digest is that of the platform's own manifest, which gets the run's staging tag too."""
    plan = build_plan()
    run, subject = built(home.registry, chain(), plan)
    digest = home.tags[f"{NAME}:{plan.staging(plan.build.platforms[0])}"] if plan.build else ""
    raw = home.manifests[f"{NAME}@{digest}"][1]
    assert run.left("assemble") == {
        "plan": made_for(plan, chain()),
        "digest": digest,
        "media_type": OCI_MANIFEST,
        "size": len(raw),
        "images": [{"digest": digest, "platform": "linux/amd64"}],
        "others": [],
    }
    assert home.tags[f"{NAME}:{plan.staging()}"] == subject.digest


def test_several_platforms_make_one_index(home: MemoryRegistry) -> None:
    """Its children are the plan's platforms in order, and it carries the run's annotations."""
    plan = build_plan(*BOTH)
    run, subject = built(home.registry, chain(), plan)
    children = {one["platform"]: one["digest"] for one in results(run)}
    index = json.loads(home.manifests[f"{NAME}@{subject.digest}"][1])
    assert [(one["digest"], one["platform"]) for one in index["manifests"]] == [
        (children["linux/amd64"], {"os": "linux", "architecture": "amd64"}),
        (children["linux/arm64"], {"os": "linux", "architecture": "arm64"}),
    ]
    assert (index["annotations"], subject.media_type) == (annotations_of(plan), OCI_INDEX)
    assert {image.platform: image.digest for image in subject.images} == children
    assert home.user_tags(NAME) == {}


def results(run: Run) -> list[dict[str, Any]]:
    return list(run.context("assemble")["ti"].xcom_pull(task_ids=["build"]))


def test_assembling_again_gives_the_same_digest(home: MemoryRegistry) -> None:
    """A cleared step names the image that its scan and gate were about."""
    run, subject = built(home.registry, chain(), build_plan(*BOTH))
    assert run.do(AssembleOperator(task_id="assemble"))["digest"] == subject.digest


def test_an_image_of_others_is_read_as_it_is(home: MemoryRegistry) -> None:
    """Nothing is put into the registry; the subject is the plan's digest with its platforms."""
    with RegistryClient(home.registry) as client:
        digest = push_platform(client, image_plan(DIGEST, "v7"), "linux/arm64")
    home.requests.clear()
    found = Run(chain(), image_plan(digest, "v7")).do(AssembleOperator(task_id="assemble"))
    assert (found["digest"], found["images"], home.writes()) == (
        digest,
        [{"digest": digest, "platform": "linux/arm64"}],
        [],
    )


def test_an_empty_index_of_others_is_no_image(home: MemoryRegistry) -> None:
    """What holds nothing to judge is refused by name."""
    with RegistryClient(home.registry) as client:
        digest = client.put_manifest(
            NAME,
            "v7",
            json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode(),
            OCI_INDEX,
        )
    with pytest.raises(ProtocolViolation, match="an empty index"):
        Run(chain(), image_plan(digest, "v7")).do(AssembleOperator(task_id="assemble"))


def lacks(task: str) -> Any:
    def change(run: Run, home: MemoryRegistry) -> None:
        del run.xcoms[task, 1, "return_value"]

    return change


def lies(run: Run, home: MemoryRegistry) -> None:
    digest = results(run)[1]["digest"]
    kind, raw = home.manifests[f"{NAME}@{digest}"]
    home.manifests[f"{NAME}@{digest}"] = (kind, raw + b" ")


def gone(run: Run, home: MemoryRegistry) -> None:
    del home.manifests[f"{NAME}@{results(run)[1]['digest']}"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lacks("build"),
            BuildFailed,
            "`build` left no image for linux/arm64: clear `build` and everything downstream",
        ),
        (lies, ContentMismatch, "expected sha256:"),
        (gone, NotFound, f"{NAME}@sha256:"),
    ],
)
def test_an_index_with_a_hole_is_not_made(
    home: MemoryRegistry, change: Any, error: type[Exception], message: str
) -> None:
    """A platform that is missing, gone or other bytes ends the step before anything is put."""
    run, _ = built(home.registry, chain(), build_plan(*BOTH))
    change(run, home)
    home.requests.clear()
    with pytest.raises(error) as caught:
        run.do(AssembleOperator(task_id="assemble"))
    assert (type(caught.value), message in str(caught.value), home.writes()) == (error, True, [])


def test_without_a_plan_nothing_is_built() -> None:
    """A plan that was marked as done by hand left nothing, and the message says what to do."""
    with pytest.raises(ConfigurationError, match="clear the task `plan`"):
        Run(chain()).do(BuildOperator(task_id="build", slot=0), 0)


def test_the_digest_of_a_manifest_is_that_of_its_bytes(home: MemoryRegistry) -> None:
    """What the run is about can be checked by anybody who has the bytes."""
    _, subject = built(home.registry, chain(), build_plan(*BOTH))
    assert sha256_digest(home.manifests[f"{NAME}@{subject.digest}"][1]) == subject.digest
