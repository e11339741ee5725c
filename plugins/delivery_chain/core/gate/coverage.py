"""What a scan looked at, and what it did not: "nothing found" is only as good as that."""

from __future__ import annotations

from enum import StrEnum

from delivery_chain.core.value import Value


class Gap(StrEnum):
    """Why "nothing found" is no pass by itself. A chain may accept each by name, in `scan.accept`."""

    STALE_DATABASE = "stale_database"
    """A vulnerability database that is older than this installation allows."""
    UNSUPPORTED_OS = "unsupported_os"
    """The engine knows no vulnerabilities of this operating system or package manager."""
    NO_PACKAGES = "no_packages"
    """An operating system without a single package on record: its package database is gone or empty."""
    END_OF_LIFE = "end_of_life"
    """A release whose makers publish no fixes any more, so no advisories either."""
    UNKNOWN_RELEASE = "unknown_release"
    """A release that the engine has no list for, such as Debian sid or Kali: it compares with nothing."""
    UNIDENTIFIED = "unidentified"
    """No operating system is named, and yet there are shared libraries or programs that need them."""

    @property
    def problem(self) -> str:
        """What is wrong, to follow the image's name."""
        return _PROBLEMS[self]

    @property
    def remedy(self) -> str:
        """What would close the gap."""
        return _REMEDIES[self]


_PROBLEMS = {
    Gap.STALE_DATABASE: "was scanned with a database that is older than allowed",
    Gap.UNSUPPORTED_OS: "holds a system that the engine does not support, so its packages were not looked at",
    Gap.NO_PACKAGES: "names its operating system but records no package of it, so none was looked at",
    Gap.END_OF_LIFE: "is a release that gets no security fixes any more, so new vulnerabilities are not listed",
    Gap.UNKNOWN_RELEASE: "is a release that the engine has no list of vulnerabilities for",
    Gap.UNIDENTIFIED: "names no operating system and holds more than static programs, which were not looked at",
}
_REMEDIES = {
    Gap.STALE_DATABASE: "let the worker reach a newer one",
    Gap.UNSUPPORTED_OS: "use a base image of a system that the engine supports",
    Gap.NO_PACKAGES: "keep the package database in the image (/var/lib/dpkg, /lib/apk/db, /var/lib/rpm)",
    Gap.END_OF_LIFE: "move to a release that is supported",
    Gap.UNKNOWN_RELEASE: "use a stable release, or a newer version of the engine if the release is newer than it",
    Gap.UNIDENTIFIED: "keep the base image's os-release file and package database, or ship static programs only",
}


class LanguagePackages(Value):
    """What was read of one language's package manager."""

    type: str
    """As the engine calls it: `gobinary`, `python-pkg`, `jar`."""
    files: int
    """Lock files, programs or package folders that were read, as far as the engine tells them apart."""
    packages: int


class Coverage(Value):
    """What an engine looked at in one image."""

    os_family: str = ""
    """`debian`; empty where the image names no operating system."""
    os_release: str = ""
    """`12.0`."""
    os_packages: int = 0
    languages: tuple[LanguagePackages, ...] = ()
    root: str = ""
    """What else the root file system holds, where it names no operating system: `static programs only`."""
    gaps: tuple[Gap, ...] = ()
    """What was not looked at."""

    @property
    def sentence(self) -> str:
        """`debian 12.0 with 88 packages; 1 gobinary with 35 packages`."""
        system = " ".join(part for part in (self.os_family, self.os_release) if part)
        first = f"{system} with {_count(self.os_packages, 'package')}" if system else self.root
        languages = [
            f"{language.files} {language.type} with {_count(language.packages, 'package')}"
            for language in self.languages
        ]
        return "; ".join(part for part in (first, *languages) if part) or "nothing that holds packages"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
