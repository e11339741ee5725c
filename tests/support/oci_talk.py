"""Plain requests to a registry, with responses reduced to their constant parts, to compare two registries."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field
from http.client import HTTPConnection, IncompleteRead
from typing import Any

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from support.oci_images import LAYER

CONFIG, DATA, ABSENT = b"{}", b"0123456789", sha256_digest(b"absent")
ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
MATTER = (
    "Accept-Ranges", "Allow", "Content-Range", "Content-Type", "Docker-Content-Digest", "Etag", "Link", "Location",
    "OCI-Subject", "Range",
)  # fmt: skip
"""Headers that clients depend on."""


def entry(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": sha256_digest(content), "size": len(content)}


def manifest(*layers: bytes, **more: Any) -> bytes:
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry(OCI_CONFIG, CONFIG)}
    return json.dumps(document | {"layers": [entry(LAYER, one) for one in layers]} | more).encode()


def index(*children: bytes) -> bytes:
    entries = [entry(OCI_MANIFEST, one) for one in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


IMAGE, OTHER = manifest(DATA), manifest()
INDEX = index(IMAGE, OTHER)
SUBJECT = entry(OCI_MANIFEST, IMAGE)
REPORT = manifest(subject=SUBJECT, artifactType="x/report", annotations={"a": "b"})
KINDS = {IMAGE: OCI_MANIFEST, OTHER: OCI_MANIFEST, REPORT: OCI_MANIFEST, INDEX: OCI_INDEX}


@dataclass(frozen=True, slots=True)
class Said:
    """A response without the parts that vary."""

    status: int
    codes: tuple[str, ...]
    headers: dict[str, str]
    content: Any
    """Content of a response that is not an error: bytes, or a list."""


@dataclass
class Talk:
    """Requests to one registry about one repository, with the responses."""

    host: str
    name: str
    said: list[Said] = field(default_factory=list)
    location: str = ""
    """Address of the last upload."""

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Said:
        """Send a request to a path below the repository, or to a whole path."""
        path = path if path.startswith("/") else f"/v2/{self.name}/{path}"
        connection = HTTPConnection(self.host, timeout=10)
        try:
            connection.request(
                method, path, body, {key.replace("_", "-"): one for key, one in headers.items()}
            )
            response = connection.getresponse()
            try:
                content = response.read()
            except IncompleteRead as short:
                content = short.partial
        finally:
            connection.close()
        found = {key: response.headers[key] for key in MATTER if key in response.headers}
        if location := found.get("Location", ""):
            plain = location.removeprefix(f"http://{self.host}")
            self.location = plain if "/uploads/" in plain else self.location
            found["Location"] = re.sub(r"(?<=/uploads/)[^?]+\?_state=.+", "…", plain)
        self.said.append(Said(response.status, *heard(response.status, found, content)))
        return self.said[-1]

    def json(self, method: str, path: str) -> Any:
        """The response as JSON, whatever its media type."""
        return json.loads(self(method, path).content)

    def blob(self, content: bytes, digest: str = "") -> Said:
        """Store a blob with one POST and one PUT."""
        self("POST", "blobs/uploads/")
        return self("PUT", f"{self.location}&digest={digest or sha256_digest(content)}", content)

    def put_and_leave(self, content: bytes, size: int) -> None:
        """Announce `size` bytes for the last upload, send fewer, and wait until the registry has noticed."""
        head = f"PUT {self.location}&digest={ABSENT} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {size}\r\n\r\n"
        with socket.create_connection(self.host.split(":"), timeout=10) as line:
            line.sendall(head.encode() + content)
            line.shutdown(socket.SHUT_WR)
            while line.recv(4096):
                pass

    def put(self, raw: bytes, ref: str = "", kind: str = "") -> Said:
        """Store a manifest under its digest, or a tag."""
        return self(
            "PUT",
            f"manifests/{ref or sha256_digest(raw)}",
            raw,
            Content_Type=kind or KINDS.get(raw, OCI_MANIFEST),
        )

    def get(self, ref: str, accept: str = ACCEPT) -> None:
        """Request a manifest with GET and HEAD."""
        for method in ("GET", "HEAD"):
            self(method, f"manifests/{ref}", Accept=accept)

    def image(self, *tags: str) -> None:
        """Store `IMAGE` with its blobs."""
        for content in (CONFIG, DATA):
            self.blob(content)
        for tag in tags or ("",):
            self.put(IMAGE, tag)

    def look(self) -> None:
        """Request everything that any scenario leaves."""
        self("GET", "tags/list")
        for ref in ("v1", "v2", *map(sha256_digest, KINDS)):
            self.get(ref)
        for content in (CONFIG, DATA, DATA * 2, b""):
            self("HEAD", f"blobs/{sha256_digest(content)}")


def heard(
    status: int, headers: dict[str, str], content: bytes
) -> tuple[tuple[str, ...], dict[str, str], Any]:
    """Error codes, headers, and the remaining content."""
    if not headers.get("Content-Type", "").startswith("application/json"):
        return (), headers, b"" if status >= 400 else content
    document = json.loads(content or b"{}")
    if status >= 400:
        return tuple(one["code"] for one in document.get("errors", ())), headers, b""
    # docker-registry lists tags in the order of its file system.
    tags = {"tags": sorted(document["tags"])} if document.get("tags") else {}
    return (), headers, document | tags
