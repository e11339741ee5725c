"""A bounded load generator: threads with one persistent connection each; measures what a volley costs the server."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.sandbox.processes import PROC, Mark, family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWER_SECONDS = 60.0
FAILED = 500
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Shot:
    """One request, ready to be sent."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Volley:
    """Results of some shots."""

    count: int
    """Number of requests with the expected status."""
    failed: int
    """Number of requests that the server failed to serve (5xx)."""
    wall: float
    """Seconds from the first request to the last response."""
    cpu: dict[str, float]
    """CPU seconds of each family of processes that was measured."""
    latencies: list[float]
    """Latencies in seconds of the requests with the expected status."""


def cpu_seconds(mark: Mark) -> float:
    """Return the CPU time, user and system, of a process and its descendants."""
    total = 0
    for one in family(mark):
        try:
            text = (PROC / str(one.pid) / "stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = text[text.rindex(")") + 2 :].split()
        # Include children that have exited and were reaped, because a database's processes come and go.
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def fire(
    port: int, shots: Sequence[Shot], *, at_once: int, watched: Mapping[str, Mark], expect: int
) -> Volley:
    """Send all shots, some of them at a time.

    Raises:
        SystemExit: A response has neither the expected status nor 5xx, so the figures would be meaningless.
    """
    latencies: list[list[float]] = [[] for _ in range(at_once)]
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    ready = threading.Barrier(at_once + 1)

    def work(number: int) -> None:
        try:
            _send(port, shots[number::at_once], latencies[number], statuses, wrong, ready, expect)
        except (OSError, http.client.HTTPException, threading.BrokenBarrierError) as error:
            wrong.append(repr(error))
            ready.abort()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(at_once)]
    for thread in threads:
        thread.start()
    before = {name: cpu_seconds(mark) for name, mark in watched.items()}
    ready.wait(ANSWER_SECONDS)
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    cpu = {name: cpu_seconds(mark) - before[name] for name, mark in watched.items()}
    if wrong:
        raise SystemExit(f"expected status {expect}, found {dict(statuses)}; the first: {wrong[0]}")
    good = [one for some in latencies for one in some]
    return Volley(len(good), len(shots) - len(good), wall, cpu, good)


def _send(
    port: int,
    shots: Sequence[Shot],
    latencies: list[float],
    statuses: Counter[int],
    wrong: list[str],
    ready: threading.Barrier,
    expect: int,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.connect()
        ready.wait(ANSWER_SECONDS)
        for shot in shots:
            began = time.perf_counter()
            connection.request(shot.method, shot.path, body=shot.body, headers=dict(shot.headers))
            answer = connection.getresponse()
            text = answer.read()
            statuses[answer.status] += 1
            if answer.status == expect:
                latencies.append(time.perf_counter() - began)
            elif answer.status < FAILED:
                wrong.append(f"{shot.method} {shot.path}: {answer.status} {text[:300]!r}")
                return
    finally:
        connection.close()
