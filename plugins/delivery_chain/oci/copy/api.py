"""Copy one image to one target, and move a tag to it afterwards; use `Copier` for more than one.

A copy moves no tag, so a partial image can't be pulled. `put_tag` is a separate step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import ContentMismatch
from delivery_chain.oci.copy.endpoint import Place
from delivery_chain.oci.copy.engine import Copier, CopyResult, TargetOutcome
from delivery_chain.oci.copy.limits import SHARED, Limits
from delivery_chain.oci.copy.tag import put_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.copy.progress import Progress
    from delivery_chain.oci.copy.resume import Resume

__all__ = ["Copier", "CopyResult", "Place", "TargetOutcome", "copy_image", "put_tag"]


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
    """Copy a manifest or index with everything it references, and verify that the target has all of it.

    Content that the target already has is not sent again, so an interrupted copy resumes where it stopped.

    Args:
        source: Source registry.
        source_name: Source repository.
        digest: Manifest or index to copy.
        target: Target registry.
        target_name: Target repository.
        referrers: Whether to copy reports, SBOMs and signatures of any of the image's manifests.
        thorough: Check every blob, even if the target has the manifest that references it.
        limits: Concurrency and rate per registry.
        resume: Where open uploads are saved for the next attempt.
        on_progress: Called at most ten times a second, from any thread; an exception in it ends the copy.
        left_behind: If given, referrers that are or contain images are left behind, and this function is called
            with a log line for each.

    Raises:
        NotFound: The source lacks the image or a part of it.
        ContentMismatch: Bytes do not match their digest, or the final check finds a part missing at the target.
        ProtocolViolation: The image has more than 4 levels of indexes or 1000 manifests, or is not an image.
        RegistryError: See `errors`; uploaded content stays at the target, untagged.
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
