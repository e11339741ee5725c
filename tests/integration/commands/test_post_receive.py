"""docs/events/post-receive in a real bare repository: each push is reported once and signed, and never fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks import Webhook

from delivery_chain.core.events.push import Push
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.standard import STANDARD
from support.webhook_target import Target, answer, drip, hang, webhook_target

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
HOOK = Path(__file__).parents[3] / "docs" / "events" / "post-receive"
LIMITS = "SECONDS, PAUSES, MOST = 10, (1, 3), 2000"
SECRET = "whsec_" + "c2VjcmV0" * 6
LAST = "; the sensor will find the push"


@dataclass(slots=True)
class Forge:
    """A bare repository with the hook, a clone to push from, and the hook's target."""

    folder: Path
    bare: Path
    clone: Path
    target: Target
    environment: dict[str, str]

    def git(self, *words: str, at: Path | None = None, given: str | None = None) -> str:
        """Run a git command; return its output."""
        done = self._git(words, at or self.clone, given)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def push(self, *words: str) -> str:
        """Push, which works whatever the hook does; return the hook's output."""
        done = self._git(("push", "--quiet", "origin", *words), self.clone, None)
        assert done.returncode == 0, done.stderr
        return "".join(line.removeprefix("remote: ").rstrip() for line in done.stderr.splitlines())

    def commit(self) -> str:
        """Make a commit; return its id."""
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def config(self, name: str, value: str) -> None:
        """Change one of the hook's settings."""
        self.git("config", f"delivery-chain.{name}", value, at=self.bare)

    def told(self) -> list[tuple[Push, ...]]:
        """The pushes in each request, as parsed by the receiver, which also verifies the signature."""
        return [
            receive(STANDARD, Request(got.headers, got.body), [SECRET], datetime.now(UTC)).pushes
            for got in self.target.got
        ]

    def _git(self, words: tuple[str, ...], at: Path, given: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *words],
            cwd=at,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(name="make")
def _make(tmp_path: Path) -> Iterator[Any]:
    with webhook_target() as target:

        def make(object_format: str = "sha1") -> Forge:
            home = {"HOME": str(tmp_path), "USER": "alice", "LANG": "C", "GIT_CONFIG_NOSYSTEM": "1"}
            people = {
                f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
            }
            environment = {"PATH": os.environ["PATH"], **home, **people}
            forge = Forge(tmp_path, tmp_path / "shop" / "api.git", tmp_path / "clone", target, environment)
            forge.bare.mkdir(parents=True)
            forge.git("init", "--quiet", "--bare", f"--object-format={object_format}", at=forge.bare)
            if object_format != "sha1":
                # Git 2.39 can't tell an empty repository's kind of ids.
                tree = forge.git("mktree", at=forge.bare, given="")
                root = forge.git("commit-tree", "-m", "root", tree, at=forge.bare)
                forge.git("update-ref", "refs/heads/main", root, at=forge.bare)
                forge.git("symbolic-ref", "HEAD", "refs/heads/main", at=forge.bare)
            forge.git("clone", "--quiet", str(forge.bare), str(forge.clone), at=tmp_path)
            forge.git("checkout", "--quiet", "-B", "main")
            shutil.copy(HOOK, forge.bare / "hooks" / "post-receive")
            (tmp_path / "secret").write_text(SECRET + "\n")
            (tmp_path / "secret").chmod(0o600)
            forge.config("url", target.url)
            forge.config("secretFile", str(tmp_path / "secret"))
            return forge

        yield make


@pytest.fixture(name="forge")
def _forge(make: Any) -> Forge:
    return make()  # type: ignore[no-any-return]


def limits(forge: Forge, values: str) -> None:
    """Change the hook's limits, in its own line for them."""
    hook = forge.bare / "hooks" / "post-receive"
    text = hook.read_text(encoding="utf-8")
    assert text.count(LIMITS) == 1
    hook.write_text(text.replace(LIMITS, f"SECONDS, PAUSES, MOST = {values}"), encoding="utf-8")


def test_one_request_for_one_push(forge: Forge) -> None:
    """A branch, a tag and an annotated tag in one push: one request, with the tag's commit."""
    first = forge.commit()
    forge.git("tag", "v1")
    forge.git("tag", "--annotate", "--message", "x", "v2")
    forge.git("tag", "--annotate", "--message", "x", "v3", "v2")
    assert forge.push("main", "v1", "v2", "v3") == ""
    names = ("refs/heads/main", "refs/tags/v1", "refs/tags/v2", "refs/tags/v3")
    assert forge.told() == [tuple(Push(ref=name, before="", after=first) for name in names)]


def test_the_body(forge: Forge) -> None:
    """The body has exactly the documented keys; the standard's own library accepts the signature."""
    before = datetime.now(UTC).replace(microsecond=0)
    first = forge.commit()
    forge.push("main")
    got = forge.target.got[0]
    assert Webhook(SECRET).verify(got.body, got.headers)
    body = json.loads(got.body)
    assert before <= datetime.fromisoformat(body.pop("pushed_at")) <= datetime.now(UTC)
    assert body == {
        "type": "source.push",
        "repository": "shop/api",
        "actor": "alice",
        "pushes": [{"ref": "refs/heads/main", "before": "", "after": first}],
    }
    assert (got.method, got.headers["content-type"]) == ("POST", "application/json")
    assert re.fullmatch(r"[0-9a-f]{64}", got.headers["webhook-id"])


def test_what_it_was_and_is(forge: Forge) -> None:
    """A branch that moved, an annotated tag that moved, and the deletion of both."""
    first = forge.commit()
    forge.git("tag", "--annotate", "--message", "x", "v1")
    forge.push("main", "v1")
    second = forge.commit()
    forge.git("tag", "--force", "--annotate", "--message", "x", "v1")
    forge.push("--force", "main", "v1")
    forge.git("config", "receive.denyDeleteCurrent", "ignore", at=forge.bare)
    forge.push("--delete", "main", "v1")
    names = ("refs/heads/main", "refs/tags/v1")
    moved = [("", first), (first, second), (second, "")]
    assert forge.told() == [
        tuple(Push(ref=name, before=was, after=now) for name in names) for was, now in moved
    ]


def test_the_same_push_again_is_another_one(forge: Forge) -> None:
    """There, back, and there again: each push has an id of its own."""
    forge.commit()
    for words in (("main:x",), ("--delete", "x"), ("main:x",)):
        forge.push(*words)
    assert len({got.headers["webhook-id"] for got in forge.target.got}) == 3


def test_many_refs(forge: Forge) -> None:
    """A push of 2,001 tags, half of them annotated, sends two requests and omits none."""
    first = forge.commit()
    forge.git("tag", "--annotate", "--message", "x", "v0")
    tag = forge.git("rev-parse", "v0")
    lines = [f"create refs/tags/v{number} {(first, tag)[number % 2]}\n" for number in range(1, 2001)]
    forge.git("update-ref", "--stdin", given="".join(lines))
    assert forge.push("--tags") == ""
    told = forge.told()
    assert [len(pushes) for pushes in told] == [2000, 1]
    assert {push.ref: push.after for pushes in told for push in pushes} == {
        f"refs/tags/v{number}": first for number in range(2001)
    }


def test_names_that_are_data(forge: Forge) -> None:
    """Odd names arrive unchanged; one that is not UTF-8, which JSON can't represent, does not affect the others."""
    first = forge.commit()
    odd = ["refs/heads/$(id)", "refs/heads/a'b\"c;d", "refs/heads/ü\u2028\x85"]
    not_text = b"refs/heads/\xff".decode(errors="surrogateescape")
    forge.push(*[f"main:{name}" for name in [*odd, not_text]])
    assert sorted(push.ref for push in forge.told()[0]) == sorted(odd)
    assert {push.after for push in forge.told()[0]} == {first}


def test_what_is_no_branch_or_tag(forge: Forge) -> None:
    """Notes and other refs are not reported; a tag of a file keeps the file's id."""
    forge.commit()
    forge.push("main:refs/notes/commits")
    assert forge.target.got == []
    blob = forge.git("hash-object", "-w", "--stdin", given="text")
    forge.git("tag", "file", blob)
    forge.git("tag", "--annotate", "--message", "x", "signed", blob)
    assert forge.push("file", "signed") == ""
    signed = forge.git("rev-parse", "signed")
    assert [(push.ref, push.after) for push in forge.told()[0]] == [
        ("refs/tags/file", blob),
        ("refs/tags/signed", signed),
    ]


def test_sha256(make: Any) -> None:
    """A repository with SHA-256 ids: 64 digits, and 64 zeros for a missing commit."""
    forge = make("sha256")
    first = forge.commit()
    forge.git("tag", "--annotate", "--message", "x", "v1")
    forge.push("v1")
    assert (len(first), forge.told()) == (64, [(Push(ref="refs/tags/v1", before="", after=first),)])


def test_who_and_where(forge: Forge) -> None:
    """gitolite's user takes precedence over the web server's; the repository's name can be set."""
    forge.environment |= {"GL_USER": "bob" * 100, "REMOTE_USER": "carol"}
    forge.config("repository", "https://git.example.com/shop/api.git")
    forge.commit()
    forge.push("main")
    body = json.loads(forge.target.got[0].body)
    assert (body["actor"], body["repository"]) == (
        ("bob" * 100)[:200],
        "https://git.example.com/shop/api.git",
    )


def test_tries_again(forge: Forge) -> None:
    """After a failure or a busy response, the hook retries with the same id and body, and a new time."""
    limits(forge, "10, (1, 0), 2000")
    forge.target.replies = [answer(503), answer(429)]
    forge.commit()
    assert forge.push("main") == ""
    assert len({(got.headers["webhook-id"], got.body) for got in forge.target.got}) == 1
    assert len(forge.target.got) == 3
    assert len({got.headers["webhook-timestamp"] for got in forge.target.got}) > 1


@pytest.mark.parametrize(
    ("replies", "said", "count"),
    [
        ([answer(401, b'{"detail": "no"}')], 'answered 401: \'{"detail": "no"}\'', 1),
        ([answer(302, b"", Location="http://127.0.0.1:9/")], "answered 302: ''", 1),
        ([answer(500, b"a\nb\x1b")] * 3, r"answered 500: 'a\nb\x1b'", 3),
        ([hang] * 3, "no answer within 1 s", 3),
        ([drip(b"HTTP/1.1 200 OK\r\nX: ", b"x")] * 3, "no answer within 1 s", 3),
        ([b""] * 3, "Remote end closed connection without response", 3),
        ([b"noise\r\n\r\n"] * 3, "noise", 3),
    ],
    ids=["refused", "redirect", "failing", "silent", "dripping", "cut", "noise"],
)
def test_the_push_is_done_all_the_same(forge: Forge, replies: list[Any], said: str, count: int) -> None:
    """Whatever the server does, the push works, and one line says that the sensor will find it."""
    limits(forge, "1, (0, 0), 2000")
    forge.target.replies = list(replies)
    first = forge.commit()
    address = forge.target.url.removesuffix("/hook")
    assert forge.push("main") == f"delivery-chain: {address}: {said}{LAST}"
    assert (len(forge.target.got), forge.git("rev-parse", "main", at=forge.bare)) == (count, first)


def test_nobody_there(forge: Forge) -> None:
    """Without a server, the hook tries three times and prints one line."""
    limits(forge, "1, (0, 0), 2000")
    forge.config("url", "http://127.0.0.1:9/hook")
    forge.commit()
    assert forge.push("main") == f"delivery-chain: http://127.0.0.1:9: [Errno 111] Connection refused{LAST}"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("url", "", "delivery-chain.url or delivery-chain.secretFile is not set, see git config"),
        ("secretFile", "", "delivery-chain.url or delivery-chain.secretFile is not set, see git config"),
        ("url", "http://airflow.example.com/x?token=hush", "delivery-chain.url: expected https"),
        ("url", "ftp://localhost/x", "delivery-chain.url: expected https"),
        ("secretFile", "/nowhere", "[Errno 2] No such file or directory: '/nowhere'"),
    ],
)
def test_settings(forge: Forge, name: str, value: str, said: str) -> None:
    """A missing or wrong setting is named, and nothing is sent."""
    forge.config(name, value)
    forge.commit()
    assert (forge.push("main"), forge.target.got) == (f"delivery-chain: {said}{LAST}", [])


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (SECRET, 0o640, "others may read it; expected mode 0600"),
        (SECRET, 0o604, "others may read it; expected mode 0600"),
        (SECRET.removeprefix("whsec_"), 0o600, "expected one line, whsec_ and base64"),
        ("whsec_", 0o600, "expected one line, whsec_ and base64"),
        ("whsec_no base64!", 0o600, "expected one line, whsec_ and base64"),
        ("", 0o600, "expected one line, whsec_ and base64"),
    ],
)
def test_secret_files(forge: Forge, text: str, mode: int, said: str) -> None:
    """A secret that others can read, or an invalid one, is not used, and not shown."""
    file = forge.folder / "secret"
    file.write_text(text)
    file.chmod(mode)
    forge.commit()
    assert (forge.push("main"), forge.target.got) == (f"delivery-chain: {file}: {said}{LAST}", [])
