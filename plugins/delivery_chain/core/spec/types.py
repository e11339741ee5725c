"""String types of a chain spec: names, patterns, paths. Each is validated when parsed."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from delivery_chain.core.names.pattern import compile_pattern
from delivery_chain.core.names.platform import platform_name
from delivery_chain.core.names.reference import check_name, check_tag
from delivery_chain.core.spec.advice import meant_by_glob

_OF_PATTERNS = frozenset("*?+()[]{}|^$\\")
"""Characters that occur in patterns, but not in tags."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
"""`${name}` in a tag, replaced by the text that the rule's pattern captured under that name."""
QUARANTINE_SUFFIX = "-quarantine"
"""Suffix of a namespace with the backups of images that were blocked in the namespace without this suffix."""

PLATFORM = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}(?:/[a-z0-9][a-z0-9._-]{0,31}){1,2}")
"""`os/architecture` or `os/architecture/variant`."""


def _plain_path(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(
            f"expected a path inside the checkout, without '..' and not absolute, found {path!r}"
        )
    return path


def _whole_tag(text: str) -> str:
    try:
        return check_tag(text)
    except ValueError as error:
        if not set(text) & _OF_PATTERNS:
            raise
        meant = meant_by_glob(text) or text
        raise ValueError(
            f"{error}; this list takes whole tags, write a pattern as {{regexp: {meant!r:.120}}}"
        ) from error


def _regexp(text: str) -> str:
    compile_pattern(text)
    return text


def time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"expected an IANA time zone such as Asia/Shanghai or UTC, found {name!r}"
        ) from error
    return name


def _platform(text: str) -> str:
    if not PLATFORM.fullmatch(text):
        raise ValueError(f"expected a platform like linux/arm64 or linux/arm/v7, found {text!r}")
    return platform_name(dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False)))


def commit_length(value: Any) -> Any:
    return {True: DEFAULT_COMMIT_LENGTH, False: None}[value] if isinstance(value, bool) else value


def not_bool(value: Any) -> Any:
    # In Python True equals 1, but a spec's version is a number.
    return str(value).lower() if isinstance(value, bool) else value


def day(value: Any) -> Any:
    # pydantic would read a number as seconds since 1970.
    if isinstance(value, date) or (isinstance(value, str) and _DAY.fullmatch(value)):
        return value
    raise ValueError("expected a day such as 2027-01-31")


def single(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def finding_id(text: str) -> str:
    """Reject anything that can't be the id of a vulnerability, because such an entry would never match a finding.

    CVE and GHSA ids have one shape. Other advisories have as many shapes as publishers (`DSA-5514-1`,
    `RHSA-2021:1234`, `ALAS2-2021-001`, `SNYK-JS-LODASH-590103`), so those only need what all have in common.
    """
    kind = next((kind for kind in _SHAPES if text.lower().startswith(kind)), "")
    if not _SHAPES[kind].fullmatch(text):
        raise ValueError(
            f"expected the id of a vulnerability or advisory, such as CVE-2021-44228, GHSA-jfh8-c2jp-5v3q or "
            f"DSA-5514-1, found {text[:100]!r}"
        )
    return text


_SHAPES = {
    "cve": re.compile(r"(?i:cve)-[0-9]{4}-[0-9]{4,19}"),
    "ghsa": re.compile(r"(?i:ghsa)(?:-[0-9A-Za-z]{4}){3}"),
    "": re.compile(r"(?=.*[0-9])[A-Za-z][A-Za-z0-9]*(?:[-_.:/#][A-Za-z0-9]+)+|[A-Za-z]{2,8}[0-9]{2,10}"),
}
"""Shape of an id by its prefix; the empty prefix is for all other ids."""
DEFAULT_COMMIT_LENGTH = 6
"""Characters of the commit id in a tag (ACR EE's default)."""

Flag = Annotated[bool, Field(strict=True)]
"""`true` or `false`; in YAML 1.2 `yes`, `no`, `on` and `off` are strings."""
Day = Annotated[date, BeforeValidator(day)]
Text = Annotated[str, StringConstraints(strict=True, max_length=2000)]
SLUG = r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$"
CONNECTION_ID = r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}$"
ARGUMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
IN_WORDS = {
    SLUG: "1 to 64 of a-z, 0-9, '.', '_' and '-', the first and last a letter or digit",
    CONNECTION_ID: "1 to 200 of A-Z, a-z, 0-9, '_', '.' and '-', the first a letter or digit",
    ARGUMENT_NAME: "1 to 128 of A-Z, a-z, 0-9 and '_', the first not a digit",
}
"""Descriptions of the values that match these patterns."""
Slug = Annotated[str, StringConstraints(strict=True, pattern=SLUG)]
ConnectionId = Annotated[str, StringConstraints(strict=True, pattern=CONNECTION_ID)]
RepositoryName = Annotated[str, StringConstraints(strict=True), AfterValidator(check_name)]
Regexp = Annotated[str, StringConstraints(strict=True, min_length=1), AfterValidator(_regexp)]
InsidePath = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=500), AfterValidator(_plain_path)
]
ArgName = Annotated[str, StringConstraints(strict=True, pattern=ARGUMENT_NAME)]
FindingId = Annotated[str, StringConstraints(strict=True, max_length=100), AfterValidator(finding_id)]
PlatformText = Annotated[str, StringConstraints(strict=True, max_length=100), AfterValidator(_platform)]
"""Any platform, normalized by `platform_name`: `linux/arm64/v8` is `linux/arm64`."""
TagText = Annotated[str, StringConstraints(strict=True), AfterValidator(_whole_tag)]
