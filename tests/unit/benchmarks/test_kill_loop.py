"""The kill loop's judge accepts facts that are right, and finds each kind of planted fault."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from benchmarks.kill_loop.chains import HOME, REPOSITORIES
from benchmarks.kill_loop.judge import (
    DOUBLED,
    FALSE_RECORD,
    KINDS,
    LEFT_BEHIND,
    LET_THROUGH,
    LOST,
    WENT_BACK,
    judge,
)
from benchmarks.kill_loop.watching import ever

from delivery_chain.core.spec.parse import parse_spec
from support.kill_loop_facts import (
    API,
    NEAR,
    WEB,
    digest,
    in_one_minute,
    right,
    told,
    told_again,
    unbuilt,
    untaken,
    with_delivery,
    with_held,
    with_more_runs,
    with_run,
    with_sight,
    without_delivery,
    without_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.kill_loop.chains import Repository
    from benchmarks.kill_loop.facts import Facts


def test_right_facts_are_right() -> None:
    """A, B, A makes three runs, of which the newest holds the moving tag; the blocked one is backed up."""
    assert judge(right()) == []


@pytest.mark.parametrize(
    ("facts", "kind", "what"),
    [
        (lambda: without_run(0), LOST, "1 pushes, 0 runs"),
        (lambda: without_run(4), LOST, "2 pushes, 1 runs"),
        (lambda: with_run(0, state="running"), LOST, "did not end"),
        (lambda: with_run(0, end="superseded"), LOST, "superseded, though nothing is newer"),
        (lambda: with_run(1, backup=""), LOST, "is not backed up"),
        (
            lambda: with_held(HOME, "loop-quarantine/api", "v1.1.0.20261127T120001Z", digest(0)),
            LOST,
            "not backed up",
        ),
        (lambda: with_held(NEAR, API.image, "v1.0.0", ""), LOST, f"loop/api:v1.0.0 is not in {NEAR}"),
        (lambda: with_held(NEAR, WEB.image, "edge", digest(2)), LOST, "is not the newest push's"),
        (lambda: without_delivery("v1.0.0"), LOST, "tell-release was not told of v1.0.0"),
        (lambda: with_more_runs(0), DOUBLED, "1 pushes, 2 runs"),
        (lambda: with_more_runs(4), DOUBLED, "2 pushes, 3 runs"),
        (lambda: with_run(0, ref="refs/tags/v9.0.0"), DOUBLED, "a run of no push"),
        (lambda: with_sight(NEAR, API.image, "v1.0.0", 3), DOUBLED, "loop/api:v1.0.0 had 2 digests"),
        (
            lambda: replace(right(), ever={(NEAR, API.image, "v1.0.0"): frozenset({digest(0), digest(3)})}),
            DOUBLED,
            "loop/api:v1.0.0 had 2 digests",
        ),
        (
            lambda: with_sight(NEAR, WEB.image, "main-3", 2),
            DOUBLED,
            "loop/web:main-3 had 2 digests, 0 of them of no run",
        ),
        (
            lambda: with_sight(NEAR, WEB.image, "main-3", 9),
            DOUBLED,
            "loop/web:main-3 had 2 digests, 1 of them of no run",
        ),
        (
            lambda: replace(right(), ever={(NEAR, WEB.image, "main-0"): frozenset({digest(0)})}),
            DOUBLED,
            "loop/web:main-0 had 1 digests, 1 of them of no run",
        ),
        (lambda: told_again(0, way="hook"), DOUBLED, "built before, of a push that was told once"),
        (
            lambda: told_again(0, way="twice", digest=digest(0)),
            DOUBLED,
            "built before, and built again",
        ),
        (
            lambda: with_run(0, end="built before", digest="", held=()),
            LOST,
            "built before, and no run has built it",
        ),
        (
            lambda: told_again(0, way="twice", state="failed"),
            FALSE_RECORD,
            "failed, and its record says built before",
        ),
        (
            lambda: with_run(3, end="superseded", note="delivered"),
            FALSE_RECORD,
            "its note is not its record's sentence",
        ),
        (lambda: with_run(3, end="superseded"), FALSE_RECORD, "superseded, and it has an image"),
        (
            lambda: with_run(3, end="not for this chain", held=(), digest=""),
            FALSE_RECORD,
            "success, and its record says not for this chain",
        ),
        (lambda: with_delivery(0), DOUBLED, "told of v1.0.0 under 2 ids"),
        (lambda: with_delivery(0, run_id="nobody"), DOUBLED, "for a run that is not there"),
        (
            lambda: with_held(HOME, "loop-quarantine/api", "v1.1.0.20261127T120009Z", digest(1)),
            DOUBLED,
            "2 backups",
        ),
        (
            lambda: with_sight(NEAR, API.image, "latest", 1),
            LET_THROUGH,
            "latest in ap-southeast-1 was a vulnerable",
        ),
        (
            lambda: with_sight(HOME, API.image, "v1.1.0", 1),
            LET_THROUGH,
            "v1.1.0 in cn-hangzhou was a vulnerable",
        ),
        (lambda: with_sight(HOME, API.image, "v1.1.0", 9), LET_THROUGH, "was an unknown image"),
        (
            lambda: replace(right(), ever={(NEAR, API.image, "v1.1.0"): frozenset({digest(1)})}),
            LET_THROUGH,
            "v1.1.0 in ap-southeast-1 was a vulnerable",
        ),
        (lambda: with_delivery(1, tag="v1.1.0"), LET_THROUGH, "told of v1.1.0, a vulnerable image"),
        (lambda: replace(right(), pullable=frozenset({digest(1)})), LET_THROUGH, "is still served"),
        (
            lambda: with_run(0, end="partly delivered"),
            FALSE_RECORD,
            "success, and its record says partly delivered",
        ),
        (lambda: with_run(1, end="delivered"), FALSE_RECORD, "failed, and its record says delivered"),
        (lambda: with_run(4, end="built before"), LOST, "2 pushes, 1 runs"),
        (lambda: with_run(0, note=""), FALSE_RECORD, "its note is not its record's sentence"),
        (lambda: with_run(0, sentence="", note="?"), FALSE_RECORD, "its note is not its record's sentence"),
        (lambda: with_run(0, state="failed"), FALSE_RECORD, "failed, and all is done"),
        (lambda: with_run(1, state="success"), FALSE_RECORD, "success, of a vulnerable image"),
        (lambda: with_run(0, recorded=digest(3)), FALSE_RECORD, "its record is of another digest"),
        (
            lambda: with_run(0, regions={"near": "failed", "far": "success"}),
            FALSE_RECORD,
            "success, and its record says otherwise",
        ),
        (
            lambda: with_held(NEAR, WEB.image, "main-3", digest(2)),
            FALSE_RECORD,
            "its record says that near holds it",
        ),
        (lambda: without_delivery("v1.0.0"), FALSE_RECORD, "its record says tell-release success"),
        (
            lambda: with_run(3, triggers={"tell-release": "skipped"}),
            FALSE_RECORD,
            "says tell-release skipped",
        ),
        (
            lambda: with_delivery(3, tag="edge", hook="staging"),
            FALSE_RECORD,
            "which its record does not hold",
        ),
        (lambda: replace(right(), left=("staging tag x",)), LEFT_BEHIND, "staging tag x"),
        (lambda: with_sight(HOME, WEB.image, "edge", 2), WENT_BACK, "loop/web:edge in cn-hangzhou went back"),
    ],
)
def test_a_planted_fault_is_found(facts: Callable[[], Facts], kind: str, what: str) -> None:
    """Each is reported with its kind, and names what it concerns."""
    assert [one for one in judge(facts()) if one.kind == kind and what in one.what]


def test_every_kind_is_planted_above() -> None:
    """A kind that nothing was planted for would be one that is perhaps never found."""
    (mark,) = test_a_planted_fault_is_found.pytestmark  # type: ignore[attr-defined]
    assert {kind for _, kind, _ in mark.args[1]} == set(KINDS)


@pytest.mark.parametrize(
    "facts",
    [
        lambda: unbuilt(replace(without_run(3), pushes=untaken(3))),
        lambda: unbuilt(with_run(3, end="superseded", held=(), digest="")),
        lambda: replace(right(), deliveries=(*right().deliveries, *told(0))),
        lambda: with_sight(HOME, API.image, "_staging-0123", 1),
        lambda: told_again(0, way="twice"),
        in_one_minute,
    ],
    ids=[
        "nobody was told of a move, and the branch moved on",
        "a run found its branch elsewhere",
        "a delivery came twice under one id",
        "a staging tag of a vulnerable image",
        "a push was told again, and nothing was built",
        "a branch went A, B, A within the minute that its tag names",
    ],
)
def test_what_may_happen_is_no_fault(facts: Callable[[], Facts]) -> None:
    """Nothing is said of it."""
    assert judge(facts()) == []


@pytest.mark.parametrize("repository", REPOSITORIES, ids=lambda one: one.name)
def test_the_chains_are_what_the_judge_takes_them_for(repository: Repository) -> None:
    """The spec is valid, and has the names, regions and triggers that facts are judged by."""
    spec = parse_spec(repository.spec, "loop.yaml")
    chain = repository.chain
    assert (spec.name, f"{spec.scope.namespace}/{spec.scope.repositories[0]}") == (chain.name, chain.image)
    assert {rule.name: rule.to for rule in spec.replicate} == chain.regions
    assert {trigger.name for trigger in spec.distribute} == set(chain.triggers) == set(chain.hooks.values())


def test_a_registrys_storage_tells_what_its_tags_were(tmp_path: Path) -> None:
    """Every digest of every user's tag, whatever it points at now."""
    tags = tmp_path / "docker/registry/v2/repositories/loop/api/_manifests/tags"
    for tag, number in (("latest", 1), ("latest", 2), ("_staging-0", 3)):
        link = tags / tag / "index/sha256" / f"{number:064d}" / "link"
        link.parent.mkdir(parents=True)
        link.write_text("")
    assert ever(tmp_path, ["loop/api", "loop/none"]) == {
        ("loop/api", "latest"): frozenset({digest(1), digest(2)})
    }
