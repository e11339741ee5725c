"""Blob operations: check existence, read from any offset, and upload in sessions that can be resumed.

Source: OCI distribution spec 1.1, "Pulling blobs" and "Pushing blobs".
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from delivery_chain.core.names.reference import check_digest, check_name, sha256_digest
from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    ProtocolViolation,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    RegistryUnreachable,
)
from delivery_chain.oci.content import check_content
from delivery_chain.oci.http.session import judged
from delivery_chain.oci.http.wire import with_digest
from delivery_chain.oci.manifest import Descriptor
from delivery_chain.oci.paths import blob_path, pull, push

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.http.auth import Scopes
    from delivery_chain.oci.http.exchange import Outgoing, Response
    from delivery_chain.oci.http.session import Session

MAX_BLOB_IN_MEMORY = 64 * 1024 * 1024
"""Default limit of `get_blob`, in bytes: scan reports and SBOMs fit, layers do not."""
OCTETS = "application/octet-stream"
_OK = frozenset({200})
_OK_OR_MISSING = frozenset({200, 404})
_OK_OR_PARTIAL = frozenset({200, 206})
_BEGUN = frozenset({201, 202})
_CREATED = frozenset({201})
_GOING_ON = frozenset({204})
_ANY = frozenset(range(200, 600))
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_RECEIVED = re.compile(r"(?:bytes=)?0-(\d{1,19})")


class Blobs:
    """The blobs of one registry."""

    def __init__(self, registry: Registry, session: Session) -> None:
        self.registry = registry
        self._session = session
        self._written: set[str] = set()

    def will_write(self, name: str) -> None:
        """Request read and write access to a repository in one token from now on.

        Saves a token request; some registries also deny reads of a repository that does not exist yet.
        """
        self._written.add(name)

    def _reading(self, name: str) -> Scopes:
        return push(name) if name in self._written else pull(name)

    def head_blob(self, name: str, digest: str) -> int | None:
        """Return the size of a blob in bytes, or None if the repository does not have it."""
        what = f"blob {digest} of {name}"
        with self._session.call(
            "HEAD",
            blob_path(name, digest),
            what=what,
            expect=_OK_OR_MISSING,
            scopes=self._reading(name),
            follow=True,
        ) as response:
            length = response.headers.get("Content-Length", "")
            if response.status == HTTPStatus.NOT_FOUND:
                return None
        if not length.isdecimal():
            raise ProtocolViolation(f"{what}: expected its size in Content-Length, found {length!r}")
        return int(length)

    def get_blob(self, name: str, digest: str, max_bytes: int = MAX_BLOB_IN_MEMORY) -> bytes:
        """Return a whole blob, verified against its digest.

        Raises:
            NotFound: The repository does not have the blob.
            ContentMismatch: The bytes do not match the digest.
            ProtocolViolation: The blob is larger than `max_bytes`.
        """
        what = f"blob {digest} of {name}"
        with self._session.call(
            "GET", blob_path(name, digest), what=what, expect=_OK, scopes=self._reading(name), follow=True
        ) as response:
            return check_content(response.read(max_bytes), digest, what)

    def read_blob(self, name: str, digest: str, size: int, offset: int = 0) -> Response:
        """Stream a blob from `offset` to its end. The digest is not verified.

        Args:
            name: Repository.
            digest: The blob.
            size: Its total size in bytes.
            offset: First byte to return. If the registry ignores ranges and sends the whole blob, the bytes
                before `offset` are read and discarded.

        Raises:
            NotFound: The repository does not have the blob, or no longer has it.
            ContentMismatch: The registry announces a different size, or a range other than the one requested.
        """
        what = f"blob {digest} of {name} at {self.registry.host}"
        # Send both ends: some registries don't support `bytes=N-`.
        headers = {"Range": f"bytes={offset}-{size - 1}"} if offset else {}
        response = self._session.call(
            "GET",
            blob_path(name, digest),
            what=what,
            expect=_OK_OR_PARTIAL if offset else _OK,
            scopes=self._reading(name),
            headers=headers,
            follow=True,
        )
        try:
            _position(response, offset, size, what)
        except BaseException:
            response.close()
            raise
        return response

    def begin_upload(self, name: str, digest: str, mount_from: str = "") -> str | None:
        """Open an upload session, or mount the blob from another repository of this registry.

        Args:
            name: Repository.
            digest: The blob to be uploaded.
            mount_from: Repository that may have the blob; the login needs read access there. Empty: do not mount.

        Returns:
            The session's URL, or None if the blob was mounted and nothing has to be sent.
        """
        path, scopes, what = (
            f"/v2/{check_name(name)}/blobs/uploads/",
            push(name),
            f"upload of {digest} to {name}",
        )
        if mount_from:
            path += f"?mount={check_digest(digest)}&from={quote(check_name(mount_from))}"
            scopes = (*scopes, *pull(mount_from))
        with self._session.call("POST", path, what=what, expect=_BEGUN, scopes=scopes) as response:
            if mount_from and response.status == HTTPStatus.CREATED:
                return None
            return self._session.location(response, what)

    def upload_offset(self, name: str, location: str) -> int:
        """Return how many bytes of an upload the registry holds; 0 if the upload can't be resumed."""
        what = f"upload to {name}"
        try:
            with self._session.call(
                "GET", self._session.checked(location), what=what, expect=_GOING_ON, scopes=push(name)
            ) as response:
                found = _RECEIVED.fullmatch(response.headers.get("Range", ""))
        except RegistryError as error:
            if isinstance(error, RegistryUnreachable | RegistryBusy):
                raise
            return 0
        # `0-0` means both an empty upload and one of a single byte, so start over.
        last = int(found[1]) if found else 0
        return last + 1 if last else 0

    def open_upload(self, name: str, location: str, digest: str, size: int, offset: int = 0) -> Outgoing:
        """Open the final request of an upload, whose body is the blob from `offset`; `close_upload` completes it."""
        headers = {"Content-Type": OCTETS, "Content-Length": str(size - offset)}
        if offset:
            headers["Content-Range"] = f"{offset}-{size - 1}"
        url = with_digest(self._session.checked(location), check_digest(digest))
        return self._session.stream("PUT", url, scopes=push(name), headers=headers)

    def close_upload(self, outgoing: Outgoing, name: str, digest: str) -> None:
        """Complete an upload and check that the registry stored the blob.

        Raises:
            ContentMismatch: The registry received different bytes, or reports another digest.
            RegistryError: The registry rejects the upload.
        """
        what = f"blob {digest} of {name}"
        try:
            with judged(outgoing.answer(), what, _CREATED) as response:
                said = response.headers.get("Docker-Content-Digest", "")
        except NotFound as error:
            # A 404 here means that the upload session expired, not that the repository is missing: a new session may
            # work.
            raise RegistryFailure(str(error), method="PUT", url=error.url, status=error.status) from error
        if said and said != digest:
            raise ContentMismatch(
                f"{what} at {self.registry.host}: uploaded, but the registry stored {said[:100]!r}"
            )

    def cancel_upload(self, name: str, location: str) -> None:
        """Cancel an upload. The response is ignored: some registries don't support it."""
        what = f"upload to {name}"
        url = self._session.checked(location)
        self._session.call("DELETE", url, what=what, expect=_ANY, scopes=push(name)).discard()

    def put_blob_bytes(self, name: str, content: bytes) -> Descriptor:
        """Store bytes as a blob, unless the repository already has it.

        Returns:
            The blob's descriptor, with media type `application/octet-stream`.
        """
        digest = sha256_digest(content)
        if self.head_blob(name, digest) is None:
            location = self.begin_upload(name, digest)
            self._session.call(
                "PUT",
                with_digest(str(location), digest),
                what=f"blob {digest} of {name}",
                expect=_CREATED,
                scopes=push(name),
                headers={"Content-Type": OCTETS},
                body=content,
            ).discard()
        return Descriptor(OCTETS, digest, len(content))


def _position(response: Response, offset: int, size: int, what: str) -> None:
    """Check that the response body starts at `offset`, skipping bytes before it."""
    said = response.headers.get("Content-Range", "")
    found = _CONTENT_RANGE.fullmatch(said)
    start = 0
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        start = offset
        if (
            found is None
            or found[3] not in (str(size), "*")
            or (int(found[1]), int(found[2])) != (offset, size - 1)
        ):
            raise ContentMismatch(f"{what}: requested bytes {offset}-{size - 1}/{size}, found {said[:100]!r}")
    if response.length not in (size - start, None):
        raise ContentMismatch(f"{what}: expected {size - start} bytes, the registry offers {response.length}")
    _skip(response, offset - start)


def _skip(response: Response, count: int) -> None:
    buffer = memoryview(bytearray(min(count, 1024 * 1024)))
    while count:
        size = response.readinto(buffer[:count])
        if not size:
            raise ContentMismatch("the blob ended before the offset to resume from")
        count -= size
