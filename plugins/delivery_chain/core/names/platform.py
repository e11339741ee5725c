"""Platforms in the notation of the OCI image spec: `os/architecture[/variant]`."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

UNKNOWN = "unknown/unknown"
"""The unspecified platform, which BuildKit gives to attestations."""
OTHER_PLATFORMS = "other platforms"
"""Stands for all platforms that a chain does not name, in its list of scans."""
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


class Platform(StrEnum):
    """Platforms that a build rule may name (the same five as ACR EE)."""

    LINUX_AMD64 = "linux/amd64"
    LINUX_ARM64 = "linux/arm64"
    LINUX_386 = "linux/386"
    LINUX_ARM_V7 = "linux/arm/v7"
    LINUX_ARM_V6 = "linux/arm/v6"

    @property
    def slug(self) -> str:
        """Name for a tag or file: `linux-arm-v7`."""
        return self.value.replace("/", "-")

    def descriptor(self) -> dict[str, str]:
        """Convert to an index descriptor's platform: `{"os", "architecture"[, "variant"]}`."""
        return dict(zip(("os", "architecture", "variant"), self.value.split("/"), strict=False))


def platform_name(fields: dict[str, Any]) -> str:
    """Name the platform of a descriptor or image config, `linux/arm64/v8` as `linux/arm64`.

    Variants are normalized as in containerd: arm64 means v8, and 32-bit arm means v7 by default. A part that
    is not a plain word becomes `unknown`, because the name goes into logs and to programs.

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
