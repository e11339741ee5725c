"""What Trivy looked at, read from its report: operating system, packages, languages, and what it left out.

Source: aquasecurity/trivy 0.76, `pkg/detector/ospkg` (families and their lists of releases), and its reports of
images made for the purpose (tests/samples/trivy): a family that it does not support has no os-pkgs result, a package
database that is gone or empty has one without packages.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from delivery_chain.core.coverage import Coverage, Gap, LanguagePackages
from delivery_chain.tools.trivy_fields import items, mapping, refused, shown, text

if TYPE_CHECKING:
    from collections.abc import Sequence

OS_PACKAGES, LANGUAGE_PACKAGES = "os-pkgs", "lang-pkgs"
CLASSES = (OS_PACKAGES, LANGUAGE_PACKAGES)
NAMELESS = "none"
"""Trivy's family for packages of a system that nothing names; it leaves all of them out."""


def read_coverage(system: object, results: Sequence[dict[str, Any]], *, unknown_release: bool) -> Coverage:
    """Read what was looked at.

    Args:
        system: `Metadata.OS`: `{"Family", "Name"[, "EOSL"]}`; None where the image names no system.
        results: `Results`, objects all of them.
        unknown_release: Whether Trivy warned that the release is not on its list.

    Raises:
        ScanFailed: A part is of another shape.
    """
    counts = Counter(result.get("Class") for result in results)
    packages = sum(
        _packages(result, at) for at, result in enumerate(results) if result.get("Class") == OS_PACKAGES
    )
    languages = _languages(results)
    if system is None:
        return Coverage(languages=languages)
    fields = mapping(system, "Metadata.OS")
    family = text(fields, "Family", "Metadata.OS", required=False) or NAMELESS
    release = text(fields, "Name", "Metadata.OS", required=False)
    if family == NAMELESS:
        nameless = "packages of a system that is not named"
        return Coverage(root=nameless, languages=languages, gaps=(Gap.UNSUPPORTED_OS,))
    ended = fields.get("EOSL", False)
    if not isinstance(ended, bool):
        raise refused(f"Metadata.OS.EOSL: expected true or false, found {shown(ended)}")
    supported = counts[OS_PACKAGES] > 0
    # Every release that Trivy has a list for begins with a digit; `sid` and `kali-rolling` do not.
    known = release[:1].isdigit() and not unknown_release
    gaps = {
        Gap.UNSUPPORTED_OS: not supported,
        Gap.NO_PACKAGES: supported and packages == 0,
        Gap.END_OF_LIFE: ended,
        Gap.UNKNOWN_RELEASE: supported and not known,
    }
    return Coverage(
        os_family=family,
        os_release=release,
        os_packages=packages,
        languages=languages,
        gaps=tuple(gap for gap, found in gaps.items() if found),
    )


def _languages(results: Sequence[dict[str, Any]]) -> tuple[LanguagePackages, ...]:
    files: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    for at, result in enumerate(results):
        if result.get("Class") == LANGUAGE_PACKAGES:
            kind = text(result, "Type", f"Results[{at}]")
            files[kind] += 1
            packages[kind] += _packages(result, at)
    return tuple(
        LanguagePackages(type=kind, files=files[kind], packages=packages[kind]) for kind in sorted(files)
    )


def _packages(result: dict[str, Any], at: int) -> int:
    return len(items(result.get("Packages"), f"Results[{at}].Packages"))
