"""Move one tag to a complete manifest: the last step of a copy, and the only one visible to users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import TagConflict

if TYPE_CHECKING:
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.manifest import AnyManifest


def put_tag(
    client: RegistryClient,
    name: str,
    tag: str,
    digest: str,
    *,
    overwrite: bool = True,
    manifest: AnyManifest | None = None,
) -> None:
    """Point a tag at a manifest that is already in the repository, and verify that it does.

    Args:
        client: The registry.
        name: Repository.
        tag: The tag. If it already points at the manifest, nothing is written.
        digest: The manifest or index.
        overwrite: Whether a tag that points at another digest may be moved.
        manifest: The manifest of `digest`, if the caller has it; fetched otherwise.

    Raises:
        TagConflict: The tag points elsewhere and may not be moved, or another client moved it at the same moment.
        NotFound: The manifest is not in the repository.
    """
    where = f"{name}:{tag} at {client.registry.host}"
    current = client.head_manifest(name, tag)
    if current is not None and current.digest == digest:
        return
    if current is not None and not overwrite:
        raise TagConflict(
            f"TAG_CONFLICT: {where} is {current.digest}, expected no such tag or {digest}. The rule does "
            "not allow overwriting: delete the tag, or set override"
        )
    manifest = manifest or client.get_manifest(name, digest)
    client.put_manifest(name, tag, manifest.raw, manifest.media_type)
    after = client.head_manifest(name, tag)
    if after is None or after.digest != digest:
        found = after.digest if after else "no such tag"
        raise TagConflict(
            f"TAG_CONFLICT: {where} was set to {digest}, found {found} right after. Check who else moves it"
        )
