"""The verbs of a `MemoryRegistry`, which behave like those of docker-registry 2.8.

Omitted, because chains never use them: conversions of Docker's media types for old clients, several ranges in one
request, conditional requests, blobs outside the registry.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message

    from support.oci_memory import MemoryRegistry, Upload

    Verb = Callable[..., "Reply"]
    Verbs = Mapping[str, Verb]

_NAME = r"([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_DIGEST = r"[a-z0-9]+:[0-9a-f]+"
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_MUST_BE_ACCEPTED = frozenset({OCI_MANIFEST, OCI_INDEX})
"""Types that a client does not get unless it names them in `Accept`."""
_KINDS = _MUST_BE_ACCEPTED | {DOCKER_MANIFEST, DOCKER_LIST}
_CATALOG_PAGE = 100


class CutOffError(Exception):
    """The request's body ended before its announced length."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    target: str
    """Path with query."""
    headers: Message
    base: str
    """The registry's URL as used by the client: `http://host:port`."""
    pieces: Iterator[bytes]
    """The body as it arrives; raises `CutOffError` if it breaks off."""

    @property
    def query(self) -> dict[str, str]:
        """The first value of each parameter."""
        return {key: values[0] for key, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True, slots=True)
class Reply:
    """The response to a request."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def refusal(status: int, *codes: str) -> Reply:
    """A response with error codes."""
    errors = [{"code": code, "message": code.lower().replace("_", " ")} for code in codes]
    return Reply(status, _JSON, json.dumps({"errors": errors}).encode())


def reply_to(held: MemoryRegistry, asked: Asked) -> Reply:
    """Carry out a request."""
    path = urlsplit(asked.target).path
    for pattern, verbs in _ROUTES:
        if (found := pattern.fullmatch(path)) and (held.referrers or verbs is not _REFERRERS):
            verb = verbs.get(asked.method)
            if verb is None:
                return Reply(405, _TEXT | {"Allow": ", ".join(sorted(verbs))}, b"Method not allowed\n")
            return verb(held, asked, *found.groups())
    return Reply(404, _TEXT, b"404 page not found\n")


def _ping(_: MemoryRegistry, __: Asked) -> Reply:
    return Reply(200, _JSON, b"{}")


def _catalog(held: MemoryRegistry, asked: Asked) -> Reply:
    """Pages of repositories; docker-registry pages no other list."""
    with held.lock:
        names = sorted(held.known | {key.partition("@")[0] for key in held.blobs}, key=_folder_order)
    size = int(asked.query["n"]) if asked.query.get("n", "").isdecimal() else _CATALOG_PAGE
    after = _folder_order(asked.query.get("last", ""))
    left = [name for name in names if _folder_order(name) > after]
    page = left[:size]
    more = {"last": page[-1], "n": size} if page and left[size:] else None
    headers = {"Link": f'</v2/_catalog?{urlencode(more)}>; rel="next"'} if more else {}
    return Reply(200, _JSON | headers, json.dumps({"repositories": page}).encode())


def _folder_order(name: str) -> list[str]:
    return name.split("/")


def _tags(held: MemoryRegistry, _: Asked, name: str) -> Reply:
    """All tags, whatever page is requested; a repository that never had a tag is unknown."""
    with held.lock:
        tags = sorted(held.tags_of(name))
    if not tags and name not in held.tagged:
        return refusal(404, "NAME_UNKNOWN")
    return Reply(200, _JSON, json.dumps({"name": name, "tags": tags or None}).encode())


def _get_manifest(held: MemoryRegistry, asked: Asked, name: str, ref: str) -> Reply:
    with held.lock:
        digest = ref if ":" in ref else held.tags.get(f"{name}:{ref}", "")
        kind, raw = held.manifests.get(f"{name}@{digest}", ("", b""))
    accepted = re.split(r"[ ,;]+", asked.headers.get("Accept", ""))
    if not kind or (kind in _MUST_BE_ACCEPTED and kind not in accepted):
        return refusal(404, "MANIFEST_UNKNOWN")
    return Reply(200, {"Content-Type": kind, "Docker-Content-Digest": digest, "Etag": f'"{digest}"'}, raw)


def _put_manifest(held: MemoryRegistry, asked: Asked, name: str, ref: str) -> Reply:
    raw, kind = b"".join(asked.pieces), asked.headers.get("Content-Type", "")
    document, digest = _document(raw), sha256_digest(raw)
    if kind not in _KINDS or document is None or document.get("mediaType", kind) != kind:
        return refusal(400, "MANIFEST_INVALID")
    if ":" in ref and ref != digest:
        return refusal(400, "DIGEST_INVALID")
    with held.lock:
        missing = _missing(held, name, document)
        if missing:
            return refusal(400, *["MANIFEST_BLOB_UNKNOWN"] * missing)
        held.manifests[f"{name}@{digest}"] = (kind, raw)
        if ":" not in ref:
            held.tags[f"{name}:{ref}"] = digest
            held.tagged.add(name)
    location = {"Location": f"{asked.base}/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
    subject = document.get("subject", {}).get("digest", "") if held.referrers else ""
    return Reply(201, location | ({"OCI-Subject": subject} if subject else {}))


def _document(raw: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(raw)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _missing(held: MemoryRegistry, name: str, document: dict[str, Any]) -> int:
    """Number of parts of a manifest that its repository lacks; an index may list a blob, too."""
    parts = [*([document["config"]] if "config" in document else ()), *document.get("layers", ())]
    children = [f"{name}@{one['digest']}" for one in document.get("manifests", ())]
    return sum(f"{name}@{one['digest']}" not in held.blobs for one in parts) + sum(
        one not in held.manifests and one not in held.blobs for one in children
    )


def _delete_manifest(held: MemoryRegistry, _: Asked, name: str, ref: str) -> Reply:
    if not held.deletes:
        return refusal(405, "UNSUPPORTED")
    if ":" not in ref and not held.deletes_tags:
        return refusal(400, "DIGEST_INVALID")
    with held.lock:
        if ":" not in ref:
            found = held.tags.pop(f"{name}:{ref}", None)
        else:
            found = held.manifests.pop(f"{name}@{ref}", None)
            for tag in [tag for tag, digest in held.tags_of(name).items() if digest == ref and found]:
                del held.tags[f"{name}:{tag}"]
    return Reply(202) if found else refusal(404, "MANIFEST_UNKNOWN")


def _referrers(held: MemoryRegistry, _: Asked, name: str, digest: str) -> Reply:
    """Every manifest of the repository with this subject. Source: OCI distribution spec 1.1, "Listing Referrers"."""
    found = []
    with held.lock:
        manifests = list(held.manifests.items())
    for key, (kind, raw) in manifests:
        document = _document(raw) or {}
        if key.startswith(f"{name}@") and document.get("subject", {}).get("digest") == digest:
            entry = {"mediaType": kind, "digest": key.partition("@")[2], "size": len(raw)}
            artifact = document.get("artifactType") or document.get("config", {}).get("mediaType", "")
            found.append(entry | {"artifactType": artifact, "annotations": document.get("annotations", {})})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
    return Reply(200, {"Content-Type": OCI_INDEX}, json.dumps(index).encode())


def _get_blob(held: MemoryRegistry, asked: Asked, name: str, digest: str) -> Reply:
    if not _SHA256.fullmatch(digest):
        return refusal(400, "DIGEST_INVALID")
    with held.lock:
        content = held.blobs.get(f"{name}@{digest}")
        if content is None:
            return refusal(404, "BLOB_UNKNOWN")
        part = _part(content, asked.headers.get("Range", ""))
        held.given += len(part.body) if asked.method == "GET" else 0
    about = {"Docker-Content-Digest": digest, "Etag": f'"{digest}"'}
    return Reply(part.status, {"Content-Type": "application/octet-stream"} | about | part.headers, part.body)


def _part(content: bytes, wanted: str) -> Reply:
    """The bytes of a `Range`. Beyond the end, docker-registry announces the whole size and sends nothing."""
    if not wanted:
        return Reply(200, {"Accept-Ranges": "bytes"}, content)
    size, found = len(content), _RANGE.fullmatch(wanted)
    first, last = (found[1], found[2]) if found else ("", "")
    start = int(first) if first else max(size - int(last or 0), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end or not found:
        where = {"Content-Range": f"bytes */{size}"} if found else {}
        return Reply(416, _TEXT | where | {"Content-Length": str(size)})
    span = {"Accept-Ranges": "bytes", "Content-Range": f"bytes {start}-{end}/{size}"}
    return Reply(206, span, content[start : end + 1])


def _delete_blob(held: MemoryRegistry, _: Asked, name: str, digest: str) -> Reply:
    if not held.deletes:
        return refusal(405, "UNSUPPORTED")
    with held.lock:
        found = held.blobs.pop(f"{name}@{digest}", None)
    return refusal(404, "BLOB_UNKNOWN") if found is None else Reply(202)


def _store(held: MemoryRegistry, asked: Asked, name: str, digest: str, content: bytes) -> Reply:
    held.blobs[f"{name}@{digest}"] = content
    held.known.add(name)
    return Reply(201, {"Location": f"{asked.base}/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})


def _begin_upload(held: MemoryRegistry, asked: Asked, name: str, _: str) -> Reply:
    """Open an upload, or mount. A blob in the same request is ignored."""
    query = asked.query
    with held.lock:
        content = held.blobs.get(f"{query.get('from')}@{query.get('mount')}")
        if content is not None:
            return _store(held, asked, name, query["mount"], content)
        number = held.open_upload(name)
        return _state(held, asked, number, 202)


def _state(held: MemoryRegistry, asked: Asked, number: str, status: int) -> Reply:
    """State of an upload. Its address contains the offset, signed, as that of docker-registry does."""
    upload = held.uploads[number]
    size = len(upload.content)
    headers = {
        "Location": f"{asked.base}/v2/{upload.name}/blobs/uploads/{number}?_state={size}",
        "Range": f"0-{max(size - 1, 0)}",
        "Docker-Upload-Uuid": number,
    }
    return Reply(status, headers)


def _uploading(act: Callable[[MemoryRegistry, Asked, str, Upload], Reply]) -> Verb:
    """A verb of an open upload.

    docker-registry continues only at the offset in the address, so an upload that broke off is lost. A registry that
    resumes continues at its own offset, and rejects a `Content-Range` that starts elsewhere.
    """

    def verb(held: MemoryRegistry, asked: Asked, name: str, number: str) -> Reply:
        state, upload = asked.query.get("_state"), held.uploads.get(number)
        if not number or upload is None or upload.name != name:
            known = number and not state
            return refusal(404, "BLOB_UPLOAD_INVALID" if known else "BLOB_UPLOAD_UNKNOWN")
        start = asked.headers.get("Content-Range", state or "").partition("-")[0]
        if held.resumes and asked.method in ("PATCH", "PUT") and start != str(len(upload.content)):
            return refusal(416, "BLOB_UPLOAD_INVALID")
        if not held.resumes and state != str(len(upload.content)):
            return refusal(404, "BLOB_UPLOAD_INVALID")
        return act(held, asked, number, upload)

    return verb


@_uploading
def _get_upload(held: MemoryRegistry, asked: Asked, number: str, _: Upload) -> Reply:
    return _state(held, asked, number, 204)


@_uploading
def _delete_upload(held: MemoryRegistry, _: Asked, number: str, __: Upload) -> Reply:
    del held.uploads[number]
    return Reply(204, {"Docker-Upload-Uuid": number})


@_uploading
def _patch_upload(held: MemoryRegistry, asked: Asked, number: str, upload: Upload) -> Reply:
    _take(held, asked, upload)
    return _state(held, asked, number, 202)


@_uploading
def _put_upload(held: MemoryRegistry, asked: Asked, number: str, upload: Upload) -> Reply:
    digest = asked.query.get("digest", "")
    if not _SHA256.fullmatch(digest):
        return refusal(400, "DIGEST_INVALID")
    _take(held, asked, upload)
    content = bytes(upload.content)
    if held.checks and sha256_digest(content) != digest:
        return refusal(400, "DIGEST_INVALID")
    with held.lock:
        held.uploads.pop(number, None)
        return _store(held, asked, upload.name, digest, content)


def _take(held: MemoryRegistry, asked: Asked, upload: Upload) -> None:
    for piece in asked.pieces:
        with held.lock:
            upload.content += piece
            held.received += len(piece)


_REFERRERS: Verbs = {"GET": _referrers}
_ROUTES: tuple[tuple[re.Pattern[str], Verbs], ...] = (
    (re.compile("/v2/"), dict.fromkeys(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), _ping)),
    (re.compile("/v2/_catalog"), {"GET": _catalog}),
    (re.compile(f"/v2/{_NAME}/tags/list"), {"GET": _tags}),
    (re.compile(f"/v2/{_NAME}/referrers/({_DIGEST})"), _REFERRERS),
    (
        re.compile(rf"/v2/{_NAME}/manifests/({_DIGEST}|\w[\w.-]{{0,127}})", re.ASCII),
        {"GET": _get_manifest, "HEAD": _get_manifest, "PUT": _put_manifest, "DELETE": _delete_manifest},
    ),
    (
        re.compile(f"/v2/{_NAME}/blobs/({_DIGEST})"),
        {"GET": _get_blob, "HEAD": _get_blob, "DELETE": _delete_blob},
    ),
    (
        re.compile(f"/v2/{_NAME}/blobs/uploads/([0-9a-z-]*)"),
        {
            "POST": _begin_upload,
            "GET": _get_upload,
            "HEAD": _get_upload,
            "PATCH": _patch_upload,
            "PUT": _put_upload,
            "DELETE": _delete_upload,
        },
    ),
)
