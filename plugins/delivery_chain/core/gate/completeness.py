"""Check that every engine scanned every image: by digest, since an image may claim any platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import short_digest
from delivery_chain.errors import ScanFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from delivery_chain.core.gate.findings import ScanReport
    from delivery_chain.core.results import Image


def check_complete(engines: Iterable[str], reports: Iterable[ScanReport], images: Sequence[Image]) -> None:
    """Refuse reports that do not cover exactly the images to judge.

    Args:
        engines: Engines of the spec; each has to have scanned each image.
        reports: In any order; two on one image are fine.
        images: Every image under the judged digest.

    Raises:
        ScanFailed: No image is given, an engine has not scanned one, or a report is about something else. Not
            retryable.
    """
    if not images:
        raise ScanFailed("expected at least one image to judge, found none, so the gate does not pass")
    got = {(report.engine, report.digest): report for report in reports}
    wanted = {image.digest for image in images}
    for (engine, digest), report in got.items():
        if digest not in wanted:
            raise ScanFailed(
                f"a {engine} report is about {short_digest(digest)} ({report.platform}), which is not part of the "
                "image: clear the scan tasks"
            )
    for engine in engines:
        for image in images:
            if (engine, image.digest) not in got:
                raise ScanFailed(
                    f"no {engine} report on {short_digest(image.digest)} ({image.platform}), so the image does not "
                    "pass: clear the task `scan` of that platform, or of the other platforms"
                )
