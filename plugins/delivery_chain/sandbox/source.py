"""Creates the sandbox's git source, bare repositories in a folder, and pushes to them from working clones."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.core.names.git_ref import BRANCHES, TAGS
from delivery_chain.errors import ToolMissing, ToolTimeout, UsageError
from delivery_chain.sandbox import shop
from delivery_chain.tools import process
from delivery_chain.tools.git.hook_file import git_hook

if TYPE_CHECKING:
    from delivery_chain.sandbox.layout import Layout

NAMESPACE = "shop"
GIT_SECONDS = 300
"""Timeout in seconds of one git command. If the receiver does not answer, the `post-receive` hook takes up to 75 s, and
longer on a busy machine."""
HOOK_SAYS = "delivery-chain: "
"""Prefix of the hook's own messages, after git's `remote: `."""
IDENTITY = "Shop Developer"
EMAIL = "developer@shop.example.com"
_VERSION = re.compile(r"v1\.(\d{1,9})\.\d{1,9}")


@dataclass(frozen=True, slots=True)
class Push:
    """One completed push."""

    repository: str
    """`api`."""
    kind: str
    """`tag` or `branch`."""
    name: str
    commit: str
    """40 hex digits."""
    vulnerable: bool
    said: str = ""
    """The hook's error message if it could not deliver the push; otherwise empty."""

    @property
    def ref(self) -> str:
        """The full ref."""
        return f"{TAGS if self.kind == 'tag' else BRANCHES}{self.name}"


def create_repositories(layout: Layout, webhook: str) -> None:
    """Create the missing bare repositories, empty, and install the `post-receive` hook in each.

    Args:
        layout: The sandbox's paths.
        webhook: The URL that the hook posts to.
    """
    for application in shop.APPLICATIONS:
        folder = bare(layout, application)
        if not (folder / "HEAD").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            _git(layout, "init", "--quiet", "--bare", "--initial-branch=main", str(folder))
        install_hook(layout, folder, webhook)


def install_hook(layout: Layout, folder: Path, webhook: str) -> None:
    """Install the `post-receive` hook in a bare repository, as docs/events.md describes."""
    hook = folder / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    shutil.copyfile(git_hook(), hook)
    hook.chmod(0o755)
    for name, value in (("url", webhook), ("secretFile", str(layout.hook_secret))):
        _git(layout, "config", f"delivery-chain.{name}", value, cwd=folder)


def bare(layout: Layout, application: str) -> Path:
    """Path of an application's bare repository."""
    return layout.git / NAMESPACE / f"{application}.git"


def push(
    layout: Layout, application: str, *, tag: str = "", branch: str = "main", vulnerable: bool = False
) -> Push:
    """Commit a new release of an application, and push it as a tag if one is given, otherwise to a branch.

    Raises:
        UsageError: The repository does not exist, or the tag exists already.
        ToolError: git failed; the message has the last lines of its output.
        ToolMissing: No static busybox is installed.
    """
    if not bare(layout, application).exists():
        raise UsageError(
            f"{layout.root}: no repository {application!r}; `delivery-chain sandbox up` creates it"
        )
    if tag and tag in tags(layout, application):
        raise UsageError(f"{application}: the tag {tag!r} already exists; choose another")
    clone = _clone(layout, application)
    release = shop.Release(application, tag or branch, datetime.now(UTC), vulnerable)
    _write(clone, shop.files(release, _busybox() if application == "api" else None))
    _git(layout, "add", "--all", cwd=clone)
    packages = "vulnerable" if vulnerable else "fixed"
    message = f"Release {tag}" if tag else f"Work on {branch}"
    _git(layout, "commit", "--quiet", f"--message={message}, {packages} packages", cwd=clone)
    commit = _git(layout, "rev-parse", "HEAD", cwd=clone).strip()
    made = Push(application, "tag" if tag else "branch", tag or branch, commit, vulnerable)
    return replace(made, said=_send(layout, made, clone))


def _send(layout: Layout, made: Push, clone: Path) -> str:
    """Push a commit; return the hook's error message, or an empty string."""
    try:
        done = _run(layout, "push", "--quiet", "origin", f"HEAD:{made.ref}", cwd=clone)
    except ToolTimeout:
        # git moves the ref before it runs the hook. So if the ref has moved, the hook is what hung.
        there = _git(
            layout, "for-each-ref", "--format=%(objectname)", made.ref, cwd=bare(layout, made.repository)
        )
        if there.strip() != made.commit:
            raise
        return f"the hook post-receive had not ended after {GIT_SECONDS} s"
    words = (line.partition(HOOK_SAYS)[2].strip() for line in done.output if HOOK_SAYS in line)
    return " ".join(words)


def tags(layout: Layout, application: str) -> list[str]:
    """The tags of an application's repository."""
    folder = bare(layout, application)
    return _git(layout, "for-each-ref", "--format=%(refname:strip=2)", "refs/tags", cwd=folder).split()


def next_minor(known: list[str]) -> int:
    """The lowest n for which `v1.n.0` is above every existing version tag."""
    return 1 + max((int(match[1]) for tag in known if (match := _VERSION.fullmatch(tag))), default=-1)


def _clone(layout: Layout, application: str) -> Path:
    folder = layout.clones / application
    if not (folder / ".git" / "HEAD").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _git(layout, "init", "--quiet", "--initial-branch=main", str(folder))
        _git(layout, "remote", "add", "origin", bare(layout, application).as_uri(), cwd=folder)
    return folder


def _write(clone: Path, files: dict[str, bytes]) -> None:
    """Replace the contents of the working tree with these files."""
    for entry in clone.iterdir():
        if entry.is_dir() and entry.name != ".git":
            shutil.rmtree(entry)
        elif entry.is_file():
            entry.unlink()
    for path, content in files.items():
        file = clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    if (busybox := clone / "busybox").exists():
        busybox.chmod(0o755)


def _busybox() -> Path:
    found = shutil.which("busybox")
    if found is None:
        raise ToolMissing("busybox: not found on PATH; apt-get install busybox-static", tool="busybox")
    return Path(found)


def _git(layout: Layout, *arguments: str, cwd: Path | None = None) -> str:
    return _run(layout, *arguments, cwd=cwd).stdout.decode("utf-8", "replace")


def _run(layout: Layout, *arguments: str, cwd: Path | None = None) -> process.Completed:
    env = process.base_env() | {
        # Ignore the user's configuration, so that no hooks, signing or other identity apply.
        "HOME": str(layout.root),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": IDENTITY,
        "GIT_AUTHOR_EMAIL": EMAIL,
        "GIT_COMMITTER_NAME": IDENTITY,
        "GIT_COMMITTER_EMAIL": EMAIL,
    }
    deadline = time.monotonic() + GIT_SECONDS
    return process.run(["git", *arguments], tool="git", env=env, deadline=deadline, cwd=cwd)
