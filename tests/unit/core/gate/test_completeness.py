"""Every image is scanned by every engine, and each report is about one of the images."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.gate.completeness import check_complete
from delivery_chain.core.gate.coverage import Gap
from delivery_chain.core.gate.findings import Database, ScanReport
from delivery_chain.core.gate.judge import judge
from delivery_chain.core.results import Image
from delivery_chain.core.spec.scan import Scan
from delivery_chain.errors import ScanFailed

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
DATABASE = Database(repository="example.org/db:2", updated_at=datetime(2026, 5, 20, tzinfo=UTC))


def image(digest: str, platform: str = "linux/amd64") -> Image:
    return Image(digest=digest, platform=platform)


def report(digest: str, engine: str = "trivy", platform: str = "linux/amd64") -> ScanReport:
    return ScanReport(
        engine=engine, engine_version="1", digest=digest, platform=platform, databases=(DATABASE,)
    )


@pytest.mark.parametrize(
    ("images", "reports", "message"),
    [
        ([], [], "expected at least one image to judge"),
        ([], [report(A)], "expected at least one image to judge"),
        ([image(A)], [], "no trivy report on sha256:aaaaaaaaaaaa (linux/amd64)"),
        ([image(A), image(B)], [report(A)], "no trivy report on sha256:bbbbbbbbbbbb (linux/amd64)"),
        (
            [image(A), image(B)],
            [report(A), report(A)],
            "no trivy report on sha256:bbbbbbbbbbbb (linux/amd64)",
        ),
        ([image(A)], [report(A, "other")], "no trivy report on sha256:aaaaaaaaaaaa (linux/amd64)"),
        ([image(A)], [report(B)], "a trivy report is about sha256:bbbbbbbbbbbb (linux/amd64)"),
        ([image(A)], [report(A), report(B)], "a trivy report is about sha256:bbbbbbbbbbbb (linux/amd64)"),
    ],
)
def test_an_incomplete_set_of_reports_is_refused(
    images: list[Image], reports: list[ScanReport], message: str
) -> None:
    """Two images of one platform need two reports, and a report on something else proves nothing."""
    with pytest.raises(ScanFailed) as caught:
        check_complete(("trivy",), reports, images)
    assert str(caught.value).startswith(message)


_SETS = st.lists(st.sampled_from([A, B, C]), unique=True)


@given(_SETS, st.lists(st.tuples(st.sampled_from([A, B, C]), st.sampled_from(["one", "two"]))))
def test_complete_is_equality_by_digest_for_each_engine(
    judged: list[str], reported: list[tuple[str, str]]
) -> None:
    """Platforms play no part: what each engine looked at is exactly what is judged."""
    reports = [report(digest, engine) for digest, engine in reported]
    looked = {engine: {one.digest for one in reports if one.engine == engine} for engine in ("one", "two")}
    complete = bool(judged) and all(seen == set(judged) for seen in looked.values())
    try:
        check_complete(("one", "two"), reports, [image(digest) for digest in judged])
    except ScanFailed:
        assert not complete
    else:
        assert complete


_NAMES, _IMAGES = ("one", "two", "three"), (A, B)
_PAIRS = [(name, digest) for name in _NAMES for digest in _IMAGES]
_POLICIES = st.sampled_from([None, {"severity": "critical", "count": 99}, {"severity": "unknown"}])


@given(_POLICIES, st.sampled_from([(), tuple(Gap)]), st.sets(st.sampled_from(_PAIRS), min_size=1))
def test_a_failing_engine_never_makes_a_pass(
    block: dict[str, Any] | None, accept: tuple[Gap, ...], failed: set[tuple[str, str]]
) -> None:
    """Whatever the policy accepts, and whatever the other engines say: there is no verdict at all."""
    scan = Scan.model_validate({"block": block, "accept": accept})
    scan = scan.model_copy(update={"engine": _NAMES})
    reports = [report(digest, name) for name, digest in _PAIRS if (name, digest) not in failed]
    images = [image(digest) for digest in _IMAGES]
    with pytest.raises(ScanFailed, match=r"^no (one|two|three) report on "):
        judge(scan, reports, digest=C, images=images, repository="api", now=DATABASE.updated_at)
