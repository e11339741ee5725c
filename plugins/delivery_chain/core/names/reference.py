"""Parse names of registry content, once and strictly: no default host, namespace or tag is guessed.

Source: OCI distribution spec 1.1, "Pulling manifests" (name and tag grammar); OCI image spec, "Digests".
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from delivery_chain.errors import InvalidReference

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
NAME_LENGTH = 255
"""Longest repository name that registries accept, without the host."""


def check_name(name: str) -> str:
    """Return a repository name such as `shop/api` unchanged.

    Raises:
        InvalidReference: It breaks the grammar or is longer than 255 characters.
    """
    if len(name) > NAME_LENGTH or not NAME.fullmatch(name):
        raise InvalidReference(
            f"repository name {name[:300]!r}: expected lowercase words of [a-z0-9] joined by . _ __ - and /, "
            f"at most {NAME_LENGTH} characters"
        )
    return name


def check_tag(tag: str) -> str:
    """Return a tag unchanged.

    Raises:
        InvalidReference: It breaks the grammar.
    """
    if not TAG.fullmatch(tag):
        raise InvalidReference(
            f"tag {tag[:200]!r}: expected 1 to 128 characters of [A-Za-z0-9_.-], the first not . or -"
        )
    return tag


def check_digest(digest: str) -> str:
    """Return a digest unchanged.

    Raises:
        InvalidReference: It is not `sha256:` or `sha512:` and the matching number of lowercase hex digits.
    """
    if not DIGEST.fullmatch(digest):
        raise InvalidReference(f"digest {digest[:200]!r}: expected sha256: and 64 hex digits")
    return digest


def sha256_digest(content: bytes) -> str:
    """Digest of `content` in registry notation."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_of(content: bytes, algorithm: str) -> str:
    """Digest of `content` by `sha256` or `sha512`."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def short_digest(digest: str) -> str:
    """Shorten a digest for display: `sha256:` and 12 hex digits."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}"


@dataclass(frozen=True, slots=True)
class Reference:
    """One image in one registry: `host[:port]/name` with a tag, a digest or both."""

    host: str
    """`registry.example.com` or `127.0.0.1:5000`."""
    name: str
    """Repository with its namespace: `shop/api`."""
    tag: str | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        if not self.host or not re.fullmatch(
            r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?", self.host
        ):
            raise InvalidReference(f"registry host {self.host!r}: expected host or host:port")
        check_name(self.name)
        if self.tag is not None:
            check_tag(self.tag)
        if self.digest is not None:
            check_digest(self.digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.name}{tag}{digest}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse `host[:port]/name[:tag][@digest]`, the form that `str` prints.

        Raises:
            InvalidReference: A part is missing or breaks its grammar. A host is never guessed.
        """
        rest, _, digest = text.partition("@")
        host, slash, path = rest.partition("/")
        if not slash or not ("." in host or ":" in host or host == "localhost"):
            raise InvalidReference(
                f"image {text[:300]!r}: expected host[:port]/name[:tag][@digest], with the host"
            )
        name, _, tag = path.partition(":")
        if (":" in path and not tag) or ("@" in text and not digest):
            raise InvalidReference(f"image {text[:300]!r}: expected a tag after ':' and a digest after '@'")
        return cls(host=host, name=name, tag=tag or None, digest=digest or None)
