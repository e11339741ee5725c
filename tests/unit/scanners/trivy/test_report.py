"""Trivy's reports, as recorded from the real tool, and manipulated ones."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.core.gate.coverage import Coverage, Gap, LanguagePackages
from delivery_chain.core.gate.findings import Database, Finding, ScanReport, Severity
from delivery_chain.core.gate.merge import merge
from delivery_chain.errors import ScanFailed
from delivery_chain.scanners.trivy.report import MAX_REPORT, parse_report
from support.outdated_image import OLD_FINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = Path(__file__).parents[3] / "samples" / "trivy"
DATABASE = Database(repository="127.0.0.1:5000/db:2", updated_at=datetime(2026, 11, 20, tzinfo=UTC))
JAVA = DATABASE.model_copy(update={"repository": "127.0.0.1:5000/java:1"})
AMD64 = "linux/amd64"


def sample(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return document


def digest_of(document: dict[str, Any]) -> str:
    return str(document["Metadata"]["RepoDigests"][0]).partition("@")[2]


def parse(document: dict[str, Any], platform: str = AMD64) -> ScanReport:
    digest = digest_of(sample("outdated"))
    raw = json.dumps(document).encode()
    return parse_report(raw, digest=digest, platform=platform, databases=(DATABASE,))


OUTDATED = sample("outdated")


def test_every_finding_of_a_real_report_is_read() -> None:
    """The outdated image's report gives all its findings, worst first."""
    found = [(f.severity, f.id, f.package, f.installed, f.fixed) for f in parse(OUTDATED).findings]

    assert found == OLD_FINDINGS


def test_a_finding_holds_what_the_report_says() -> None:
    """Place, date, title and link come along."""
    assert parse(OUTDATED).findings[0] == Finding(
        id="CVE-2019-10906",
        aliases=("GHSA-462w-v97r-4m45",),
        severity=Severity.HIGH,
        package="Jinja2",
        installed="2.10",
        fixed="2.10.1",
        location="app/Jinja2-2.10.dist-info/METADATA",
        platform=AMD64,
        published=datetime(2019, 4, 7, tzinfo=UTC),
        title="Jinja2: templates leave the sandbox through str.format_map",
        url="https://avd.aquasec.com/nvd/cve-2019-10906",
    )


def test_a_package_of_the_system_has_no_digest_in_its_place() -> None:
    """Its source package and its family stand there: equal on every platform, though Trivy's target is not."""
    arm = sample("outdated-arm64")
    other = parse_report(
        json.dumps(arm).encode(), digest=digest_of(arm), platform="linux/arm64", databases=(DATABASE,)
    )
    libc = [next(f for f in report.findings if f.package == "libc6") for report in (parse(OUTDATED), other)]

    assert [(one.id, one.aliases, one.source, one.location) for one in libc] == [
        ("CVE-2023-4911", ("DSA-5514-1",), "glibc", "debian")
    ] * 2
    assert len(merge([parse(OUTDATED), other])) == len(other.findings) == 10
    assert OUTDATED["Results"][0]["Target"] != arm["Results"][0]["Target"]


@pytest.mark.parametrize(
    ("name", "coverage"),
    [
        (
            "clean",
            Coverage(
                os_family="debian",
                os_release="12.0",
                os_packages=1,
                languages=(LanguagePackages(type="python-pkg", files=1, packages=1),),
            ),
        ),
        ("no-packages", Coverage()),
        (
            "unknown-system",
            Coverage(root="packages of an unnamed system", gaps=(Gap.UNSUPPORTED_OS,)),
        ),
        ("fedora", Coverage(os_family="fedora", os_release="40", gaps=(Gap.UNSUPPORTED_OS,))),
        (
            "debian-7",
            Coverage(os_family="debian", os_release="7.11", os_packages=1, gaps=(Gap.END_OF_LIFE,)),
        ),
        (
            "debian-sid",
            Coverage(os_family="debian", os_release="sid", os_packages=1, gaps=(Gap.UNKNOWN_RELEASE,)),
        ),
        ("no-package-database", Coverage(os_family="debian", os_release="12.0", gaps=(Gap.NO_PACKAGES,))),
    ],
)
def test_a_report_says_what_was_looked_at(name: str, coverage: Coverage) -> None:
    """ "Nothing found" differs from "nothing scanned"; none of these reports has a finding."""
    document = sample(name)
    digest = digest_of(document)

    report = parse_report(json.dumps(document).encode(), digest=digest, platform=AMD64, databases=(DATABASE,))

    assert report == ScanReport(
        engine="trivy",
        engine_version="0.76.0",
        digest=digest,
        platform=AMD64,
        databases=(DATABASE,),
        coverage=coverage,
    )


def test_java_archives_are_among_what_was_looked_at() -> None:
    """A jar that names itself is a package of its language, and its vulnerability a finding with its alias."""
    document = sample("java")
    raw = json.dumps(document).encode()

    report = parse_report(raw, digest=digest_of(document), platform=AMD64, databases=(DATABASE, JAVA))

    assert [(f.id, f.aliases, f.location) for f in report.findings] == [
        ("CVE-2021-44228", ("GHSA-jfh8-c2jp-5v3q",), "app/log4j-core-2.14.1.jar")
    ]
    assert report.databases == (DATABASE, JAVA)
    assert report.coverage.sentence == (
        "debian 12.0 with 1 package; 1 jar with 1 package; 1 python-pkg with 1 package"
    )


def test_a_release_that_trivy_warned_about_is_unknown() -> None:
    """The report on a release without data looks like any other; only the warning shows it."""
    document = sample("clean")

    report = parse_report(
        json.dumps(document).encode(),
        digest=digest_of(document),
        platform=AMD64,
        databases=(DATABASE,),
        unknown_release=True,
    )

    assert report.coverage.gaps == (Gap.UNKNOWN_RELEASE,)


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        if value is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value

    return change


FIRST = ("Results", 0, "Vulnerabilities", 0)
REFUSED = {
    "another schema": (_set("SchemaVersion", value=3), "SchemaVersion 2, found 3"),
    "no schema": (_set("SchemaVersion", value=None), "SchemaVersion 2, found None"),
    "a folder's report": (_set("ArtifactType", value="filesystem"), "ArtifactType container_image"),
    "no metadata": (_set("Metadata", value=None), "Metadata: expected an object"),
    "another image": (
        _set("Metadata", "RepoDigests", value=["127.0.0.1:5000/x@sha256:" + "0" * 64]),
        "expected a report on sha256:",
    ),
    "no image": (_set("Metadata", "RepoDigests", value=None), "found one on None"),
    "another platform": (
        _set("Metadata", "ImageConfig", "architecture", value="arm64"),
        "expected an image for linux/amd64, found one for 'linux/arm64'",
    ),
    "no version": (_set("Trivy", value=None), "Trivy: expected an object"),
    "results of another shape": (_set("Results", value={"a": 1}), "Results: expected a list"),
    "a result of another kind": (_set("Results", 0, "Class", value="secret"), "Class: expected one of"),
    "a list as kind of result": (_set("Results", 0, "Class", value=[]), "Class: expected one of"),
    "a text as end of life": (_set("Metadata", "OS", "EOSL", value="yes"), "EOSL: expected true or false"),
    "a number as release": (_set("Metadata", "OS", "Name", value=12), "Name: expected text"),
    "a text as packages": (_set("Results", 0, "Packages", value="all"), "Packages: expected a list"),
    "a text as aliases": (_set(*FIRST, "VendorIDs", value="DSA-1-1"), "VendorIDs: expected a list"),
    "a number as alias": (_set(*FIRST, "VendorIDs", value=[1]), "VendorIDs: expected at most"),
    "a list as system": (_set("Metadata", "OS", "Family", value=["debian"]), "Family: expected text"),
    "an unknown severity": (_set(*FIRST, "Severity", value="SEVERE"), "Severity: expected one of CRITICAL"),
    "a severity in another case": (_set(*FIRST, "Severity", value="High"), "found 'High'"),
    "a list as severity": (_set(*FIRST, "Severity", value=["HIGH"]), "Severity: expected one of"),
    "no id": (_set(*FIRST, "VulnerabilityID", value=None), "VulnerabilityID: expected text"),
    "an empty package": (_set(*FIRST, "PkgName", value=" "), "PkgName: expected text"),
    "a package of control characters": (_set(*FIRST, "PkgName", value="\x01"), "PkgName: expected text"),
    "a huge version": (_set(*FIRST, "InstalledVersion", value="1" * 2000), "InstalledVersion: expected text"),
    "a date that is none": (_set(*FIRST, "PublishedDate", value="soon"), "PublishedDate: expected RFC 3339"),
    "a date without zone": (_set(*FIRST, "PublishedDate", value="2024-01-01T00:00:00"), "with its zone"),
    "a date beyond the calendar": (
        _set(*FIRST, "PublishedDate", value="9999-12-31T23:59:59-14:00"),
        "PublishedDate: expected RFC 3339",
    ),
    "a number as title": (_set(*FIRST, "Title", value=7), "Title: expected text"),
    "text as a finding": (_set(*FIRST, value="CVE-1"), "expected an object"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_report_that_is_not_understood_is_refused(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Whatever is missing, of another shape or about something else makes it no report."""
    document = copy.deepcopy(OUTDATED)
    change(document)

    with pytest.raises(ScanFailed) as caught:
        parse(document)

    assert message in str(caught.value)


NO_JSON = {
    "nothing": b"",
    "a broken one": b'{"SchemaVersion": 2',
    "no text": b"\xff\xfe\x00",
    "a deep one": b"[" * 200_000,
    "a list": b"[]",
    "a huge number": b'{"SchemaVersion": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("raw", NO_JSON.values(), ids=NO_JSON.keys())
def test_bytes_that_are_no_document_are_refused(raw: bytes) -> None:
    """Half a file, binary data or hostile JSON is no report."""
    with pytest.raises(ScanFailed, match="trivy report"):
        parse_report(raw, digest="sha256:" + "0" * 64, platform=AMD64, databases=(DATABASE,))


def test_a_report_over_the_limit_is_refused() -> None:
    """More bytes than allowed are not even parsed."""
    with pytest.raises(ScanFailed, match="expected at most"):
        parse_report(b" " * (MAX_REPORT + 1), digest="", platform=AMD64, databases=(DATABASE,))


def test_text_from_a_report_stays_on_its_line() -> None:
    """Control characters, script links and endless titles do not reach logs and pages."""
    document = copy.deepcopy(OUTDATED)
    entry = document["Results"][0]["Vulnerabilities"][0]
    entry |= {"Title": "a\nERROR\ud800 forged\x1b[2J" + "x" * 1000, "PrimaryURL": "javascript:alert(1)"}

    finding = next(f for f in parse(document).findings if f.id == entry["VulnerabilityID"])

    assert finding.title.startswith("a ERROR  forged [2Jxxx")
    assert len(finding.title) <= 300
    assert finding.url == ""


@pytest.mark.parametrize(
    ("variant", "platform", "fits"),
    [
        ("", "linux/arm/v6", True),
        ("v6", "linux/arm/v6", True),
        ("v7", "linux/arm/v6", False),
        ("", "linux/arm/v7", True),
    ],
)
def test_a_variant_counts_where_the_image_names_one(variant: str, platform: str, fits: bool) -> None:  # noqa: FBT001
    """Older builders leave the variant out of an image's config."""
    document = copy.deepcopy(OUTDATED)
    document["Metadata"]["ImageConfig"] |= {"architecture": "arm", "variant": variant}

    if fits:
        assert parse(document, platform).platform == platform
    else:
        with pytest.raises(ScanFailed, match="expected an image for"):
            parse(document, platform)


def _paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        entries = list(node.items())
    elif isinstance(node, list):
        entries = list(enumerate(node))
    return [at, *(path for key, value in entries for path in _paths(value, (*at, key)))]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=500)
@given(path=st.sampled_from([path for path in _paths(OUTDATED) if path]), junk=JUNK)
def test_no_junk_anywhere_gives_another_error(path: tuple[Any, ...], junk: Any) -> None:
    """Whatever stands in one place of a report, the outcome is a report or a ScanFailed."""
    document = copy.deepcopy(OUTDATED)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk

    try:
        report = parse(document)
    except ScanFailed:
        return
    assert isinstance(report, ScanReport)


@pytest.mark.parametrize("date", ["2026-11-20T00:00:01Z", "2036-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_date_that_the_database_could_not_know_is_none(date: str) -> None:
    """Such a finding would be too young to count for ever, or until the worker's clock is right."""
    document = sample("outdated")
    _set(*FIRST, "PublishedDate", value=date)(document)
    name = document["Results"][0]["Vulnerabilities"][0]["VulnerabilityID"]

    assert [found.published for found in parse(document).findings if found.id == name] == [None]
