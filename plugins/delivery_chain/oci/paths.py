"""Paths, token scopes and names of what a registry holds, as the client asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import check_digest, check_name, check_tag
from delivery_chain.errors import InvalidReference, ProtocolViolation
from delivery_chain.oci.http.auth import Scopes, repository_scope

if TYPE_CHECKING:
    from collections.abc import Callable


def pull(name: str) -> Scopes:
    """What reading a repository needs."""
    return (repository_scope(name, "pull"),)


def push(name: str) -> Scopes:
    """What writing to a repository needs."""
    return (repository_scope(name, "pull,push"),)


def is_digest(ref: str) -> bool:
    """Whether a reference is a digest and no tag."""
    return ":" in ref


def manifest_name(name: str, ref: str) -> str:
    """A manifest for people: `manifest shop/api:v1`."""
    return f"manifest {name}{'@' if is_digest(ref) else ':'}{ref}"


def manifest_path(name: str, ref: str) -> str:
    """The path of a manifest by tag or digest.

    Raises:
        InvalidReference: `name` or `ref` is none that a registry takes.
    """
    checked = check_digest(ref) if is_digest(ref) else check_tag(ref)
    return f"/v2/{check_name(name)}/manifests/{checked}"


def blob_path(name: str, digest: str) -> str:
    """The path of a blob.

    Raises:
        InvalidReference: `name` or `digest` is none that a registry takes.
    """
    return f"/v2/{check_name(name)}/blobs/{check_digest(digest)}"


def answered(check: Callable[[str], str], value: str, what: str) -> str:
    """`value` as a registry answered it, if `check` lets it pass.

    Raises:
        ProtocolViolation: It does not.
    """
    try:
        return check(value)
    except InvalidReference as error:
        raise ProtocolViolation(f"{what}: the registry's answer holds a wrong {error}") from error
