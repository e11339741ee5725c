"""A packed database and a digest of no image, for the real Trivy."""

from __future__ import annotations

import gzip
import io
import tarfile

from delivery_chain.sandbox import vulndb
from support.trivy_bench import BUILT


def packed(database: bytes) -> bytes:
    """A database layer with other content for `trivy.db`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in (("trivy.db", database), ("metadata.json", vulndb.metadata(BUILT))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


NO_DIGEST = "sha256:" + "0" * 64
