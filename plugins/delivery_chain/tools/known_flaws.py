"""Known vulnerabilities of the programs that a chain runs, and the releases that fix them. Pure.

Releases are judged by version number alone, and a distribution may have backported a fix without changing the number.
So a vulnerability listed here is only logged and does not stop a chain. Two modules go further:
`builders.buildah.mount_rules` rejects mounts that are unsafe in an old buildah, and `scanners.trivy.version` rejects
the releases made by an attacker.

Source: the projects' security advisories.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, int, int]
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Flaw:
    """One known vulnerability."""

    tool: str
    cve: str
    what: str
    fixed: tuple[str, ...]
    """First fixed release of each release line that got the fix, oldest first."""
    since: str = "0.0.0"
    """First affected release; 0.0.0 if every release before the fix is affected."""

    def affects(self, version: Version) -> bool:
        """Whether a release is affected, going by its number."""
        fixed = [parse(one) for one in self.fixed]
        if version >= max(fixed) or version < parse(self.since):
            return False
        return not any(one[:2] == version[:2] and version >= one for one in fixed)

    @property
    def fix(self) -> str:
        """Fixed releases for messages: `1.33.7, 1.34.3 and 1.35.1`."""
        *others, last = self.fixed
        return f"{', '.join(others)} and {last}" if others else last


CACHE_LEAVES = Flaw(
    "buildah", "CVE-2024-9675", "a cache mount may point anywhere", ("1.33.10", "1.35.5", "1.37.5", "1.38.0")
)
BIND_LEAVES = Flaw(
    "buildah",
    "CVE-2024-1753",
    "a bind mount follows symlinks out of its stage",
    ("1.24.7", "1.27.4", "1.29.3", "1.31.5", "1.32.3", "1.33.7", "1.34.3", "1.35.1"),
)
PROPAGATION = Flaw("buildah", "CVE-2024-9407", "options of bind mounts are not checked", ("1.37.4",))
FLAWS = (
    CACHE_LEAVES,
    BIND_LEAVES,
    PROPAGATION,
    Flaw(
        "buildah",
        "CVE-2021-3602",
        "chroot isolation exposes the environment",
        ("1.16.8", "1.17.2", "1.19.9", "1.21.3"),
    ),
    Flaw("buildah", "CVE-2022-27651", "steps get inheritable capabilities", ("1.25.0",)),
    Flaw("buildah", "CVE-2022-2990", "steps get supplementary groups", ("1.27.1",)),
    Flaw("buildah", "CVE-2024-9676", "a symlink in an image hangs the worker", ("1.37.5", "1.38.0")),
    Flaw(
        "buildah",
        "CVE-2024-11218",
        "mounts of concurrent stages escape the build",
        ("1.33.12", "1.35.5", "1.37.6", "1.38.1"),
    ),
    Flaw(
        "buildah",
        "CVE-2026-44517",
        "ADD of a hostile archive reads files outside the build",
        ("1.43.2",),
        "1.38.1",
    ),
    Flaw("runc", "CVE-2021-30465", "mounts follow swapped symlinks", ("1.0.0",)),
    Flaw("runc", "CVE-2022-29162", "steps get inheritable capabilities", ("1.1.2",)),
    Flaw("runc", "CVE-2023-25809", "cgroups can be written to", ("1.1.5",)),
    Flaw("runc", "CVE-2023-27561", "a symlinked /proc lifts the restrictions", ("1.1.5",)),
    Flaw("runc", "CVE-2023-28642", "a symlinked /proc disables AppArmor", ("1.1.5",)),
    Flaw("runc", "CVE-2024-21626", "WORKDIR reaches the host by a leaked descriptor", ("1.1.12",)),
    Flaw("runc", "CVE-2024-45310", "empty files are created on the host", ("1.1.14", "1.2.0")),
    Flaw("runc", "CVE-2025-31133", "masked files can be swapped for others", ("1.2.8", "1.3.3", "1.4.0")),
    Flaw(
        "runc", "CVE-2025-52565", "/dev/console can be swapped for another file", ("1.2.8", "1.3.3", "1.4.0")
    ),
    Flaw("runc", "CVE-2025-52881", "writes to /proc can be redirected", ("1.2.8", "1.3.3", "1.4.0")),
    Flaw("runc", "CVE-2026-41579", "a symlinked /dev removes files on the host", ("1.3.6", "1.4.3")),
    Flaw(
        "git",
        "CVE-2024-32002",
        "a cloned submodule runs a hook",
        ("2.39.4", "2.40.2", "2.41.1", "2.42.2", "2.43.4", "2.44.1", "2.45.1"),
    ),
    Flaw(
        "git",
        "CVE-2025-48384",
        "a submodule's path runs a hook",
        ("2.43.7", "2.44.4", "2.45.4", "2.46.4", "2.47.3", "2.48.2", "2.49.1", "2.50.1"),
    ),
    Flaw(
        "git",
        "CVE-2025-48385",
        "a bundle is written outside the clone",
        ("2.43.7", "2.44.4", "2.45.4", "2.46.4", "2.47.3", "2.48.2", "2.49.1", "2.50.1"),
    ),
    Flaw("trivy", "CVE-2024-35192", "a hostile registry gets a cloud's login", ("0.51.2",)),
    Flaw("trivy", "CVE-2026-33634", "this release was made by an attacker", ("0.70.0",), "0.69.4"),
    Flaw("trivy", "CVE-2026-55092", "a hostile database writes files anywhere", ("0.71.1",)),
)


def parse(text: str) -> Version:
    """Parse the first version number in a text such as the output of `git --version`; zeros without one."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


def known(tool: str, version: Version) -> list[Flaw]:
    """Return the known vulnerabilities of a program's release, going by its number."""
    return [flaw for flaw in FLAWS if flaw.tool == tool and flaw.affects(version)]


def lines(tool: str, text: str) -> list[str]:
    """Return log lines about an installed program, one per vulnerability.

    Args:
        tool: Program name, as in `FLAWS`.
        text: Version output of the program.
    """
    version = parse(text)
    if version == (0, 0, 0):
        return [f"{tool}: its version could not be read, so its known vulnerabilities can't be listed"]
    shown = ".".join(map(str, version))
    return [
        f"{tool} {shown} has {flaw.cve}, going by its version ({flaw.what}): fixed in {flaw.fix}; your distribution "
        "may have backported the fix"
        for flaw in known(tool, version)
    ]
