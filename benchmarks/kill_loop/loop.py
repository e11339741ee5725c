"""Brings a sandbox up, pushes and kills, waits until all runs have ended, and judges the outcome."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kill_loop.chains import REPOSITORIES, write_specs
from benchmarks.kill_loop.gathering import gather
from benchmarks.kill_loop.judge import ENDED, KINDS, judge
from benchmarks.kill_loop.killing import Killer
from benchmarks.kill_loop.parts import Parts
from benchmarks.kill_loop.pushing import Pusher
from benchmarks.kill_loop.watching import Watcher

from delivery_chain.errors import DeliveryChainError
from delivery_chain.sandbox import stack
from delivery_chain.sandbox.connections import GIT_HOOKS
from delivery_chain.sandbox.layout import Layout, load_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.kill_loop.facts import Push
    from benchmarks.kill_loop.judge import Violation

    from delivery_chain.sandbox.api import AirflowApi
    from delivery_chain.sandbox.console import Console

ROOT = Path(__file__).resolve().parents[2]
PROGRESS_SECONDS = 15.0
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the command."""

    seed: int = 1
    minutes: float = 3.0
    database: str = "auto"
    pushes: int = 10
    kills: int = 16
    quiet_minutes: float = 10.0


@dataclass(slots=True)
class Result:
    """Result of the loop."""

    options: Options
    database: str = ""
    pushes: int = 0
    vulnerable: int = 0
    ways: dict[str, int] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    killed_steps: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    deliveries: int = 0
    repeated_deliveries: int = 0
    loop_seconds: float = 0.0
    quiet_seconds: float = 0.0
    settled: bool = False
    """Whether all runs had ended when the outcome was judged."""
    violations: list[Violation] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Number of violations by kind."""
        return {kind: sum(one.kind == kind for one in self.violations) for kind in KINDS}

    def to_json(self) -> dict[str, Any]:
        """The result for programs."""
        return asdict(self) | {"counts": self.counts}


class Loop:
    """One run of the loop, in a new folder."""

    def __init__(self, layout: Layout, options: Options, console: Console) -> None:
        self.layout, self.options, self.console = layout, options, console
        chance = random.Random(options.seed)  # noqa: S311
        self.chances = [random.Random(chance.random()) for _ in range(4)]  # noqa: S311
        self.parts = Parts(layout, self.chances[0])
        self.result = Result(options)
        self.began = time.monotonic()

    def run(self, *, keep: bool = False) -> Result:
        """Bring the sandbox up, run the loop, take the sandbox down."""
        specs = self.layout.root / "specs"
        write_specs(specs)
        pusher = Pusher(self.layout, "", "", self.chances[1])
        pusher.create()
        up = stack.Options(database=self.options.database, specs=str(specs), dags=str(ROOT / "dags"))
        try:
            self.parts.up(up, self.console)
            self._run(pusher)
        finally:
            self.parts.down(self.console, purge=not keep)
        return self.result

    def tell(self, text: str) -> None:
        """Print a line with the time."""
        self.console.line(f"{time.monotonic() - self.began:7.1f} s  {text}")

    def _run(self, pusher: Pusher) -> None:
        sandbox, secrets = self.parts.sandbox, load_secrets(self.layout)
        pusher.webhook = f"{sandbox.ui}/delivery-chain/webhooks/{GIT_HOOKS}"
        pusher.secret = secrets[GIT_HOOKS]
        hosts = {region: registry.host for region, registry in sandbox.registries().items()}
        moving = {repository.chain.image: repository.moving for repository in REPOSITORIES}
        watcher = Watcher(hosts, moving)
        stop = threading.Event()
        restorer = threading.Thread(target=self.parts.restore_until, args=(stop,), name="restore")
        killer = Killer(self.parts, self.chances[2], self.tell)
        watcher.start()
        restorer.start()
        try:
            begin = time.monotonic()
            self._disturb(pusher, killer)
            self.result.loop_seconds = round(time.monotonic() - begin, 1)
            with sandbox.api(patient=False) as api:
                self.result.settled = self._settle(pusher, api)
            self.result.quiet_seconds = round(time.monotonic() - begin - self.result.loop_seconds, 1)
            watcher.stop()
            with sandbox.api() as api:
                self._judge(pusher, killer, watcher, api, hosts)
        finally:
            watcher.stop()
            stop.set()
            restorer.join()

    def _disturb(self, pusher: Pusher, killer: Killer) -> None:
        """Push and kill, each at random times."""
        end = time.monotonic() + 60 * self.options.minutes
        stop = threading.Event()
        thread = threading.Thread(target=self._kill, args=(killer, end, stop), name="kill")
        thread.start()
        try:
            # The last pushes come early enough to be killed.
            for at in _times(self.chances[3], self.options.pushes, end - time.monotonic() - 10):
                _sleep_until(end - 60 * self.options.minutes + at)
                self._push(pusher)
            _sleep_until(end)
        finally:
            stop.set()
            pusher.hurry()
            thread.join()

    def _kill(self, killer: Killer, end: float, stop: threading.Event) -> None:
        begin = time.monotonic()
        for at in _times(killer.chance, self.options.kills, end - begin):
            if stop.wait(max(0.0, begin + at - time.monotonic())):
                return
            killer.kill(stop)

    def _push(self, pusher: Pusher, *given: Any, **more: Any) -> None:
        push = pusher.push(*given, **more)
        what = "vulnerable" if push.vulnerable else "clean"
        self.tell(f"pushed {push.chain} {push.ref} at {push.commit[:8]}, {what}, reported by {push.way}")

    def _settle(self, pusher: Pusher, api: AirflowApi) -> bool:
        """After the kills, push one clean commit to each repository, then wait for every run."""
        self.tell("quiet: no more kills")
        pusher.hurry()
        for repository in REPOSITORIES:
            self._push(pusher, repository, plain=True)
        pusher.close()
        deadline = time.monotonic() + 60 * self.options.quiet_minutes
        told, since = 0.0, 0.0
        while time.monotonic() < deadline:
            open_ = self._open(pusher.pushes, api)
            since = 0.0 if open_ else since or time.monotonic()
            if not open_ and time.monotonic() - since > 3 * POLL_SECONDS:
                return True
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                self.tell(f"waiting for {', '.join(open_[:4])}{' …' if len(open_) > 4 else ''}")  # noqa: PLR2004
            time.sleep(POLL_SECONDS)
        return False

    def _open(self, pushes: Sequence[Push], api: AirflowApi) -> list[str]:
        """Return the pushes and runs that have not ended yet."""
        dead = [name for name in self.parts.names if not self.parts.alive(name)]
        if dead:
            return dead
        newest = {(push.chain, push.ref): push for push in pushes}
        try:
            found = {chain: api.runs(chain) for chain in {push.chain for push in pushes}}
        except DeliveryChainError as error:
            return [str(error)[:80]]
        active = [
            f"{chain} {run['dag_run_id']}"
            for chain, runs in found.items()
            for run in runs
            if run["state"] not in ENDED
        ]
        known = {
            (chain, (run["conf"] or {}).get("ref"), (run["conf"] or {}).get("commit"))
            for chain, runs in found.items()
            for run in runs
        }
        unseen = [push for push in newest.values() if (push.chain, push.ref, push.commit) not in known]
        return active + [f"a run of {push.chain} {push.ref}" for push in unseen]

    def _judge(
        self, pusher: Pusher, killer: Killer, watcher: Watcher, api: AirflowApi, hosts: dict[str, str]
    ) -> None:
        facts = gather(self.parts, api, pusher.pushes, watcher, hosts)
        result = self.result
        result.violations = judge(facts)
        result.database = self.parts.sandbox.state.settings["database"]
        result.pushes = len(facts.pushes)
        result.vulnerable = sum(push.vulnerable for push in facts.pushes)
        result.ways = _counted(push.way for push in facts.pushes)
        result.kills, result.killed_steps = dict(killer.done), dict(killer.steps)
        result.restarts = dict(self.parts.restarts)
        result.runs = _counted("superseded" if run.superseded else run.state for run in facts.runs)
        result.looks = watcher.looks
        result.deliveries = len({one.id for one in facts.deliveries})
        result.repeated_deliveries = len(facts.deliveries) - result.deliveries


def _times(chance: random.Random, count: int, seconds: float) -> list[float]:
    """Return random times, one in each of equal parts of the span."""
    part = max(seconds, 0.0) / max(count, 1)
    return [part * (number + chance.random()) for number in range(count)]


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))


def _counted(values: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found
