"""Renders the shop's two applications as files of a git commit: small and real, with known package versions.

`api` is a web server (busybox) with a page; `web` is a page for two platforms. Both contain the package
databases of a Debian 12 with a few packages, so that a scanner has something to read.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.errors import ToolMissing

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

APPLICATIONS = ("api", "web")
ELF_HEAD = 4096
"""Number of bytes at the start of a program that contain the name of its dynamic loader, if it has one."""

FIXED_DEBIAN = {"glibc": "2.36-9+deb12u14", "openssl": "3.0.18-1~deb12u2"}
VULNERABLE_DEBIAN = FIXED_DEBIAN | {"glibc": "2.36-9"}
"""Debian 12.0's glibc: CVE-2023-4911, CVE-2024-2961 and others."""
FIXED_PYTHON = {"Jinja2": "3.1.6", "MarkupSafe": "3.0.3"}
VULNERABLE_PYTHON = FIXED_PYTHON | {"Jinja2": "2.10"}
"""CVE-2019-10906 and others."""
BINARY_PACKAGES = {"libc6": "glibc", "libc-bin": "glibc", "libssl3": "openssl"}
SITE = "usr/lib/python3/dist-packages"

API_DOCKERFILE = """\
FROM scratch
ARG VERSION=unreleased
LABEL org.opencontainers.image.title="shop/api" \\
      org.opencontainers.image.version="${VERSION}"
COPY busybox /bin/busybox
COPY rootfs/ /
EXPOSE 8080
CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/srv/www"]
"""
WEB_DOCKERFILE = """\
FROM scratch
ARG VERSION=unreleased
LABEL org.opencontainers.image.title="shop/web" \\
      org.opencontainers.image.version="${VERSION}"
COPY rootfs/ /
"""
OS_RELEASE = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
"""


@dataclass(frozen=True, slots=True)
class Release:
    """One release of an application, from which its commit is made."""

    application: str
    """One of APPLICATIONS."""
    name: str
    """The tag or branch that the release is pushed to; shown on the page."""
    made: datetime
    """Time of the release, which makes every commit unique."""
    vulnerable: bool


def files(release: Release, busybox: Path | None) -> dict[str, bytes]:
    """All files of the commit by path; pass `busybox` only if the application runs a program.

    Raises:
        ToolMissing: The busybox is not statically linked, and would not start in an image without libraries.
    """
    debian, python = (
        (VULNERABLE_DEBIAN, VULNERABLE_PYTHON) if release.vulnerable else (FIXED_DEBIAN, FIXED_PYTHON)
    )
    found = {
        "Dockerfile": WEB_DOCKERFILE if busybox is None else API_DOCKERFILE,
        "rootfs/etc/os-release": OS_RELEASE,
        "rootfs/etc/debian_version": "12.12\n",
        "rootfs/var/lib/dpkg/status": _dpkg_status(debian),
        "rootfs/srv/www/index.html": _page(release),
        "rootfs/srv/www/version.json": json.dumps(
            {"application": release.application, "release": release.name, "made": release.made.isoformat()}
        ),
    }
    for name, version in python.items():
        found[f"rootfs/{SITE}/{name.lower()}-{version}.dist-info/METADATA"] = (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    content = {path: text.encode() for path, text in found.items()}
    if busybox is not None:
        content["busybox"] = _static(busybox)
    return content


def _static(program: Path) -> bytes:
    content = program.read_bytes()
    if b"/ld-" in content[:ELF_HEAD]:
        raise ToolMissing(
            f"{program}: expected a static program, found one with a loader; apt-get install busybox-static",
            tool="busybox",
        )
    return content


def _dpkg_status(versions: dict[str, str]) -> str:
    # Architecture "all": one file serves every platform.
    return "\n".join(
        f"Package: {binary}\nStatus: install ok installed\nPriority: optional\nSection: libs\n"
        f"Maintainer: Shop <shop@example.com>\nArchitecture: all\nSource: {source}\n"
        f"Version: {versions[source]}\nDescription: part of the shop's sample image\n"
        for binary, source in BINARY_PACKAGES.items()
    )


def _page(release: Release) -> str:
    name = html.escape(f"shop/{release.application} {release.name}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        f"<h1>{name}</h1><p>Made {release.made.isoformat(timespec='seconds')}.</p></html>\n"
    )
