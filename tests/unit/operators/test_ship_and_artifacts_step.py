"""Platforms that a chain does not ship, and artifacts in its namespace: from the event to the region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.results import Scanned, Subject
from delivery_chain.core.spec.slots import widths
from delivery_chain.errors import EventRefused, ProtocolViolation, ScanFailed
from delivery_chain.oci.client import RegistryClient
from delivery_chain.operators.build import MOST_IMAGES, AssembleOperator
from delivery_chain.operators.plan import PlanOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.quarantine import QuarantineOperator
from delivery_chain.operators.replicate import ReplicateOperator
from delivery_chain.operators.scan import GateOperator, ScanOperator
from support.chain_steps import NAME, Run, chain, report_of, verdict
from support.image_trees import DOCKER_LIST, Entry, Forest
from support.toy_scanner import Toy, plug

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.oci_memory import MemoryRegistry

TAG = "v7"


@pytest.fixture(autouse=True)
def scanner(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """An engine that finds nothing."""
    made = Toy()
    plug(monkeypatch, made)
    return made


@pytest.fixture
def scans(scanner: Toy) -> list[tuple[str, str, str]]:
    """Repository, digest and platform of each scan."""
    return scanner.asked


def pushed(home: MemoryRegistry, make: Callable[[Forest], Entry]) -> str:
    """What others pushed under the tag; gives its digest."""
    forest = Forest()
    with RegistryClient(home.registry) as client:
        return forest.upload(client, NAME, TAG, make(forest))


def run_of(**scan: Any) -> Run:
    spec = chain(
        sources=None,
        build=None,
        scan={"block": {"severity": "high"}, **scan},
        replicate=[{"name": "to-west", "to": "west"}],
    )
    return Run(spec, conf={"repository": "api", "tag": TAG})


def through(run: Run) -> Subject:
    """Everything up to the gate."""
    run.do(PlanOperator(task_id="plan", spec=run.spec))
    subject = run.do(AssembleOperator(task_id="assemble"))
    for index in range(widths(run.spec)["scan"]):
        step = ScanOperator(task_id="scan", slot=index)
        try:
            run.do(step, index)
        except AirflowSkipException:
            continue
    assert GateOperator(task_id="gate").choose_branch(run.context("gate")) == "publish"
    return Subject.from_xcom({key: value for key, value in subject.items() if key != "seal"})


def official(forest: Forest) -> Entry:
    """An index as official images are: many platforms, attestations, Windows twice."""
    images = [
        forest.image({"n": platform}, platform)
        for platform in ("linux/amd64", "linux/arm64", "linux/s390x", "linux/arm/v5", "windows/amd64")
    ]
    windows = forest.image({"n": "2"}, "windows/amd64", more={"os.version": "10.0.2"})
    return forest.index(
        *images, windows, *(forest.attestation(image) for image in images[:2]), annotations={"a": "b"}
    )


def test_every_image_is_scanned_whatever_its_platform(
    home: MemoryRegistry, west: MemoryRegistry, scans: list[tuple[str, str, str]]
) -> None:
    """Those that no scan is named after by the last one, two of one platform each for itself."""
    pushed(home, official)
    subject = through(run_of())
    assert sorted(scans) == sorted((NAME, image.digest, image.platform) for image in subject.images)
    assert [platform for _, _, platform in scans] == [
        "linux/amd64", "linux/arm64", "linux/s390x", "linux/arm/v5", "windows/amd64", "windows/amd64",
    ]  # fmt: skip


def test_a_scan_that_does_nothing_says_why(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """An image of just the named platforms has no other."""
    pushed(home, lambda forest: forest.image())
    run = run_of()
    through(run)
    step = ScanOperator(task_id="scan", slot=2)
    with pytest.raises(AirflowSkipException, match=r"^the image has no other platforms$"):
        run.do(step, 2)


def test_images_of_one_platform_are_all_scanned(
    home: MemoryRegistry, west: MemoryRegistry, scans: list[tuple[str, str, str]]
) -> None:
    """By the task of that platform, which leaves a result for each."""
    pushed(home, lambda forest: forest.index(forest.image({"a": "1"}), forest.image({"b": "2"})))
    run = run_of()
    through(run)
    left = {key: value for key, value in run.left("scan", index=0).items() if key != "seal"}
    assert [result.digest for result in Scanned.from_xcom(left).results] == [digest for _, digest, _ in scans]
    assert len(scans) == 2


def test_what_is_not_shipped_is_left_out_everywhere(
    home: MemoryRegistry, west: MemoryRegistry, scans: list[tuple[str, str, str]]
) -> None:
    """The tag moves to an index of what is shipped and its attestations; that one is scanned, judged and copied."""
    whole = pushed(home, official)
    run = run_of(platforms={"ship": ["linux/amd64", "linux/arm/v5"]})
    subject = through(run)
    run.do(PublishOperator(task_id="publish"))
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    assert [image.platform for image in subject.images] == ["linux/amd64", "linux/arm/v5"]
    assert [other.what for other in subject.others] == ["attestation"]
    assert (home.user_tags(NAME), west.user_tags(NAME)) == ({TAG: subject.digest}, {TAG: subject.digest})
    assert subject.digest != whole
    assert len(scans) == 2
    kept = {subject.digest, *(one.digest for one in (*subject.images, *subject.others))}
    assert {key.partition("@")[2] for key in west.manifests} >= kept
    assert not any(b"windows" in content for content in west.blobs.values())


def test_a_second_run_on_what_was_left_changes_nothing(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """The moved tag comes back as an event: the same digest, and nothing to move."""
    pushed(home, official)
    first = run_of(platforms={"ship": ["linux/amd64"]})
    digest = through(first).digest
    first.do(PublishOperator(task_id="publish"))
    second = run_of(platforms={"ship": ["linux/amd64"]})
    assert through(second).digest == digest
    moves = second.do(PublishOperator(task_id="publish"))["tags"]
    assert ([move["state"] for move in moves], home.user_tags(NAME)) == (["unchanged"], {TAG: digest})


@pytest.mark.parametrize(
    "make",
    [
        lambda forest: forest.image(),
        lambda forest: forest.index(forest.image(), media_type=DOCKER_LIST),
        lambda forest: forest.index(forest.image(), forest.index(forest.image({"a": "2"}))),
    ],
)
def test_what_is_shipped_as_a_whole_stays_as_it_is(
    home: MemoryRegistry, west: MemoryRegistry, make: Callable[[Forest], Entry]
) -> None:
    """Byte for byte."""
    digest = pushed(home, make)
    assert through(run_of(platforms={"ship": ["linux/amd64"]})).digest == digest


def test_a_tag_that_moved_on_is_left_alone(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """Somebody pushed again while the run was on its way."""
    pushed(home, official)
    run = run_of(platforms={"ship": ["linux/amd64"]})
    through(run)
    newer = pushed(home, lambda forest: forest.image({"new": "er"}))
    moves = run.do(PublishOperator(task_id="publish"))["tags"]
    assert ([move["state"] for move in moves], home.user_tags(NAME)) == (["kept"], {TAG: newer})


def test_an_image_without_a_shipped_platform_is_refused(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """By name, and nothing is moved."""
    digest = pushed(home, lambda forest: forest.image(platform="linux/s390x"))
    with pytest.raises(EventRefused, match="is for linux/s390x; the chain ships only linux/amd64"):
        through(run_of(platforms={"ship": ["linux/amd64"]}))
    assert home.user_tags(NAME) == {TAG: digest}


def test_more_images_than_one_run_scans_are_refused(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """With the limit and a way out."""
    pushed(home, lambda forest: forest.index(*(forest.image({"n": str(n)}) for n in range(MOST_IMAGES + 1))))
    with pytest.raises(
        ScanFailed, match=f"at most {MOST_IMAGES} images to scan in one run, found {MOST_IMAGES + 1}"
    ):
        through(run_of())


def test_what_is_neither_image_nor_proven_artifact_is_refused(
    home: MemoryRegistry, west: MemoryRegistry
) -> None:
    """Whatever the chain says of artifacts."""
    pushed(home, lambda f: f.index(f.image(), f.image({"b": "2"}) | {"mediaType": "application/x-foo"}))
    with pytest.raises(ProtocolViolation, match="'application/x-foo' is neither an image nor"):
        through(run_of(artifacts="copy"))


ARTIFACTS: dict[str, Callable[[Forest], Entry]] = {
    "chart": Forest.chart,
    "wasm": Forest.wasm,
    "file": Forest.files,
    "signature": lambda forest: forest.signature(forest.image()),
    "index": lambda forest: forest.index(forest.chart(), forest.files()),
    "build cache": Forest.build_cache,
}


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_an_artifact_is_skipped_with_its_reason(
    home: MemoryRegistry, west: MemoryRegistry, kind: str
) -> None:
    """It is no failure, and the run's note says what it is."""
    pushed(home, ARTIFACTS[kind])
    run = run_of()
    with pytest.raises(AirflowSkipException) as caught:
        run.do(PlanOperator(task_id="plan", spec=run.spec))
    run.states = {"plan": "skipped"}
    found = report_of(run)
    assert (found.end, found.sentence) == ("not for this chain", f"not for this chain: {caught.value}")
    assert str(caught.value).startswith(f"{NAME} {TAG} is not an image but ")


def test_an_artifact_may_be_refused(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """Then the run fails with the reason."""
    pushed(home, Forest.chart)
    run = run_of(artifacts="refuse")
    with pytest.raises(EventRefused, match=r"is not an image but artifact application/vnd\.cncf\.helm"):
        run.do(PlanOperator(task_id="plan", spec=run.spec))


def test_an_artifact_may_be_passed_on_and_the_verdict_says_so(
    home: MemoryRegistry, west: MemoryRegistry
) -> None:
    """It reaches the regions without a scan; nothing claims that there were no findings."""
    digest = pushed(home, Forest.chart)
    run = run_of(artifacts="copy")
    assert through(run).images == ()
    left = {key: value for key, value in run.left("gate").items() if key != "seal"}
    verdict = Verdict.from_xcom(left)
    published = run.do(PublishOperator(task_id="publish"))
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    assert (verdict.sentence, len(verdict.notes)) == ("passed without a scan", 1)
    assert (published["digest"], west.user_tags(NAME)) == (digest, {TAG: digest})


def test_an_image_in_the_dress_of_an_artifact_is_scanned(
    home: MemoryRegistry, west: MemoryRegistry, scans: list[tuple[str, str, str]]
) -> None:
    """Also where artifacts are passed on."""
    digest = pushed(
        home, lambda f: f.image(config_type="application/x-chart", artifactType="application/x-chart")
    )
    through(run_of(artifacts="copy"))
    assert scans == [(NAME, digest, "linux/amd64")]


def test_a_blocked_image_is_removed_as_it_was_pushed(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """Its tag holds the index of all platforms, while the run judged the one of what is shipped."""
    whole = pushed(home, official)
    run = run_of(
        platforms={"ship": ["linux/amd64"]},
        block={"severity": "high", "on_block": {"delete": True, "backup": False}},
    )
    subject = through(run)
    run.leave("gate", verdict(subject.digest, passed=False))
    run.do(QuarantineOperator(task_id="quarantine"))
    assert home.user_tags(NAME) == {}
    assert not {f"{NAME}@{whole}", f"{NAME}@{subject.digest}"} & set(home.manifests)
