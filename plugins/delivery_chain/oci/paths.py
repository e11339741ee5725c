"""Paths, token scopes and display names of registry resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import check_digest, check_name, check_tag
from delivery_chain.errors import InvalidReference, ProtocolViolation
from delivery_chain.oci.http.auth import Scopes, repository_scope

if TYPE_CHECKING:
    from collections.abc import Callable


def pull(name: str) -> Scopes:
    """Token scopes to read a repository."""
    return (repository_scope(name, "pull"),)


def push(name: str) -> Scopes:
    """Token scopes to write to a repository."""
    return (repository_scope(name, "pull,push"),)


def is_digest(ref: str) -> bool:
    """Whether a reference is a digest rather than a tag."""
    return ":" in ref


def manifest_name(name: str, ref: str) -> str:
    """Return the name of a manifest for messages: `manifest shop/api:v1`."""
    return f"manifest {name}{'@' if is_digest(ref) else ':'}{ref}"


def manifest_path(name: str, ref: str) -> str:
    """Return the path of a manifest by tag or digest.

    Raises:
        InvalidReference: `name` or `ref` is not valid in a registry.
    """
    checked = check_digest(ref) if is_digest(ref) else check_tag(ref)
    return f"/v2/{check_name(name)}/manifests/{checked}"


def blob_path(name: str, digest: str) -> str:
    """Return the path of a blob.

    Raises:
        InvalidReference: `name` or `digest` is not valid in a registry.
    """
    return f"/v2/{check_name(name)}/blobs/{check_digest(digest)}"


def answered(check: Callable[[str], str], value: str, what: str) -> str:
    """Return `value` from a registry's response if `check` accepts it.

    Raises:
        ProtocolViolation: `check` rejects the value.
    """
    try:
        return check(value)
    except InvalidReference as error:
        raise ProtocolViolation(f"{what}: the registry's response holds an invalid {error}") from error
