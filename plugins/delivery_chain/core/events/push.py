"""Defines the input of `delivery_chain.core.events.pipeline`: a git ref or an image tag that moved. Pure."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ValidationInfo, field_validator

from delivery_chain.core.events.event import COMMIT, Kind
from delivery_chain.core.names.git_ref import check_ref
from delivery_chain.core.names.reference import check_digest, check_name, check_tag
from delivery_chain.core.value import Value


class Push(Value):
    """A git ref or an image tag that moved: the same value from a webhook and from the sensor."""

    kind: Literal[Kind.SOURCE_PUSH, Kind.IMAGE_PUSH] = Kind.SOURCE_PUSH
    ref: str
    """`refs/heads/…` or `refs/tags/…`; for an image `shop/api:1.0`, or `shop/api@sha256:…` without a tag."""
    before: str | None = None
    """Commit or digest that it pointed at; empty for a new one, None if unknown."""
    after: str
    """Commit or digest that it points at; empty for a deleted ref, and for an image whose digest is unknown."""
    peeled: bool = True
    """Whether `after` is certainly a commit. False for a tag that may be annotated: the sender then gives the id of the
    tag object."""

    @field_validator("ref")
    @classmethod
    def _named(cls, ref: str, info: ValidationInfo) -> str:
        if info.data.get("kind") is not Kind.IMAGE_PUSH:
            return check_ref(ref)
        name, tag, digest = _image_parts(ref)
        check_name(name)
        if tag:
            check_tag(tag)
        elif digest:
            check_digest(digest)
        return ref

    @field_validator("before", "after")
    @classmethod
    def _whole(cls, at: str | None, info: ValidationInfo) -> str | None:
        if not at:
            return at
        if info.data.get("kind") is Kind.IMAGE_PUSH:
            return check_digest(at)
        if not COMMIT.fullmatch(at):
            raise ValueError(f"expected a full commit id of 40 or 64 hex digits, found {at[:100]!r}")
        return at

    @classmethod
    def of_image(cls, *, name: str, tag: str = "", digest: str = "") -> Self:
        """The push of an image: repository with its namespace, tag and digest, either of which may be unknown."""
        ref = f"{name}:{tag}" if tag else f"{name}@{digest}"
        return cls(kind=Kind.IMAGE_PUSH, ref=ref, after=digest)

    @property
    def is_image(self) -> bool:
        """Whether an image was pushed, rather than a git ref."""
        return self.kind is Kind.IMAGE_PUSH

    @property
    def name(self) -> str:
        """Repository of an image, with its namespace: `shop/api`."""
        return _image_parts(self.ref)[0]

    @property
    def tag(self) -> str:
        """Tag of an image; empty for one pushed by digest."""
        return _image_parts(self.ref)[1]


def _image_parts(ref: str) -> tuple[str, str, str]:
    """Split into repository, tag and digest: a repository's name contains neither `:` nor `@`."""
    name, at, digest = ref.partition("@")
    if at:
        return name, "", digest
    name, _, tag = ref.partition(":")
    return name, tag, ""
