"""Transfer one blob from a source to one or more targets: read once, write to all, resume when interrupted.

If the source breaks off, the rest is requested (`Range`) while the uploads stay open. If an upload breaks off, it
resumes independently of the others, from the offset that its registry reports; if the registry reports none, the
upload of this blob starts over.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from delivery_chain.errors import ContentMismatch, RegistryError, RegistryUnreachable, Unauthorized
from delivery_chain.oci.content import ContentCheck
from delivery_chain.oci.copy.resume import WORTH_KEEPING
from delivery_chain.oci.copy.retry import Tries
from delivery_chain.oci.http.exchange import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from delivery_chain.oci.copy.digest_probe import Refusals
    from delivery_chain.oci.copy.endpoint import Place
    from delivery_chain.oci.copy.progress import Meter
    from delivery_chain.oci.copy.resume import OpenUploads
    from delivery_chain.oci.copy.retry import Retrier
    from delivery_chain.oci.http.exchange import Outgoing
    from delivery_chain.oci.manifest import Descriptor

PROGRESS = 64 * 1024
"""Bytes that count as progress: a transfer that keeps breaking after fewer bytes is abandoned."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Collaborators shared by all transfers of a copy."""

    retrier: Retrier
    uploads: OpenUploads
    meter: Meter
    refusals: Refusals


@dataclass(slots=True, eq=False)
class Arrival:
    """Progress of one blob at one target."""

    target: Place
    tries: Tries
    mount_from: str = ""
    """Repository of the target's registry that may have the blob, to mount it from; empty if none."""
    way: str = ""
    """`copied` or `mounted`, once the target has it."""
    error: RegistryError | None = None
    """Error that ended the transfer permanently."""
    sent: int = 0
    """Bytes sent, including those sent again."""
    location: str | None = None
    """URL of the upload session, while one is open."""
    offset: int = 0
    """Bytes that the registry is known to hold."""
    reached: int = 0
    """Offset reached in this round."""
    fault: RegistryError | None = None
    """Error that ended this round."""
    outgoing: Outgoing | None = None
    renewed: bool = False
    """Whether an expired login has been renewed; this is done once per blob."""

    @property
    def waiting(self) -> bool:
        """Whether the transfer is unfinished."""
        return not self.way and self.error is None


class Transfer:
    """Transfer of one blob to all its targets. Each target ends with a `way` or an `error`, whatever the others do."""

    def __init__(self, source: Place, blob: Descriptor, arrivals: Sequence[Arrival], tools: Tools) -> None:
        self._source = source
        self._blob = blob
        self._arrivals = arrivals
        self._retrier = tools.retrier
        self._uploads = tools.uploads
        self._meter = tools.meter
        self._refusals = tools.refusals

    def run(self) -> None:
        """Run the transfer.

        Raises:
            RegistryError: The source failed permanently; the blob was not committed anywhere.
        """
        try:
            while True:
                for arrival in self._waiting():
                    if arrival.location is None:
                        self._prepare(arrival)
                waiting = self._waiting()
                if not waiting:
                    return
                # Targets at the same offset need the same bytes.
                group = [one for one in waiting if one.offset == waiting[0].offset]
                with self._retrier.hold([self._source.registry, *(one.target.registry for one in group)]):
                    self._round(group, waiting[0].offset)
                for arrival in group:
                    self._settle(arrival)
        finally:
            for arrival in self._arrivals:
                if arrival.outgoing is not None:
                    arrival.outgoing.abort()

    def _waiting(self) -> list[Arrival]:
        return [one for one in self._arrivals if one.waiting]

    # Before a round: an upload that is open.

    def _prepare(self, arrival: Arrival) -> None:
        try:
            self._retrier.call(arrival.target.registry, lambda: self._begin(arrival))
        except RegistryError as error:
            arrival.error = error

    def _begin(self, arrival: Arrival) -> None:
        target, digest = arrival.target, self._blob.digest
        known = self._uploads.get(target.key(self._blob))
        if known is not None:
            arrival.offset = self._held(arrival, known)
            if arrival.location is not None:
                self._meter.kept(str(target), arrival.offset)
                return
        arrival.location = target.client.begin_upload(target.name, digest, arrival.mount_from)
        if arrival.location is None:
            arrival.way = "mounted"
            self._meter.blob_done(str(target), self._blob.size)
        elif self._blob.size >= WORTH_KEEPING:
            self._uploads.put(target.key(self._blob), arrival.location)

    def _held(self, arrival: Arrival, location: str) -> int:
        """Return the offset to resume an upload from; 0 if it can't be resumed, and then the upload is dropped."""
        target = arrival.target
        offset = 0
        # The saved address may be invalid in any way: on an error, a new upload replaces it.
        with suppress(RegistryError):
            offset = target.client.upload_offset(target.name, location)
        if offset:
            self._refusals.ask(target)
            offset = offset if self._refusals.known(target) else 0
        if 0 < offset <= self._blob.size:
            arrival.location = location
            return offset
        arrival.location = None
        self._uploads.drop(target.key(self._blob))
        with suppress(RegistryError):
            target.client.cancel_upload(target.name, location)
        return 0

    # A round: send the bytes from one offset onward to every target that needs them.

    def _round(self, group: list[Arrival], offset: int) -> None:
        self._retrier.check()
        for arrival in group:
            arrival.reached = offset
            self._guarded(arrival, self._open)
        try:
            self._send(group, offset)
        except ContentMismatch as error:
            for arrival in (one for one in group if one.fault is None):
                self._fail(arrival, error)
        for arrival in group:
            if arrival.fault is None:
                self._guarded(arrival, self._close)

    def _send(self, group: list[Arrival], offset: int) -> None:
        # A read that starts midway can't be verified here; `_held` resumes only at registries that verify the blob.
        trusted = all(self._refusals.known(arrival.target) for arrival in group)
        what = f"blob {self._blob.digest} of {self._source}"
        check = None if offset or trusted else ContentCheck(self._blob.digest, what)
        for piece in self._pieces(offset):
            offset += len(piece)
            if check is not None:
                check.add(piece)
                if offset == self._blob.size:
                    # Verify before sending the last bytes, so that no target ever gets a complete but wrong blob.
                    check.finish()
            for arrival in group:
                if arrival.fault is None:
                    self._write(arrival, piece)
            if all(arrival.fault is not None for arrival in group):
                return

    def _pieces(self, offset: int) -> Iterator[memoryview]:
        """Yield the source's bytes from `offset`, each piece in the same buffer."""
        source, size = self._source, self._blob.size
        tries = Tries(self._retrier)
        buffer = memoryview(bytearray(min(CHUNK, size - offset)))
        while offset < size:
            began = offset
            try:
                with source.client.read_blob(source.name, self._blob.digest, size, offset) as response:
                    while offset < size:
                        count = response.readinto(buffer[: size - offset])
                        if not count:
                            raise _ended(source, self._blob, offset)
                        offset += count
                        self._retrier.spend(source.registry, count)
                        yield buffer[:count]
            except RegistryError as error:
                if offset - began >= PROGRESS:
                    tries.progressed()
                tries.failed(error, source.registry)

    def _guarded(self, arrival: Arrival, step: Callable[[Arrival], None]) -> None:
        try:
            step(arrival)
        except RegistryError as error:
            self._fail(arrival, error)

    def _open(self, arrival: Arrival) -> None:
        target, blob = arrival.target, self._blob
        arrival.outgoing = target.client.open_upload(
            target.name, str(arrival.location), blob.digest, blob.size, arrival.offset
        )

    def _write(self, arrival: Arrival, piece: memoryview) -> None:
        if arrival.outgoing is None:
            return
        # Count before writing: if the write breaks off, all of the piece may have been sent.
        arrival.reached += len(piece)
        arrival.sent += len(piece)
        self._meter.sent(str(arrival.target), len(piece))
        try:
            self._retrier.spend(arrival.target.registry, len(piece))
            if not arrival.outgoing.write(piece):
                self._close(arrival)
        except RegistryError as error:
            self._fail(arrival, error)

    def _close(self, arrival: Arrival) -> None:
        if arrival.outgoing is None or not arrival.waiting:
            return
        outgoing, arrival.outgoing = arrival.outgoing, None
        try:
            arrival.target.client.close_upload(outgoing, arrival.target.name, self._blob.digest)
        finally:
            outgoing.abort()
        self._arrived(arrival)

    def _arrived(self, arrival: Arrival) -> None:
        arrival.way = "copied"
        self._uploads.drop(arrival.target.key(self._blob))
        self._meter.blob_done(str(arrival.target))
        self._retrier.gate(arrival.target.registry).worked()

    def _fail(self, arrival: Arrival, error: RegistryError) -> None:
        arrival.fault = error
        if arrival.outgoing is not None:
            arrival.outgoing.abort()
            arrival.outgoing = None

    # After a round: handle each target's fault.

    def _settle(self, arrival: Arrival) -> None:
        fault, arrival.fault = arrival.fault, None
        if fault is None:
            return
        target, before = arrival.target, arrival.offset
        try:
            if not self._login_ended(arrival, fault):
                arrival.tries.failed(fault, target.registry)
            self._retrier.call(target.registry, lambda: self._recover(arrival, fault))
        except RegistryError as error:
            arrival.error = error
            self._give_up(arrival)
            return
        if arrival.waiting:
            self._meter.sent(str(target), arrival.offset - arrival.reached)
            if arrival.offset - before >= PROGRESS:
                arrival.tries.progressed()

    def _login_ended(self, arrival: Arrival, fault: RegistryError) -> bool:
        ended = isinstance(fault, Unauthorized) and fault.status == HTTPStatus.UNAUTHORIZED
        if not ended or arrival.renewed:
            return False
        arrival.renewed = True
        return True

    def _recover(self, arrival: Arrival, fault: RegistryError) -> None:
        """Check the registry's state: the whole blob, a part to resume from, or nothing."""
        target = arrival.target
        if target.client.head_blob(target.name, self._blob.digest) == self._blob.size:
            # The response got lost, not the blob; or another client uploaded it.
            self._meter.sent(str(target), self._blob.size - arrival.reached)
            self._arrived(arrival)
            return
        location, arrival.location, arrival.offset = arrival.location, None, 0
        if location is None:
            return
        if isinstance(fault, ContentMismatch):
            # The bytes stored there are wrong.
            self._forget(arrival, location)
        else:
            arrival.offset = self._held(arrival, location)
            if arrival.offset > arrival.reached:
                arrival.location, arrival.offset = None, 0

    def _forget(self, arrival: Arrival, location: str) -> None:
        self._uploads.drop(arrival.target.key(self._blob))
        with suppress(RegistryError):
            arrival.target.client.cancel_upload(arrival.target.name, location)

    def _give_up(self, arrival: Arrival) -> None:
        if arrival.location is None or (self._uploads.kept and arrival.error and arrival.error.retryable):
            return
        self._forget(arrival, arrival.location)


def _ended(source: Place, blob: Descriptor, offset: int) -> RegistryUnreachable:
    return RegistryUnreachable(
        f"blob {blob.digest} of {source}: expected {blob.size} bytes, the connection ended after {offset}"
    )
