"""The verbs of a registry: manifests, blobs, tags and lists, each answer checked before it is believed.

Source: OCI distribution spec 1.1.
"""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from delivery_chain.core.reference import check_digest, check_name, check_tag, sha256_digest
from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    ProtocolViolation,
    RegistryError,
    TagConflict,
    Unauthorized,
)
from delivery_chain.oci.auth import repository_scope
from delivery_chain.oci.content import check_content, verified
from delivery_chain.oci.lists import PAGE_SIZE, list_descriptors, list_names
from delivery_chain.oci.manifest import (
    ACCEPT,
    EMPTY_BLOB,
    EMPTY_CONFIG,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST,
    OCI_MANIFEST,
    AnyManifest,
    Descriptor,
    build_artifact_manifest,
    parse_manifest,
)
from delivery_chain.oci.paths import answered, blob_path, is_digest, manifest_name, manifest_path, pull, push
from delivery_chain.oci.session import Session
from delivery_chain.oci.wire import with_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from delivery_chain.core.registry import Registry
    from delivery_chain.oci.transport import Response

MAX_BLOB_IN_MEMORY = 64 * 1024 * 1024
"""Bytes that `get_blob` takes unless told otherwise: scan reports and SBOMs fit, layers do not."""
OCTETS = "application/octet-stream"
DELETED_TAG = "application/vnd.delivery-chain.deleted-tag.v1"
"""Artifact type of the tiny manifest that a tag holds for a moment while `delete_tag` deletes it."""
_OK = frozenset({200})
_OK_OR_MISSING = frozenset({200, 404})
_MOUNTED = frozenset({201, 202})
_CREATED = frozenset({201})
_DELETED = frozenset({200, 202, 204, 404})


class RegistryClient:
    """One registry. Safe to use from threads; use it as a context manager so that connections are closed."""

    def __init__(self, registry: Registry, *, timeout: float = 60) -> None:
        """Open nothing yet.

        Args:
            registry: Address, login and CA.
            timeout: Seconds for a connect, and for each wait for bytes.
        """
        self.registry = registry
        self._session = Session(registry, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def ping(self) -> None:
        """Ask whether a registry answers and takes the login.

        Raises:
            RegistryError: Unauthorized, RegistryUnreachable, NotFound where no registry is there, …
        """
        self._session.call("GET", "/v2/", what="registry", expect=_OK).discard()

    def head_manifest(self, name: str, ref: str) -> Descriptor | None:
        """What a tag or digest stands for, or None where it is not there.

        Some registries leave the digest out of the answer; then the manifest is fetched and hashed.

        Args:
            name: Repository.
            ref: Tag or digest.
        """
        what = manifest_name(name, ref)
        with self._session.call(
            "HEAD",
            manifest_path(name, ref),
            what=what,
            expect=_OK_OR_MISSING,
            scopes=pull(name),
            headers=_ACCEPT,
        ) as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            said = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            length = response.headers.get("Content-Length", "")
        if said and length.isdecimal() and media_type in MANIFEST_TYPES | INDEX_TYPES:
            _check_said(said, ref, what)
            return Descriptor(media_type, said, int(length))
        manifest = self.get_manifest(name, ref)
        return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))

    def get_manifest(self, name: str, ref: str) -> AnyManifest:
        """The manifest or index under a tag or digest, its digest checked.

        Raises:
            NotFound: It is not there.
            ContentMismatch: The bytes are not what `ref`, or the registry's own header, says.
            ProtocolViolation: It is no manifest that can be copied.
        """
        what = manifest_name(name, ref)
        with self._session.call(
            "GET", manifest_path(name, ref), what=what, expect=_OK, scopes=pull(name), headers=_ACCEPT
        ) as response:
            raw = response.read(MAX_MANIFEST)
            said = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get("Content-Type", "")
        for expected in (ref if is_digest(ref) else "", said):
            if expected:
                check_content(raw, answered(check_digest, expected, what), what)
        return parse_manifest(raw, media_type)

    def put_manifest(self, name: str, ref: str, raw: bytes, media_type: str) -> str:
        """Put a manifest under a tag or its own digest.

        Returns:
            Its sha256 digest, which the registry has confirmed if it says any.

        Raises:
            ContentMismatch: `ref` is a digest of other bytes, or the registry took other bytes.
            TagConflict: The registry does not let this tag move.
            NotFound: The registry lacks a part of the manifest.
        """
        what = manifest_name(name, ref)
        if is_digest(ref):
            check_content(raw, ref, what)
        headers = {"Content-Type": media_type}
        with self._session.call(
            "PUT",
            manifest_path(name, ref),
            what=what,
            expect=_CREATED,
            scopes=push(name),
            headers=headers,
            body=raw,
        ) as response:
            said = response.headers.get("Docker-Content-Digest", "")
        if said:
            check_content(raw, answered(check_digest, said, what), what)
        return sha256_digest(raw)

    def delete_manifest(self, name: str, digest: str) -> None:
        """Delete a manifest with every tag that points at it. One that is not there is fine.

        Raises:
            RegistryError: The registry refuses; many have deletion turned off.
        """
        what = manifest_name(name, check_digest(digest))
        self._delete(manifest_path(name, digest), name, what)

    def delete_tag(self, name: str, tag: str) -> None:
        """Delete one tag and nothing else: the manifest and its other tags stay. A missing tag is fine.

        Registries that only delete by digest (docker-registry 2 among them) get a tiny manifest of its own
        under the tag first, and then that one's digest deleted. Cut short between the two, the tag holds the
        tiny manifest, and the next call ends the job.

        Raises:
            Unauthorized, TagConflict, RegistryError: The registry does not let this tag go.
        """
        if self.head_manifest(name, check_tag(tag)) is None:
            return
        try:
            self._delete(manifest_path(name, tag), name, manifest_name(name, tag))
        except (Unauthorized, TagConflict):
            raise
        except RegistryError as error:
            # docker-registry 2 takes the tag for a broken digest: 400 DIGEST_INVALID.
            if error.retryable and error.status != HTTPStatus.BAD_REQUEST:
                raise
        if self.head_manifest(name, tag) is not None:
            self._delete_by_stand_in(name, tag)

    def _delete_by_stand_in(self, name: str, tag: str) -> None:
        self.put_blob_bytes(name, EMPTY_BLOB)
        # The tag's name makes the stand-in unique: no other tag can share its digest and go with it.
        note = {"org.opencontainers.image.ref.name": tag}
        raw = build_artifact_manifest(DELETED_TAG, None, (EMPTY_CONFIG,), note)
        self.delete_manifest(name, self.put_manifest(name, tag, raw, OCI_MANIFEST))

    def _delete(self, path: str, name: str, what: str) -> None:
        scopes = (repository_scope(name, "delete"),)
        self._session.call("DELETE", path, what=what, expect=_DELETED, scopes=scopes).discard()

    def head_blob(self, name: str, digest: str) -> int | None:
        """The size of a blob in bytes, or None where this repository has no such blob."""
        with self._session.call(
            "HEAD",
            blob_path(name, digest),
            what=f"blob {digest} of {name}",
            expect=_OK_OR_MISSING,
            scopes=pull(name),
            follow=True,
        ) as response:
            length = response.headers.get("Content-Length", "")
            if response.status == HTTPStatus.NOT_FOUND:
                return None
        if not length.isdecimal():
            raise ProtocolViolation(
                f"blob {digest} of {name}: expected its size in Content-Length, found {length!r}"
            )
        return int(length)

    def get_blob(self, name: str, digest: str, max_bytes: int = MAX_BLOB_IN_MEMORY) -> bytes:
        """A whole blob, its digest checked.

        Raises:
            NotFound: It is not there.
            ContentMismatch: The bytes are other ones.
            ProtocolViolation: It is larger than `max_bytes`.
        """
        what = f"blob {digest} of {name}"
        with self._get_blob(name, digest) as response:
            return check_content(response.read(max_bytes), digest, what)

    @contextmanager
    def open_blob(
        self, name: str, digest: str, size: int | None = None, *, verify: bool = True
    ) -> Iterator[Iterator[bytes]]:
        """A blob as pieces of at most 1 MiB; the last one comes only if digest and size are right.

        Args:
            name: Repository.
            digest: The blob.
            size: Bytes it has to have; None where nobody said.
            verify: False where the reader checks digest and size itself, as `upload_blob` does.
        """
        with self._get_blob(name, digest) as response:
            if not verify:
                yield response.chunks()
                return
            yield verified(
                response.chunks(), digest, size, f"blob {digest} of {name} at {self.registry.host}"
            )

    def _get_blob(self, name: str, digest: str) -> Response:
        return self._session.call(
            "GET",
            blob_path(name, digest),
            what=f"blob {digest} of {name}",
            expect=_OK,
            scopes=pull(name),
            follow=True,
        )

    def upload_blob(self, name: str, digest: str, size: int, stream: Iterable[bytes]) -> None:
        """Send a blob in one request. A stream of other bytes is never committed.

        Args:
            name: Repository.
            digest: Checked on the way, and by the registry.
            size: Bytes.
            stream: Pieces of the blob; read once.

        Raises:
            ContentMismatch: The stream is not `digest`, or the registry received something else.
        """
        what = f"blob {digest} of {name}"
        with self._session.call(
            "POST",
            f"/v2/{check_name(name)}/blobs/uploads/",
            what=f"upload of {what}",
            expect=frozenset({202}),
            scopes=push(name),
        ) as response:
            location = self._session.location(response, f"upload of {what}")
        self._session.call(
            "PUT",
            with_digest(location, check_digest(digest)),
            what=what,
            expect=_CREATED,
            scopes=push(name),
            headers={"Content-Type": OCTETS, "Content-Length": str(size)},
            body=verified(stream, digest, size, what),
        ).discard()

    def put_blob_bytes(self, name: str, content: bytes) -> Descriptor:
        """Store bytes as a blob, unless they are there.

        Returns:
            Media type `application/octet-stream`, digest and size.
        """
        digest = sha256_digest(content)
        if self.head_blob(name, digest) is None:
            self.upload_blob(name, digest, len(content), (content,))
        return Descriptor(OCTETS, digest, len(content))

    def mount_blob(self, name: str, digest: str, from_name: str) -> bool:
        """Link a blob of another repository of this registry, without sending it.

        Returns:
            Whether that worked. If not, nothing is left behind.
        """
        source = quote(check_name(from_name))
        path = f"/v2/{check_name(name)}/blobs/uploads/?mount={check_digest(digest)}&from={source}"
        what = f"mount of blob {digest} of {from_name} into {name}"
        scopes = (*push(name), *pull(from_name))
        with self._session.call("POST", path, what=what, expect=_MOUNTED, scopes=scopes) as response:
            if response.status == HTTPStatus.CREATED:
                return True
            upload = self._session.location(response, what)
        # The registry opened an upload instead; one that can't be ended is its own to clean up.
        self._session.call(
            "DELETE", upload, what=what, expect=frozenset(range(200, 500)), scopes=push(name)
        ).discard()
        return False

    def list_tags(self, name: str) -> tuple[str, ...]:
        """Every tag of a repository, in the registry's order.

        Raises:
            NotFound: There is no such repository.
            ProtocolViolation: More than 100,000 entries, or one that is no tag.
        """
        path = f"/v2/{check_name(name)}/tags/list?n={PAGE_SIZE}"
        what = f"tags of {name}"
        tags = list_names(self._session, path, "tags", what=what, scopes=pull(name))
        return tuple(answered(check_tag, tag, what) for tag in tags)

    def list_repositories(self, prefix: str = "") -> tuple[str, ...]:
        """The registry's repositories whose names start with `prefix`, such as `shop/`, in its order.

        Raises:
            NotFound, Unauthorized: Registries may keep this list to themselves.
        """
        path, scopes = f"/v2/_catalog?n={PAGE_SIZE}", ("registry:catalog:*",)
        names = list_names(self._session, path, "repositories", what="catalog", scopes=scopes)
        return tuple(answered(check_name, name, "catalog") for name in names if name.startswith(prefix))

    def referrers_api(self, name: str, digest: str) -> tuple[Descriptor, ...] | None:
        """What the registry's referrers API lists, or None where it has no such API.

        `oci.referrers` is what callers want: it knows the other way too.
        """
        what = f"referrers of {digest} of {name}"
        path = f"/v2/{check_name(name)}/referrers/{check_digest(digest)}"
        try:
            return list_descriptors(self._session, path, what=what, scopes=pull(name))
        except NotFound:
            return None
        except RegistryError as error:
            if error.status in _NO_SUCH_API:
                return None
            raise


_ACCEPT = {"Accept": ACCEPT}
_NO_SUCH_API = frozenset({405, 501})


def _check_said(said: str, ref: str, what: str) -> None:
    answered(check_digest, said, what)
    if is_digest(ref) and said != ref:
        raise ContentMismatch(f"{what}: asked for {ref}, the registry answers with {said}")
