"""Reads Trivy's JSON report. Pure; the report is foreign data, so whatever is not understood is refused.

A report that is wrong in any part is no report: the image behind it must not pass for want of findings.

Source: aquasecurity/trivy, `pkg/types/report.go`, schema version 2; recorded reports in tests/samples/trivy.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.findings import Finding, ScanReport, Severity, worst_first
from delivery_chain.core.platform import platform_name
from delivery_chain.errors import ScanFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.findings import Database

MAX_REPORT = 64 * 1024 * 1024
"""Bytes; a full Debian image with 400 packages gives about 1 MiB."""
SCHEMA_VERSION = 2
_IMAGE = "container_image"
_CLASSES = ("os-pkgs", "lang-pkgs")
_SEVERITIES = {severity.value.upper(): severity for severity in Severity}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_LONGEST = 1_000
"""Characters of an id, a package, a version or a path. Longer ones are no such thing."""
_TITLE = 300
"""Characters of a title that are kept."""
_NO_DATE = 1900
"""Dates before this year are Go's zero time."""


def parse_report(raw: bytes, *, digest: str, platform: str, database: Database) -> ScanReport:
    """Read the report on one image.

    Args:
        raw: What `trivy image --format json` wrote: `{"SchemaVersion": 2, "Trivy": {"Version"},
            "ArtifactType", "Metadata": {"RepoDigests", "ImageConfig"}, "Results": [...]}`.
        digest: The manifest that was to be scanned.
        platform: Its platform, `linux/arm64`.
        database: What the scan was made with; the report itself does not say.

    Returns:
        All findings, worst first.

    Raises:
        ScanFailed: Too large, not JSON, of another schema, about another image or platform, or with a part
            that is not understood. Not retryable.
    """
    document = _load(raw)
    _check_head(document)
    metadata = _mapping(document.get("Metadata"), "Metadata")
    _check_digest(metadata, digest)
    _check_platform(metadata, platform)
    _check_system(metadata)
    return ScanReport(
        engine="trivy",
        engine_version=_text(_mapping(document.get("Trivy"), "Trivy"), "Version", "Trivy"),
        digest=digest,
        platform=platform,
        database=database,
        findings=worst_first(_findings(document.get("Results"), platform)),
    )


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_REPORT:
        raise _refused(f"expected at most {MAX_REPORT} bytes, found {len(raw)}")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _refused(f"expected JSON, found something else in {len(raw)} bytes") from error
    return _mapping(document, "the document")


def _check_head(document: dict[str, Any]) -> None:
    version = document.get("SchemaVersion")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise _refused(f"expected SchemaVersion {SCHEMA_VERSION}, found {_shown(version)}")
    if document.get("ArtifactType") != _IMAGE:
        raise _refused(f"expected ArtifactType {_IMAGE}, found {_shown(document.get('ArtifactType'))}")


def _check_digest(metadata: dict[str, Any], digest: str) -> None:
    # By digest alone: Trivy writes Docker Hub's names another way than they were asked for.
    about = metadata.get("RepoDigests")
    if not isinstance(about, list) or not any(str(entry).endswith(f"@{digest}") for entry in about):
        raise _refused(f"expected a report on {digest}, found one on {_shown(about)}")


def _check_platform(metadata: dict[str, Any], platform: str) -> None:
    """Trivy scans what it finds under a digest, whatever platform it was told.

    An image config may leave the variant out, so that is compared only where both sides have one.
    """
    config = _mapping(metadata.get("ImageConfig"), "Metadata.ImageConfig")
    found, wanted = platform_name(config).split("/"), platform.split("/")
    kept = len(wanted) if config.get("variant") else 2
    if found[:kept] != wanted[:kept]:
        raise _refused(f"expected an image for {platform}, found one for {_shown('/'.join(found))}")


def _check_system(metadata: dict[str, Any]) -> None:
    """Refuse an image with packages of a system that Trivy does not recognise: it leaves all of them out.

    An image without system packages has no `OS` at all.
    """
    system = metadata.get("OS")
    if system is None:
        return
    family = _mapping(system, "Metadata.OS").get("Family") or "none"
    if not isinstance(family, str):
        raise _refused(f"Metadata.OS.Family: expected text, found {_shown(family)}")
    if family == "none":
        raise ScanFailed(
            "trivy report: the image holds packages of an operating system that Trivy does not recognise, so "
            "they were not looked at and the image does not pass. Keep the base image's /etc/*-release and "
            "/etc/*_version files",
            tool="trivy",
        )


def _findings(results: object, platform: str) -> Iterator[Finding]:
    """All findings of all results. An image without packages has no results at all."""
    for at, entry in enumerate(_list(results, "Results")):
        where = f"Results[{at}]"
        result = _mapping(entry, where)
        if result.get("Class") not in _CLASSES:
            raise _refused(
                f"{where}.Class: expected one of {', '.join(_CLASSES)}, found {_shown(result.get('Class'))}"
            )
        target = _text(result, "Target", where)
        for number, vulnerability in enumerate(
            _list(result.get("Vulnerabilities"), f"{where}.Vulnerabilities")
        ):
            yield _finding(vulnerability, f"{where}.Vulnerabilities[{number}]", target, platform)


def _finding(entry: object, where: str, target: str, platform: str) -> Finding:
    found = _mapping(entry, where)
    return Finding(
        id=_text(found, "VulnerabilityID", where),
        severity=_severity(found.get("Severity"), where),
        package=_text(found, "PkgName", where),
        installed=_text(found, "InstalledVersion", where),
        fixed=_text(found, "FixedVersion", where, required=False),
        location=_text(found, "PkgPath", where, required=False) or target,
        platform=platform,
        published=_published(found.get("PublishedDate"), where),
        title=_title(found, where),
        url=_url(_text(found, "PrimaryURL", where, required=False)),
    )


def _severity(value: object, where: str) -> Severity:
    severity = _SEVERITIES.get(value) if isinstance(value, str) else None
    if severity is None:
        raise _refused(f"{where}.Severity: expected one of {', '.join(_SEVERITIES)}, found {_shown(value)}")
    return severity


def _published(value: object, where: str) -> datetime | None:
    if value is None:
        return None
    try:
        published = datetime.fromisoformat(value if isinstance(value, str) else "")
        known = published.year >= _NO_DATE
        found = published.astimezone(UTC) if known else None
    except (ValueError, OverflowError) as error:
        raise _refused(f"{where}.PublishedDate: expected RFC 3339, found {_shown(value)}") from error
    if published.tzinfo is None:
        raise _refused(f"{where}.PublishedDate: expected a time with its zone, found {_shown(value)}")
    return found


def _title(found: dict[str, Any], where: str) -> str:
    title = found.get("Title") or ""
    if not isinstance(title, str):
        raise _refused(f"{where}.Title: expected text, found {_shown(title)}")
    return _clean(title[:_TITLE])


def _url(text: str) -> str:
    # Pages make links of it, and only these two are safe to follow.
    return text if text.startswith(("https://", "http://")) else ""


def _text(source: dict[str, Any], key: str, where: str, *, required: bool = True) -> str:
    value = source.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST or (required and not _clean(value)):
        raise _refused(f"{where}.{key}: expected text of 1 to {_LONGEST} characters, found {_shown(value)}")
    return _clean(value)


def _clean(text: str) -> str:
    """Without control characters and halves of characters: what is logged stays on its line."""
    return _CONTROL.sub(" ", text).strip()


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refused(f"{where}: expected an object, found {_shown(value)}")
    return value


def _list(value: object, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _refused(f"{where}: expected a list, found {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return _clean(repr(value)[:200])


def _refused(problem: str) -> ScanFailed:
    return ScanFailed(
        f"trivy report: {problem}; the image does not pass. Use a Trivy version that this project knows",
        tool="trivy",
    )
