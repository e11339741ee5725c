"""Platforms as the OCI image spec names them: `os/architecture[/variant]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


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
    where nothing is said.

    Source: OCI image spec, image-index "platform"; containerd platforms.Normalize.
    """
    os_name = str(fields.get("os") or "unknown")
    architecture = str(fields.get("architecture") or "unknown")
    variant = str(fields.get("variant") or "")
    if architecture == "arm64":
        variant = "" if variant == "v8" else variant
    elif architecture == "arm":
        variant = variant or "v7"
    return "/".join(part for part in (os_name, architecture, variant) if part)
