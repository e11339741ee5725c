"""Layers that different readers unpack differently, and a registry that sends different bytes to different clients."""

from __future__ import annotations

import gzip
import http.client
import struct
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import zstandard

from support.scan_images import LAYER, put_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.client import RegistryClient

_SKIPPABLE = 0x184D2A50


def push_raw(
    client: RegistryClient, name: str, layers: Sequence[tuple[bytes, str]], **odd: dict[int, object]
) -> str:
    """Push an image for linux/amd64.

    Args:
        client: The registry.
        name: Repository.
        layers: Packed bytes of each layer, and its digest in the config.
        odd: `types` and `sizes` that the manifest states, by the layer's number.
    """
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
    }
    entries = []
    for at, (packed, _) in enumerate(layers):
        entry = replace(client.put_blob_bytes(name, packed), media_type=LAYER).to_json()
        if at in odd.get("types", {}):
            entry["mediaType"] = odd["types"][at]
        if at in odd.get("sizes", {}):
            entry["size"] = odd["sizes"][at]
        entries.append(entry)
    return put_image(client, name, config, entries)


def tar_and_zstd(as_tar: bytes, as_zstd: bytes) -> bytes:
    """A tar that is also a zstd stream of another tar: the first one is in a frame that zstd skips."""
    header = _header(lambda size: struct.pack("<II", _SKIPPABLE, size - 8), len(as_tar))
    return header + as_tar + zstandard.ZstdCompressor().compress(as_zstd)


def tar_and_gzip(as_tar: bytes, as_gzip: bytes) -> bytes:
    """A tar that is also a gzip of another tar: the first one is in the extra field of gzip's header."""
    fixed = b"\x1f\x8b\x08\x04\0\0\0\0\0\x03"
    header = _header(lambda size: fixed + struct.pack("<H", size - 12), len(as_tar))
    return header + as_tar + gzip.compress(as_gzip, mtime=0)[10:]


def _header(start: Callable[[int], bytes], size: int) -> bytes:
    """The tar header of an empty file, with a name that starts with given bytes."""
    header = bytearray(tarfile.TarInfo("x" * 12).tobuf(tarfile.USTAR_FORMAT))
    begin = start(len(header) + size)
    header[: len(begin)] = begin
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@contextmanager
def two_faced(registry: Registry, digest: str, other: bytes) -> Iterator[Registry]:
    """A registry that sends other bytes of one blob to Trivy than to all other clients."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            line = http.client.HTTPConnection(registry.host)
            try:
                headers = {key: value for key, value in self.headers.items() if key != "Host"}
                line.request(self.command, self.path, headers=headers)
                answer = line.getresponse()
                body = answer.read()
            finally:
                line.close()
            if digest in self.path and self.headers.get("User-Agent", "").startswith("trivy"):
                body = other
            self.send_response(answer.status)
            for key in ("Content-Type", "Docker-Content-Digest", "Docker-Distribution-Api-Version"):
                if key in answer.headers:
                    self.send_header(key, answer.headers[key])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield replace(registry, host=f"127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
