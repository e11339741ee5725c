"""Platforms as the OCI image spec names them: `os/architecture[/variant]`."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

UNKNOWN = "unknown/unknown"
"""Where nothing is said; BuildKit writes it on attestations."""
OTHER_PLATFORMS = "other platforms"
"""Stands for every platform that a chain does not name, in the list of its scans."""
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


class Platform(StrEnum):
    """The platforms a build rule may name (the same five as ACR EE)."""

    LINUX_AMD64 = "linux/amd64"
    LINUX_ARM64 = "linux/arm64"
    LINUX_386 = "linux/386"
    LINUX_ARM_V7 = "linux/arm/v7"
    LINUX_ARM_V6 = "linux/arm/v6"

    @property
    def slug(self) -> str:
        """The platform as part of a tag or file name: `linux-arm-v7`."""
        return self.value.replace("/", "-")

    def descriptor(self) -> dict[str, str]:
        """The platform as an index's descriptor holds it: `{"os", "architecture"[, "variant"]}`."""
        return dict(zip(("os", "architecture", "variant"), self.value.split("/"), strict=False))


def platform_name(fields: dict[str, Any]) -> str:
    """Name a descriptor's or an image config's platform, `linux/arm64/v8` as `linux/arm64`.

    Variants that change nothing are folded as containerd folds them: arm64 is v8, and 32-bit arm is v7
    where nothing is said. A part that is no plain word is `unknown`: it goes into logs and to programs.

    Source: OCI image spec, image-index "platform"; containerd platforms.Normalize.
    """
    os_name = _word(fields.get("os")) or "unknown"
    architecture = _word(fields.get("architecture")) or "unknown"
    variant = _word(fields.get("variant"))
    if architecture == "arm64":
        variant = "" if variant == "v8" else variant
    elif architecture == "arm":
        variant = variant or "v7"
    return "/".join(part for part in (os_name, architecture, variant) if part)


def _word(value: object) -> str:
    if value in (None, ""):
        return ""
    return value if isinstance(value, str) and _PART.fullmatch(value) else "unknown"
