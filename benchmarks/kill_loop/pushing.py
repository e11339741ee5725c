"""Makes random pushes, and sends the webhooks that report them: at once, twice, late, or not at all."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from benchmarks.kill_loop.chains import NAMESPACE, REPOSITORIES, Repository
from benchmarks.kill_loop.facts import Push

from delivery_chain.sandbox import shop
from delivery_chain.tools import process

if TYPE_CHECKING:
    import random

    from delivery_chain.sandbox.layout import Layout

GIT_SECONDS = 60
TRIES = (0, 1, 3)
"""Pauses in seconds before the tries of one webhook, as in `docs/events/post-receive`."""
LATEST = 40.0
"""Maximum delay of a late webhook, in seconds."""
NOWHERE = "0" * 40


@dataclass(slots=True)
class Pusher:
    """Makes the pushes. `pushes` then lists them, and whether each was reported."""

    layout: Layout
    webhook: str
    secret: str
    chance: random.Random
    vulnerable: float = 0.3
    """Share of new commits that are vulnerable."""
    made: list[Push] = field(default_factory=list)
    _commits: dict[str, list[str]] = field(default_factory=dict)
    _bad: set[str] = field(default_factory=set)
    _telling: list[tuple[int, Future[bool]]] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))
    _stop: threading.Event = field(default_factory=threading.Event)

    def create(self) -> None:
        """Create the repositories, empty, and a clone of each."""
        for repository in REPOSITORIES:
            bare = self._bare(repository)
            self._git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
            clone = self._clone(repository)
            self._git("init", "--quiet", "--initial-branch=work", str(clone))
            self._git("remote", "add", "origin", bare.as_uri(), cwd=clone)
            self._commits[repository.name] = []

    def push(self, repository: Repository | None = None, *, plain: bool = False) -> Push:
        """Push once.

        Args:
            repository: Repository to push to; a random one by default.
            plain: Push a clean new commit and report it at once, or not at all if the sensor alone finds pushes to
                the repository.
        """
        weights = [one.weight for one in REPOSITORIES]
        repository = repository or self.chance.choices(REPOSITORIES, weights)[0]
        way = repository.ways[0] if plain else self.chance.choice(repository.ways)
        commit = "" if plain else self._back(repository)
        if not commit:
            commit = self._commit(repository, vulnerable=not plain and self.chance.random() < self.vulnerable)
        number = len(self.made)
        ref = "refs/heads/main" if repository.branch else f"refs/tags/v1.{number}.0"
        earlier = self._commits[repository.name]
        before = (earlier[-1] if earlier else "") if repository.branch else ""
        force = ("--force",) if repository.branch else ()
        self._git("push", "--quiet", *force, "origin", f"{commit}:{ref}", cwd=self._clone(repository))
        push = Push(
            number=number,
            chain=repository.chain.name,
            ref=ref,
            commit=commit,
            vulnerable=commit in self._bad,
            way=way,
            at=time.time(),
        )
        earlier.append(commit)
        self.made.append(push)
        if way != "sensor":
            body = _body(repository, push, before)
            delay = self.chance.uniform(2, LATEST) if way == "late" else 0.0
            again = self.chance.uniform(0, LATEST) if way == "twice" else None
            self._telling.append((number, self._pool.submit(self._tell, body, delay, again)))
        return push

    def hurry(self) -> None:
        """Send late webhooks now."""
        self._stop.set()

    def close(self) -> None:
        """Wait until every webhook was sent, successfully or not."""
        self.hurry()
        self._pool.shutdown()

    @property
    def pushes(self) -> tuple[Push, ...]:
        """All pushes, with whether a webhook for each has been accepted so far."""
        taken = {number for number, told in self._telling if told.done() and told.result()}
        return tuple(replace(push, taken=push.number in taken) for push in self.made)

    def _back(self, repository: Repository) -> str:
        """Sometimes return the previous commit of a branch, to push the sequence A, B, A; otherwise empty."""
        commits = self._commits[repository.name]
        if not repository.branch or len(commits) < 2 or self.chance.random() > 0.4:  # noqa: PLR2004
            return ""
        return commits[-2] if commits[-2] != commits[-1] else ""

    def _commit(self, repository: Repository, *, vulnerable: bool) -> str:
        clone = self._clone(repository)
        for old in clone.iterdir():
            if old.name != ".git":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        name = f"{repository.name} {len(self.made)}"
        release = shop.Release(repository.name, name, datetime.now(UTC), vulnerable)
        busybox = None if repository.branch else Path(shutil.which("busybox") or "busybox")
        for path, content in shop.files(release, busybox).items():
            file = clone / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if busybox:
            (clone / "busybox").chmod(0o755)
        self._git("add", "--all", cwd=clone)
        self._git("commit", "--quiet", f"--message={name}", cwd=clone)
        commit = self._git("rev-parse", "HEAD", cwd=clone).strip()
        if vulnerable:
            self._bad.add(commit)
        return commit

    def _tell(self, body: bytes, delay: float, again: float | None) -> bool:
        """Send a webhook as the hook does; return whether it was accepted."""
        delivery = uuid.uuid4().hex
        self._stop.wait(delay)
        taken = self._send(delivery, body)
        if again is not None:
            self._stop.wait(again)
            taken = self._send(delivery, body) or taken
        return taken

    def _send(self, delivery: str, body: bytes) -> bool:
        key = base64.b64decode(self.secret.partition("_")[2])
        for pause in TRIES:
            time.sleep(pause)
            at = str(int(time.time()))
            proof = hmac.new(key, f"{delivery}.{at}.".encode() + body, hashlib.sha256).digest()
            headers = {
                "Content-Type": "application/json",
                "webhook-id": delivery,
                "webhook-timestamp": at,
                "webhook-signature": "v1," + base64.b64encode(proof).decode(),
            }
            try:
                with requests.Session() as session:
                    session.trust_env = False
                    if session.post(self.webhook, body, headers=headers, timeout=10).ok:
                        return True
            except requests.RequestException:
                continue
        return False

    def _bare(self, repository: Repository) -> Path:
        return self.layout.git / NAMESPACE / f"{repository.name}.git"

    def _clone(self, repository: Repository) -> Path:
        return self.layout.root / "loop" / repository.name

    def _git(self, *arguments: str, cwd: Path | None = None) -> str:
        roles = {f"GIT_{role}_NAME": "Loop" for role in ("AUTHOR", "COMMITTER")}
        mails = {f"GIT_{role}_EMAIL": "loop@example.com" for role in ("AUTHOR", "COMMITTER")}
        env = {"HOME": str(self.layout.root), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        deadline = time.monotonic() + GIT_SECONDS
        argv = ["git", *arguments]
        done = process.run(
            argv, tool="git", env=process.base_env() | roles | mails | env, deadline=deadline, cwd=cwd
        )
        return done.stdout.decode()


def _body(repository: Repository, push: Push, before: str) -> bytes:
    return json.dumps(
        {
            "type": "source.push",
            "repository": f"{NAMESPACE}/{repository.name}",
            "actor": "loop",
            "pushed_at": datetime.fromtimestamp(push.at, UTC).isoformat(timespec="seconds"),
            "pushes": [{"ref": push.ref, "before": before, "after": push.commit}],
        }
    ).encode()
