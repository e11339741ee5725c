"""Registry operations: manifests, tags and listings (and `Blobs`). Every response is verified before use.

Source: OCI distribution spec 1.1.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from delivery_chain.core.names.reference import check_digest, check_name, check_tag, sha256_digest
from delivery_chain.errors import (
    ContentMismatch,
    DeletesDisabled,
    NotFound,
    RegistryError,
    TagConflict,
    Unauthorized,
)
from delivery_chain.oci.blobs import Blobs
from delivery_chain.oci.content import check_content
from delivery_chain.oci.deletion import delete_tag
from delivery_chain.oci.http.auth import repository_scope
from delivery_chain.oci.http.session import Session
from delivery_chain.oci.manifest import (
    ACCEPT,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST,
    AnyManifest,
    Descriptor,
    parse_manifest,
)
from delivery_chain.oci.pagination import PAGE_SIZE, list_descriptors, list_names
from delivery_chain.oci.paths import answered, is_digest, manifest_name, manifest_path, push

if TYPE_CHECKING:
    from email.message import Message
    from types import TracebackType

    from delivery_chain.core.names.registry import Registry

_OK = frozenset({200})
_OK_OR_MISSING = frozenset({200, 404})
_CREATED = frozenset({201})
_DELETED = frozenset({200, 202, 204, 404})


class RegistryClient(Blobs):
    """Client of one registry. Thread-safe; use it as a context manager to close its connections."""

    def __init__(self, registry: Registry, *, timeout: float = 60) -> None:
        """Create a client; connections are opened on first use.

        Args:
            registry: Address, login and CA.
            timeout: Seconds for a connect, and for each read.
        """
        super().__init__(registry, Session(registry, timeout=timeout))
        self.deletes_in: set[str] = set()
        """Repositories where a delete has succeeded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    def abort(self) -> None:
        """Break the connections in use: threads waiting on them get RegistryUnreachable."""
        self._session.abort()

    def ping(self) -> str:
        """Check that the registry responds and accepts the login.

        Returns:
            The registry's time, from its `Date` header; empty if it sends none.

        Raises:
            RegistryError: The check failed: Unauthorized, RegistryUnreachable, NotFound if the host is not a
                registry, …
        """
        response = self._session.call("GET", "/v2/", what="registry", expect=_OK)
        date = response.headers.get("Date", "")
        response.discard()
        return str(date)

    def head_manifest(self, name: str, ref: str) -> Descriptor | None:
        """Resolve a tag or digest to a descriptor, or None if it does not exist.

        Some registries omit the digest from the response; then the manifest is fetched and hashed.

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
        """Resolve a tag to a digest, or None if it does not exist. Accepts any media type, not only images.

        Args:
            name: Repository.
            ref: Tag or digest.
        """
        found = self.head_type(name, ref)
        return found[0] if found else None

    def head_type(self, name: str, ref: str) -> tuple[str, str] | None:
        """Return the digest and media type of whatever a tag or digest resolves to, or None if it does not exist."""
        headers = self._head(name, ref)
        if headers is None:
            return None
        said, media_type = headers.get("Docker-Content-Digest", ""), headers.get("Content-Type", "")
        if said:
            _check_said(said, ref, manifest_name(name, ref))
        else:
            try:
                raw, media_type = self.read_manifest(name, ref)
            except NotFound:
                return None
            said = sha256_digest(raw)
        return said, media_type.partition(";")[0].strip().lower()

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
        """Return the manifest or index under a tag or digest, verified against its digest.

        Raises:
            NotFound: The tag or digest does not exist.
            ContentMismatch: The bytes do not match `ref`, or the registry's own digest header.
            ProtocolViolation: The bytes are not a manifest of a supported type.
        """
        return parse_manifest(*self.read_manifest(name, ref))

    def read_manifest(self, name: str, ref: str) -> tuple[bytes, str]:
        """Return the bytes under a tag or digest, whatever they are, and the media type the registry reports.

        Raises:
            NotFound: The tag or digest does not exist.
            ContentMismatch: The bytes do not match `ref`, or the registry's own digest header.
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
        return raw, media_type

    def put_manifest(self, name: str, ref: str, raw: bytes, media_type: str) -> str:
        """Put a manifest under a tag or its own digest.

        Returns:
            The manifest's sha256 digest, confirmed by the registry if it reports one.

        Raises:
            ContentMismatch: `ref` is the digest of other bytes, or the registry stored other bytes.
            TagConflict: The registry does not allow this tag to move.
            NotFound: The registry lacks a blob or child of the manifest.
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
        """Delete a manifest and every tag that points at it. Succeeds if it does not exist.

        Raises:
            DeletesDisabled: Deletes are disabled at this registry. Not retryable.
            RegistryError: The registry rejects the request.
        """
        what = manifest_name(name, check_digest(digest))
        try:
            self._delete(manifest_path(name, digest), name, what)
        except RegistryError as error:
            if error.status in _NO_SUCH_API or "UNSUPPORTED" in error.codes:
                raise deletes_disabled(error, what, self.registry.host) from error
            raise

    def delete_tag(self, name: str, tag: str, digest: str = "") -> bool:
        """Delete only this tag, if it points at `digest`; see `oci.deletion.delete_tag`."""
        return delete_tag(self, name, check_tag(tag), digest)

    def delete_by_tag(self, name: str, tag: str) -> bool:
        """Try to delete a tag by name; return whether the registry did. Many registries can't, and change nothing.

        Raises:
            Unauthorized, TagConflict: The registry does not allow this tag to be deleted.
        """
        try:
            self._delete(manifest_path(name, check_tag(tag)), name, manifest_name(name, tag))
        except (Unauthorized, TagConflict):
            raise
        except RegistryError as error:
            # docker-registry 2 parses the tag as a digest: 400 DIGEST_INVALID.
            if error.retryable and error.status != HTTPStatus.BAD_REQUEST:
                raise
        return self.head_digest(name, tag) is None

    def _delete(self, path: str, name: str, what: str) -> None:
        scopes = (repository_scope(name, "delete"),)
        self._session.call("DELETE", path, what=what, expect=_DELETED, scopes=scopes).discard()

    def list_tags(self, name: str) -> tuple[str, ...]:
        """Return every tag of a repository, in the registry's order.

        Raises:
            NotFound: The repository does not exist.
            ProtocolViolation: The list has more than 100,000 entries, or one that is not a tag.
        """
        path = f"/v2/{check_name(name)}/tags/list?n={PAGE_SIZE}"
        what = f"tags of {name}"
        tags = list_names(self._session, path, "tags", what=what, scopes=self._reading(name))
        return tuple(answered(check_tag, tag, what) for tag in tags)

    def list_repositories(self, prefix: str | tuple[str, ...] = "") -> tuple[str, ...]:
        """Return the repositories whose names start with `prefix` (such as `shop/`), or with one of several prefixes.

        Raises:
            NotFound, Unauthorized: The registry offers no catalog, or denies it to this login.
        """
        path, scopes = f"/v2/_catalog?n={PAGE_SIZE}", ("registry:catalog:*",)
        names = list_names(self._session, path, "repositories", what="catalog", scopes=scopes)
        return tuple(answered(check_name, name, "catalog") for name in names if name.startswith(prefix))

    def referrers_api(self, name: str, digest: str) -> tuple[Descriptor, ...] | None:
        """Return referrers from the registry's referrers API, or None if it has no such API.

        Most callers want `oci.referrers`, which also handles the fallback tag.
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


_ACCEPT = {"Accept": ACCEPT}
_NO_SUCH_API = frozenset({405, 501})


def _check_said(said: str, ref: str, what: str) -> None:
    answered(check_digest, said, what)
    if is_digest(ref) and said != ref:
        raise ContentMismatch(f"{what}: requested {ref}, the registry answered with {said}")


def deletes_disabled(error: RegistryError, what: str, host: str) -> DeletesDisabled:
    """Build the error for a registry with deletes disabled, with the steps to enable them."""
    said = f"{error.status} {' '.join(error.codes)}".strip()
    return DeletesDisabled(
        f"{what} at {host}: expected a registry that allows deletes, found one that does not ({said}); nothing "
        "was changed. Enable deletes in docker-registry with `storage: {delete: {enabled: true}}` or "
        "REGISTRY_STORAGE_DELETE_ENABLED=true; at others, grant the connection's login the right to delete. "
        "Then clear this task",
        method=error.method,
        url=error.url,
        status=error.status,
        codes=error.codes,
    )
