"""Copying one image to one target, and moving a tag to it afterwards; `Copier` is for more than one.

A copy moves no tag: an image that is half there can't be pulled by anybody. `put_tag` is a step of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import ContentMismatch
from delivery_chain.oci.copy.endpoint import Place
from delivery_chain.oci.copy.engine import Copier, CopyResult, Outcome
from delivery_chain.oci.copy.limits import SHARED, Limits
from delivery_chain.oci.copy.tag import put_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.copy.progress import Progress
    from delivery_chain.oci.copy.resume import Resume

__all__ = ["Copier", "CopyResult", "Outcome", "Place", "copy_image", "put_tag"]


def copy_image(
    source: RegistryClient,
    source_name: str,
    digest: str,
    target: RegistryClient,
    target_name: str,
    *,
    referrers: bool = True,
    thorough: bool = False,
    limits: Limits = SHARED,
    resume: Resume | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    left_behind: Callable[[str], None] | None = None,
) -> CopyResult:
    """Copy a manifest or index with all it points at to one target, and check there that it is all there.

    What the target has is not sent again, so a copy that was cut short goes on where it stopped.

    Args:
        source: Where the image is.
        source_name: Its repository.
        digest: Its manifest or index.
        target: Where it shall be.
        target_name: The repository there.
        referrers: Whether reports, SBOMs and signatures that name any of the image's manifests go along.
        thorough: Ask for blobs one by one also where the target has the manifest that names them.
        limits: How hard registries are used.
        resume: Where open uploads are remembered for the next attempt.
        on_progress: Called at most ten times a second, from any thread; what it raises ends the copy.
        left_behind: Given, referrers that are images or hold some stay behind, and it is told of each in a line.

    Raises:
        NotFound: The source lacks the image or a part of it.
        ContentMismatch: Bytes are not what their digest says, or the target lacks a part in the end.
        ProtocolViolation: Deeper than 4 indexes, more than 1000 manifests, or no image.
        RegistryError: See `errors`; what was sent stays at the target, under no tag.
    """
    with Copier(
        Place(source, source_name),
        (Place(target, target_name),),
        referrers=referrers,
        thorough=thorough,
        limits=limits,
        resume=resume,
        on_progress=on_progress,
        left_behind=left_behind,
    ) as copier:
        (outcome,) = copier.run(copier.plan(digest))
    if outcome.result is None:
        raise outcome.error or ContentMismatch(f"{outcome.target}: the copy ended without a result")
    return outcome.result
