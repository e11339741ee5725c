"""Describe what a scan covered and what it missed: "nothing found" is only as meaningful as the scan's coverage."""

from __future__ import annotations

from enum import StrEnum

from delivery_chain.core.value import Value


class Gap(StrEnum):
    """A reason why an image without findings does not pass. A chain may accept each by name, in `scan.accept`."""

    STALE_DATABASE = "stale_database"
    """The vulnerability database is older than this installation allows."""
    UNSUPPORTED_OS = "unsupported_os"
    """The engine has no vulnerability data for this operating system or package manager."""
    NO_PACKAGES = "no_packages"
    """An operating system without a single recorded package: its package database is missing or empty."""
    END_OF_LIFE = "end_of_life"
    """A release whose vendor no longer publishes fixes, so no advisories either."""
    UNKNOWN_RELEASE = "unknown_release"
    """A release that the engine has no data for, such as Debian sid or Kali: nothing is compared."""
    UNIDENTIFIED = "unidentified"
    """No operating system is named, yet the image has shared libraries or programs that need them."""

    @property
    def problem(self) -> str:
        """The problem, phrased to follow the image's name."""
        return _PROBLEMS[self]

    @property
    def remedy(self) -> str:
        """The step that closes the gap."""
        return _REMEDIES[self]


_PROBLEMS = {
    Gap.STALE_DATABASE: "was scanned with a database that is older than allowed",
    Gap.UNSUPPORTED_OS: "contains a system that the engine does not support, so its packages were not scanned",
    Gap.NO_PACKAGES: "names its operating system but lists no packages of it, so none were scanned",
    Gap.END_OF_LIFE: "is a release that no longer gets security fixes, so new vulnerabilities are not listed",
    Gap.UNKNOWN_RELEASE: "is a release that the engine has no list of vulnerabilities for",
    Gap.UNIDENTIFIED: "names no operating system and contains more than static programs, which was not scanned",
}
_REMEDIES = {
    Gap.STALE_DATABASE: "let the worker reach a newer one",
    Gap.UNSUPPORTED_OS: "use a base image of a system that the engine supports",
    Gap.NO_PACKAGES: "keep the package database in the image (/var/lib/dpkg, /lib/apk/db, /var/lib/rpm)",
    Gap.END_OF_LIFE: "move to a supported release",
    Gap.UNKNOWN_RELEASE: "use a stable release, or a newer version of the engine if the release is newer than it",
    Gap.UNIDENTIFIED: "keep the base image's os-release file and package database, or ship static programs only",
}


class LanguagePackages(Value):
    """Files and packages read for one language's package manager."""

    type: str
    """The engine's name for it: `gobinary`, `python-pkg`, `jar`."""
    files: int
    """Lock files, programs or package folders that were read, as far as the engine distinguishes them."""
    packages: int


class Coverage(Value):
    """The part of one image that an engine scanned."""

    os_family: str = ""
    """`debian`; empty if the image names no operating system."""
    os_release: str = ""
    """`12.0`."""
    os_packages: int = 0
    languages: tuple[LanguagePackages, ...] = ()
    root: str = ""
    """Description of a root file system that names no operating system: `static programs only`."""
    gaps: tuple[Gap, ...] = ()
    """Parts that were not scanned."""

    @property
    def sentence(self) -> str:
        """`debian 12.0 with 88 packages; 1 gobinary with 35 packages`."""
        system = " ".join(part for part in (self.os_family, self.os_release) if part)
        first = f"{system} with {_count(self.os_packages, 'package')}" if system else self.root
        languages = [
            f"{language.files} {language.type} with {_count(language.packages, 'package')}"
            for language in self.languages
        ]
        return "; ".join(part for part in (first, *languages) if part) or "nothing that contains packages"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
