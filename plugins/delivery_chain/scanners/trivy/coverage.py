"""Read from Trivy's report what it scanned: operating system, packages, languages, and the gaps.

Source: aquasecurity/trivy 0.76, `pkg/detector/ospkg` (families and their lists of releases), and its reports of
images made for the purpose (tests/samples/trivy): with an unsupported family, the report has no os-pkgs result; with a
missing or empty package database, it has one without packages.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from delivery_chain.core.gate.coverage import Coverage, Gap, LanguagePackages
from delivery_chain.scanners.trivy.fields import items, mapping, refused, shown, text

if TYPE_CHECKING:
    from collections.abc import Sequence

OS_PACKAGES, LANGUAGE_PACKAGES = "os-pkgs", "lang-pkgs"
CLASSES = (OS_PACKAGES, LANGUAGE_PACKAGES)
MANAGERS = {
    "dpkg": frozenset({"debian", "ubuntu", "echo"}),
    "apk": frozenset({"alpine", "wolfi", "chainguard", "minimos"}),
    "rpm": frozenset(
        {
            "redhat",
            "centos",
            "rocky",
            "alma",
            "oracle",
            "amazon",
            "photon",
            "azurelinux",
            "cbl-mariner",
            "openEuler",
        }
    ),
}
"""Families by package manager, under the names of Trivy's analyzers."""
ALSO_RPM = "rpmqa"
"""Analyzer of the package list in images without an rpm database."""
NAMELESS = "none"
"""Trivy's family for packages of an unnamed system; it skips all of them."""


def read_coverage(system: object, results: Sequence[dict[str, Any]], *, unknown_release: bool) -> Coverage:
    """Read the coverage of a scan.

    Args:
        system: `Metadata.OS`: `{"Family", "Name"[, "EOSL"]}`; None if the image names no system.
        results: `Results`, all of them objects.
        unknown_release: Whether Trivy warned that the release is not on its list.

    Raises:
        ScanFailed: A part has an unexpected shape.
    """
    counts = Counter(result.get("Class") for result in results)
    systems = [(result, at) for at, result in enumerate(results) if result.get("Class") == OS_PACKAGES]
    packages = sum(_packages(result, at) for result, at in systems)
    languages = _languages(results)
    if system is None:
        return Coverage(languages=languages)
    fields = mapping(system, "Metadata.OS")
    family = text(fields, "Family", "Metadata.OS", required=False) or NAMELESS
    release = text(fields, "Name", "Metadata.OS", required=False)
    if family == NAMELESS:
        nameless = "packages of an unnamed system"
        return Coverage(root=nameless, languages=languages, gaps=(Gap.UNSUPPORTED_OS,))
    ended = fields.get("EOSL", False)
    if not isinstance(ended, bool):
        raise refused(f"Metadata.OS.EOSL: expected true or false, found {shown(ended)}")
    supported = counts[OS_PACKAGES] > 0
    # Every release that Trivy has data for begins with a digit; `sid` and `kali-rolling` do not.
    known = release[:1].isdigit() and not unknown_release
    strange = _are_strange(family, [entry for result, _ in systems for entry in result.get("Packages") or ()])
    gaps = {
        Gap.UNSUPPORTED_OS: not supported or strange,
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


def _are_strange(family: str, packages: Sequence[Any]) -> bool:
    """Whether some packages belong to another package manager than the system's. Trivy looks them up all the same."""
    said = {str(package.get("AnalyzedBy")) for package in packages if isinstance(package, dict)}
    used = {"rpm" if manager == ALSO_RPM else manager for manager in said} & MANAGERS.keys()
    own = {manager for manager, families in MANAGERS.items() if family in families}
    return len(used | own) > 1


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
