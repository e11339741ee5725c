"""Measures incoming events: webhooks against Airflow's own endpoint, matching, polls of git sources; prints Markdown.

Run as `python benchmarks/events/bench.py` (`--quick` for a rough result, `--parts` for one of the three).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import matching
import polls
from load import Shot, Volley, fire
from server import HOOKS, Target, airflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DATABASES = ("sqlite", "postgresql")
PUSH, ONE, REST = "push, 8 repositories", "push, 1 repository", "Airflow's POST dagRuns"
STEADY = 310
"""Number of pushes to one repository before the measurements: its history holds 300 refs, and then costs the most."""


def kinds(target: Target, runs: int, others: int) -> list[tuple[str, int, Callable[[], list[Shot]]]]:
    """Return the volleys of one round: name, expected status, and a function that creates the requests."""
    pushed: list[Shot] = []

    def push() -> list[Shot]:
        pushed[:] = [target.push() for _ in range(runs)]
        return list(pushed)

    return [
        (PUSH, 200, push),
        (REST, 200, lambda: [target.run_by_rest() for _ in range(runs)]),
        (ONE, 200, lambda: [target.push(repositories=1) for _ in range(runs)]),
        ("the same push again", 200, lambda: list(pushed)),
        ("wrong signature", 401, lambda: [target.bad_signature() for _ in range(others)]),
        ("no such connection", 401, lambda: [target.unknown() for _ in range(others)]),
        ("our route, 405", 405, lambda: [Shot("GET", HOOKS + "nobody")] * others),
        ("Airflow's /api/v2/version", 200, lambda: [Shot("GET", "/api/v2/version")] * others),
    ]


def measure(
    target: Target, rounds: int, runs: int, others: int, *, few: int
) -> dict[tuple[str, int], list[Volley]]:
    """Measure volleys by kind and by number of concurrent requests. Kinds take turns; the first round does not count.

    Args:
        target: The server.
        rounds: Number of rounds that count.
        runs: Number of requests of each kind that starts runs.
        others: Number of requests of each other kind.
        few: If not 0, replaces `runs` for concurrent requests, with a single round: on SQLite, Airflow's own endpoint
            takes seconds for each of these.
    """
    fire(target.port, [target.push(repositories=1) for _ in range(STEADY)], at_once=1, watched={}, expect=200)
    found: dict[tuple[str, int], list[Volley]] = {}
    for number in range(rounds + 1):
        for at_once in (1, 8):
            if few and at_once > 1 and number != 1:
                continue
            order = kinds(target, few if few and at_once > 1 else runs, others)
            if number % 2:
                # Swap the first kinds each round, because a kind finds the machine as the previous one left it.
                order[:3] = order[2::-1]
            for name, status, shots in order:
                volley = fire(target.port, shots(), at_once=at_once, watched=target.watched, expect=status)
                if number:
                    found.setdefault((name, at_once), []).append(volley)
    return found


def at(latencies: Sequence[float], share: float) -> float:
    """Return the latency that this share of all requests does not exceed."""
    return sorted(latencies)[min(int(len(latencies) * share), len(latencies) - 1)]


def table(kind: str, found: dict[tuple[str, int], list[Volley]]) -> list[str]:
    """Format the lines: medians over the rounds, and the ratio to Airflow's endpoint, pairwise within each round."""
    lines = []
    for (name, at_once), volleys in sorted(found.items(), key=lambda item: item[0][1]):
        base = found[REST, at_once]
        speed = statistics.median(one.count / one.wall for one in volleys)
        ratio = statistics.median(
            one.count / one.wall / (other.count / other.wall)
            for one, other in zip(volleys, base, strict=True)
        )
        rate = f"{speed:.{int(speed < 1)}f}"
        # If the other endpoint mostly fails, a ratio is meaningless.
        shown = "" if any(other.failed for other in base) else f"{ratio:.2f}"
        all_latencies = [each for one in volleys for each in one.latencies]
        count, failed = (sum(getattr(one, what) for one in volleys) for what in ("count", "failed"))
        cpu, data = (
            1000 * sum(one.cpu.get(what, 0.0) for one in volleys) / (count + failed)
            for what in ("server", "database")
        )
        times = " | ".join(f"{at(all_latencies, share) * 1000:.1f}" for share in (0.5, 0.99))
        inside = f"{data:.1f}" if kind != "sqlite" else ""
        lines.append(
            f"| {kind} | {at_once} | {name} | {rate} | {times} | {cpu:.2f} | {inside} | {1000 / cpu:.0f} |"
            f" {shown} | {failed or ''} |"
        )
    return lines


def requests(quick: bool) -> None:  # noqa: FBT001 - the option
    """Print the receiver's figures, for each database."""
    rounds, runs, others = (1, 30, 150) if quick else (7, 80, 400)
    print(
        "| database | at once | what | requests/s | p50 ms | p99 ms | server CPU ms | database CPU ms |",
        end="",
    )
    print(" per CPU second | requests/s, beside Airflow's | failed |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for kind in DATABASES:
        with (
            tempfile.TemporaryDirectory(prefix="delivery-chain-bench-") as name,
            airflow(kind, Path(name) / "sandbox") as target,
        ):
            Path(name).chmod(0o755)
            print(
                "\n".join(
                    table(kind, measure(target, rounds, runs, others, few=20 * (kind == DATABASES[0])))
                ),
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="*", default=["matching", "polls", "requests"])
    args = parser.parse_args()
    print(f"Load average before: {os.getloadavg()[0]:.1f}\n", flush=True)
    for part in args.parts:
        {"matching": matching.main, "polls": polls.main, "requests": requests}[part](args.quick)
        print(f"\nLoad average after {part}: {os.getloadavg()[0]:.1f}\n", flush=True)


if __name__ == "__main__":
    main()
