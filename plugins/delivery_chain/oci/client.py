"""The verbs of a registry: manifests, tags and lists (and `Blobs`), each answer checked before it is believed.

Source: OCI distribution spec 1.1.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from delivery_chain.core.reference import check_digest, check_name, check_tag, sha256_digest
from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    RegistryError,
    TagConflict,
    Unauthorized,
)
from delivery_chain.oci.auth import repository_scope
from delivery_chain.oci.blobs import Blobs
from delivery_chain.oci.content import check_content
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
from delivery_chain.oci.paths import answered, is_digest, manifest_name, manifest_path, push
from delivery_chain.oci.session import Session

if TYPE_CHECKING:
    from email.message import Message
    from types import TracebackType

    from delivery_chain.core.registry import Registry

DELETED_TAG = "application/vnd.delivery-chain.deleted-tag.v1"
"""Artifact type of the tiny manifest that a tag holds for a moment while `delete_tag` deletes it."""
_OK = frozenset({200})
_OK_OR_MISSING = frozenset({200, 404})
_CREATED = frozenset({201})
_DELETED = frozenset({200, 202, 204, 404})


class RegistryClient(Blobs):
    """One registry. Safe to use from threads; use it as a context manager so that connections are closed."""

    def __init__(self, registry: Registry, *, timeout: float = 60) -> None:
        """Open nothing yet.

        Args:
            registry: Address, login and CA.
            timeout: Seconds for a connect, and for each wait for bytes.
        """
        super().__init__(registry, Session(registry, timeout=timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def abort(self) -> None:
        """Break the connections in use: threads that wait for them get RegistryUnreachable."""
        self._session.abort()

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
        headers = self._head(name, ref)
        if headers is None:
            return None
        said = headers.get("Docker-Content-Digest", "")
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        length = headers.get("Content-Length", "")
        if said and length.isdecimal() and media_type in MANIFEST_TYPES | INDEX_TYPES:
            _check_said(said, ref, manifest_name(name, ref))
            return Descriptor(media_type, said, int(length))
        manifest = self.get_manifest(name, ref)
        return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))

    def head_digest(self, name: str, ref: str) -> str | None:
        """The digest that a tag stands for, or None where it is not there; of things that are no image too.

        Args:
            name: Repository.
            ref: Tag or digest.
        """
        headers = self._head(name, ref)
        if headers is None:
            return None
        said = headers.get("Docker-Content-Digest", "")
        if not said:
            try:
                return self.get_manifest(name, ref).digest
            except NotFound:
                return None
        _check_said(said, ref, manifest_name(name, ref))
        return said

    def _head(self, name: str, ref: str) -> Message | None:
        with self._session.call(
            "HEAD",
            manifest_path(name, ref),
            what=manifest_name(name, ref),
            expect=_OK_OR_MISSING,
            scopes=self._reading(name),
            headers=_ACCEPT,
        ) as response:
            return None if response.status == HTTPStatus.NOT_FOUND else response.headers

    def get_manifest(self, name: str, ref: str) -> AnyManifest:
        """The manifest or index under a tag or digest, its digest checked.

        Raises:
            NotFound: It is not there.
            ContentMismatch: The bytes are not what `ref`, or the registry's own header, says.
            ProtocolViolation: It is no manifest that can be copied.
        """
        what = manifest_name(name, ref)
        with self._session.call(
            "GET",
            manifest_path(name, ref),
            what=what,
            expect=_OK,
            scopes=self._reading(name),
            headers=_ACCEPT,
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
        self.delete_manifest(name, self.put_manifest(name, tag, _stand_in(tag), OCI_MANIFEST))

    def _delete(self, path: str, name: str, what: str) -> None:
        scopes = (repository_scope(name, "delete"),)
        self._session.call("DELETE", path, what=what, expect=_DELETED, scopes=scopes).discard()

    def list_tags(self, name: str) -> tuple[str, ...]:
        """Every tag of a repository, in the registry's order.

        Raises:
            NotFound: There is no such repository.
            ProtocolViolation: More than 100,000 entries, or one that is no tag.
        """
        path = f"/v2/{check_name(name)}/tags/list?n={PAGE_SIZE}"
        what = f"tags of {name}"
        tags = list_names(self._session, path, "tags", what=what, scopes=self._reading(name))
        return tuple(answered(check_tag, tag, what) for tag in tags)

    def list_repositories(self, prefix: str | tuple[str, ...] = "") -> tuple[str, ...]:
        """The registry's repositories whose names start with `prefix`, or one of several, such as `shop/`.

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
            return list_descriptors(self._session, path, what=what, scopes=self._reading(name))
        except NotFound:
            return None
        except RegistryError as error:
            if error.status in _NO_SUCH_API:
                return None
            raise


def deleted_tag_digest(tag: str) -> str:
    """What `tag` stands for while `RegistryClient.delete_tag` deletes it."""
    return sha256_digest(_stand_in(tag))


def _stand_in(tag: str) -> bytes:
    # The tag's name makes it unique: no other tag can share its digest and go with it.
    note = {"org.opencontainers.image.ref.name": tag}
    return build_artifact_manifest(DELETED_TAG, None, (EMPTY_CONFIG,), note)


_ACCEPT = {"Accept": ACCEPT}
_NO_SUCH_API = frozenset({405, 501})


def _check_said(said: str, ref: str, what: str) -> None:
    answered(check_digest, said, what)
    if is_digest(ref) and said != ref:
        raise ContentMismatch(f"{what}: asked for {ref}, the registry answers with {said}")
