"""Parse Trivy's JSON report. Pure; the report is untrusted, so whatever is not understood is refused.

If any part of a report is invalid, all of it is refused: otherwise an image could pass because findings are missing.

Source: aquasecurity/trivy, `pkg/types/report.go`, schema version 2; recorded reports in tests/samples/trivy.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.gate.findings import Finding, ScanReport, Severity, worst_first
from delivery_chain.core.names.platform import platform_name
from delivery_chain.scanners.trivy.coverage import CLASSES, OS_PACKAGES, read_coverage
from delivery_chain.scanners.trivy.fields import LONGEST, clean, items, mapping, refused, shown, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from delivery_chain.core.gate.findings import Database

MAX_REPORT = 64 * 1024 * 1024
"""Maximum size in bytes; the report on a full Debian image with 400 packages has about 1 MiB."""
SCHEMA_VERSION = 2
_IMAGE = "container_image"
_SEVERITIES = {severity.value.upper(): severity for severity in Severity}
_MOST_ALIASES = 1_000
_TITLE = 300
"""Maximum number of characters of a title that are kept."""
_NO_DATE = 1900
"""Dates before this year are Go's zero time, so unknown."""


def parse_report(
    raw: bytes,
    *,
    digest: str,
    platform: str,
    databases: Sequence[Database],
    unknown_release: bool = False,
) -> ScanReport:
    """Parse the report on one image.

    Args:
        raw: Output of `trivy image --format json`: `{"SchemaVersion": 2, "Trivy": {"Version"},
            "ArtifactType", "Metadata": {"RepoDigests", "ImageConfig"}, "Results": [...]}`.
        digest: The manifest that should have been scanned.
        platform: Its platform, `linux/arm64`.
        databases: Databases that the scan used, the vulnerability database first; the report does not name them.
        unknown_release: Whether Trivy warned that it does not know the release; the report does not say.

    Returns:
        All findings, worst first, and the coverage. If the image names no operating system, the coverage is
        incomplete: see `core.gate.root_files`.

    Raises:
        ScanFailed: Too large, not JSON, of another schema, about another image or platform, or with a part
            that is not understood. Not retryable.
    """
    document = _load(raw)
    _check_head(document)
    metadata = mapping(document.get("Metadata"), "Metadata")
    _check_digest(metadata, digest)
    _check_platform(metadata, platform)
    results = [
        mapping(entry, f"Results[{at}]") for at, entry in enumerate(items(document.get("Results"), "Results"))
    ]
    return ScanReport(
        engine="trivy",
        engine_version=text(mapping(document.get("Trivy"), "Trivy"), "Version", "Trivy"),
        digest=digest,
        platform=platform,
        databases=tuple(databases),
        findings=worst_first(_findings(results, platform, databases[0].updated_at)),
        coverage=read_coverage(metadata.get("OS"), results, unknown_release=unknown_release),
    )


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_REPORT:
        raise refused(f"expected at most {MAX_REPORT} bytes, found {len(raw)}")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise refused(f"expected JSON, found something else in {len(raw)} bytes") from error
    return mapping(document, "the document")


def _check_head(document: dict[str, Any]) -> None:
    version = document.get("SchemaVersion")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise refused(f"expected SchemaVersion {SCHEMA_VERSION}, found {shown(version)}")
    if document.get("ArtifactType") != _IMAGE:
        raise refused(f"expected ArtifactType {_IMAGE}, found {shown(document.get('ArtifactType'))}")


def _check_digest(metadata: dict[str, Any], digest: str) -> None:
    # Compare only digests: Trivy rewrites Docker Hub's names.
    about = metadata.get("RepoDigests")
    if not isinstance(about, list) or not any(str(entry).endswith(f"@{digest}") for entry in about):
        raise refused(f"expected a report on {digest}, found one on {shown(about)}")


def _check_platform(metadata: dict[str, Any], platform: str) -> None:
    """Check the platform: Trivy scans the image that it finds under a digest, whatever platform is requested.

    An image config may omit the variant, so it is compared only if both sides have one.
    """
    config = mapping(metadata.get("ImageConfig"), "Metadata.ImageConfig")
    found, wanted = platform_name(config).split("/"), platform.split("/")
    kept = len(wanted) if config.get("variant") else 2
    if found[:kept] != wanted[:kept]:
        raise refused(f"expected an image for {platform}, found one for {shown('/'.join(found))}")


def _findings(results: list[dict[str, Any]], platform: str, built: datetime) -> Iterator[Finding]:
    """Yield the findings of all results. An image without packages has no results at all."""
    for at, result in enumerate(results):
        where = f"Results[{at}]"
        if result.get("Class") not in CLASSES:
            raise refused(
                f"{where}.Class: expected one of {', '.join(CLASSES)}, found {shown(result.get('Class'))}"
            )
        target = text(result, "Target", where)
        system = result["Class"] == OS_PACKAGES
        # For system packages, the target is the image with its digest, which differs between platforms.
        place = text(result, "Type", where) if system else target
        sources = _sources(result, where)
        entries = items(result.get("Vulnerabilities"), f"{where}.Vulnerabilities")
        for number, entry in enumerate(entries):
            found = mapping(entry, f"{where}.Vulnerabilities[{number}]")
            source = sources.get(_uid(found.get("PkgIdentifier")), "")
            one = _finding(found, f"{where}.Vulnerabilities[{number}]", place, platform, source)
            # A database can't know what was published after it was built: ignore such a date.
            wrong = one.published is not None and one.published > built
            yield one.model_copy(update={"published": None}) if wrong else one


def _sources(result: dict[str, Any], where: str) -> dict[str, str]:
    """Map package UIDs to source packages. Language packages have none."""
    packages = [
        mapping(entry, f"{where}.Packages[{number}]")
        for number, entry in enumerate(items(result.get("Packages"), f"{where}.Packages"))
    ]
    return {
        uid: text(package, "SrcName", f"{where}.Packages", required=False)
        for package in packages
        if (uid := _uid(package.get("Identifier")))
    }


def _uid(identifier: object) -> str:
    uid = identifier.get("UID") if isinstance(identifier, dict) else None
    return uid if isinstance(uid, str) else ""


def _finding(found: dict[str, Any], where: str, place: str, platform: str, source: str) -> Finding:
    return Finding(
        id=text(found, "VulnerabilityID", where),
        aliases=_aliases(found, where),
        severity=_severity(found.get("Severity"), where),
        package=text(found, "PkgName", where),
        source=source,
        installed=text(found, "InstalledVersion", where),
        fixed=text(found, "FixedVersion", where, required=False),
        location=text(found, "PkgPath", where, required=False) or place,
        platform=platform,
        published=_published(found.get("PublishedDate"), where),
        title=_title(found, where),
        url=_url(text(found, "PrimaryURL", where, required=False)),
    )


def _aliases(found: dict[str, Any], where: str) -> tuple[str, ...]:
    names = items(found.get("VendorIDs"), f"{where}.VendorIDs")
    if len(names) > _MOST_ALIASES or not all(
        isinstance(name, str) and len(name) <= LONGEST for name in names
    ):
        raise refused(f"{where}.VendorIDs: expected at most {_MOST_ALIASES} ids, found {shown(names)}")
    return tuple(dict.fromkeys(known for name in names if (known := clean(name))))


def _severity(value: object, where: str) -> Severity:
    severity = _SEVERITIES.get(value) if isinstance(value, str) else None
    if severity is None:
        raise refused(f"{where}.Severity: expected one of {', '.join(_SEVERITIES)}, found {shown(value)}")
    return severity


def _published(value: object, where: str) -> datetime | None:
    if value is None:
        return None
    try:
        published = datetime.fromisoformat(value if isinstance(value, str) else "")
        known = published.year >= _NO_DATE
        found = published.astimezone(UTC) if known else None
    except (ValueError, OverflowError) as error:
        raise refused(f"{where}.PublishedDate: expected RFC 3339, found {shown(value)}") from error
    if published.tzinfo is None:
        raise refused(f"{where}.PublishedDate: expected a time with its zone, found {shown(value)}")
    return found


def _title(found: dict[str, Any], where: str) -> str:
    title = found.get("Title") or ""
    if not isinstance(title, str):
        raise refused(f"{where}.Title: expected text, found {shown(title)}")
    return clean(title[:_TITLE])


def _url(text: str) -> str:
    # Pages turn it into a link, and only these two schemes are safe to follow.
    return text if text.startswith(("https://", "http://")) else ""
