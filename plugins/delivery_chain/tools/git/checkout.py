"""Check out one exact commit of a git source into a folder.

Refs, commits and repository content are untrusted. None of them becomes an option, a transport that is not allowed,
a command or a path outside the folder; hooks, filters and `git submodule` never run.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.errors import SourceError, SourceUnreachable
from delivery_chain.tools.git.session import Git, session
from delivery_chain.tools.git.source import check_commit, check_ref
from delivery_chain.tools.versions import flaw_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from delivery_chain.tools.git.source import GitSource

MAX_LISTING = 128 * 1024 * 1024
"""Maximum size, in bytes, of a commit's file list: some million files."""
MAX_CONTENT = 16 * 1024 * 1024 * 1024
"""Maximum size, in bytes, of all files of a commit."""
MAX_SUBMODULES = 100
MAX_SUBMODULE_DEPTH = 5
_DEPTHS = ("1", "50", "1000", "2147483647")
"""History depths to try if a server does not serve single commits; the last one is all of it."""
_REFUSES_COMMIT = re.compile(
    r"not our ref|unadvertised object|couldn't find remote ref|shallow capabilities|no such remote ref",
    re.IGNORECASE,
)


def checkout(
    source: GitSource,
    *,
    ref: str,
    commit: str,
    into: Path,
    submodules: bool = False,
    of_ref: bool = False,
    deadline: float,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Check out the files of one exact commit into a folder.

    As little history as possible is fetched. Git LFS files stay pointers.

    Args:
        source: The repository.
        ref: Full name of the ref that led to the commit; fetched if the server does not serve single commits.
        commit: 40 or 64 lowercase hex digits.
        into: A folder that is empty or does not exist yet. On an error its content is undefined.
        submodules: Also fetch submodules, recursively, under the same rules.
        of_ref: Require the commit to be in the ref's history: servers also serve commits of other people's forks.
        deadline: Point on the clock of `time.monotonic()`, seconds.
        on_line: Called with git's progress and messages.

    Raises:
        SourceUnreachable: The server did not answer. Retryable.
        SourceError: Denied; no such commit; too large; a submodule breaks a rule. Not retryable.
        DiskFull: No room. Retryable.
    """
    check_ref(ref)
    check_commit(commit)
    if into.is_symlink() or (into.exists() and any(into.iterdir())):
        raise SourceError(
            f"git checkout of {source.url!r}: expected an empty folder, found files", tool="git"
        )
    if on_line:
        for line in flaw_lines("git"):
            on_line(line)
    into.mkdir(parents=True, exist_ok=True)
    into.chmod(0o755)
    taking = _Checkout(deadline, on_line, submodules=submodules, of_ref=of_ref)
    taking.take(source, ref, commit, into, depth=0)


@dataclass(frozen=True, slots=True)
class _Link:
    """A submodule as named by the commit's tree and `.gitmodules`."""

    path: str
    commit: str
    url: str


class _Checkout:
    """One checkout with a count of its submodules."""

    def __init__(
        self, deadline: float, on_line: Callable[[str], None] | None, *, submodules: bool, of_ref: bool
    ) -> None:
        self._of_ref = of_ref
        self._deadline = deadline
        self._on_line = on_line
        self._submodules = submodules
        self._left = MAX_SUBMODULES

    def take(self, source: GitSource, ref: str, commit: str, into: Path, *, depth: int) -> None:
        with session(source, deadline=self._deadline, on_line=self._on_line) as git:
            object_format = "sha256" if len(commit) == 64 else "sha1"  # noqa: PLR2004 - hex digits
            git.run("init", "--quiet", "--template=", f"--object-format={object_format}", "--", str(into))
            _fetch(git, ref, commit, into, of_ref=self._of_ref and depth == 0)
            found = git.run("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", cwd=into)
            if found.decode().strip() != commit:
                raise SourceError(f"git commit {commit}: expected a commit, found another object", tool="git")
            links = _check_listing(git, commit, into)
            git.run("checkout", "--quiet", "--detach", "--force", commit, "--", cwd=into)
            wanted = _submodules(git, links, commit, into) if self._submodules and links else []
        for link in wanted:
            self._take_submodule(source, link, into, depth + 1)

    def _take_submodule(self, parent: GitSource, link: _Link, into: Path, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > MAX_SUBMODULE_DEPTH:
            raise SourceError(
                f"git submodule {link.path!r}: expected at most {MAX_SUBMODULES} submodules, "
                f"{MAX_SUBMODULE_DEPTH} deep, found more",
                tool="git",
            )
        folder = into / link.path
        if folder.resolve() != into.resolve() / link.path:
            raise SourceError(f"git submodule {link.path!r}: expected a folder, found a link", tool="git")
        folder.mkdir(parents=True, exist_ok=True)
        for made in (folder, *folder.parents):
            if made == into:
                break
            made.chmod(0o755)
        self.take(parent.submodule(link.url, link.path), "refs/heads/*", link.commit, folder, depth=depth)


def _fetch(git: Git, ref: str, commit: str, into: Path, *, of_ref: bool) -> None:
    fetch = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance")
    url = git.source.url
    if not of_ref and _fetch_commit(git, fetch, commit, into):
        return
    # Fetch only the ref: if the commit is present then, it is in the ref's history.
    for depth in _DEPTHS:
        _fetch_ref(git, [*fetch, f"--depth={depth}"], ref, into)
        if _has(git, commit, into):
            return
    raise SourceError(
        f"git commit {commit}: expected it on {ref} of {url!r}, did not find it; "
        + (
            "name a commit of the ref's own history, or a ref that contains this one"
            if of_ref
            else "it was rewritten by a later push, whose own run builds the new state"
        ),
        tool="git",
    )


def _fetch_commit(git: Git, fetch: Sequence[str], commit: str, into: Path) -> bool:
    """Fetch just one commit; False if the server does not serve commits by id."""
    try:
        git.run(*fetch, "--depth=1", "--", git.source.url, commit, cwd=into)
    except SourceUnreachable:
        raise
    except SourceError as error:
        if not _REFUSES_COMMIT.search("\n".join(error.output)):
            raise
        return False
    return True


def _fetch_ref(git: Git, fetch: list[str], ref: str, into: Path) -> None:
    arguments = ["--", git.source.url, f"+{ref}:refs/delivery-chain/{'*' if ref.endswith('*') else 'source'}"]
    try:
        git.run(*fetch, *arguments, cwd=into)
    except SourceError as error:
        # A plain file server ("dumb" http) has no shallow history: fetch everything.
        if "shallow capabilities" not in "\n".join(error.output):
            raise
        git.run(*[option for option in fetch if not option.startswith("--depth")], *arguments, cwd=into)


def _has(git: Git, commit: str, into: Path) -> bool:
    with contextlib.suppress(SourceError):
        git.run("cat-file", "-e", f"{commit}^{{commit}}", cwd=into)
        return True
    return False


def _check_listing(git: Git, commit: str, into: Path) -> list[tuple[str, str]]:
    """Reject a commit that would fill the disk; return path and commit of each submodule."""
    listing = git.run("ls-tree", "-r", "-l", "-z", "--full-tree", commit, cwd=into, max_stdout=MAX_LISTING)
    total, links = 0, []
    for entry in listing.split(b"\0"):
        head, _, path = entry.partition(b"\t")
        fields = head.split()
        if len(fields) != 4:  # noqa: PLR2004 - mode, type, id, size
            continue
        if fields[1] == b"commit":
            links.append((path.decode(errors="replace"), fields[2].decode()))
        elif fields[3].isdigit():
            total += int(fields[3])
    if total > MAX_CONTENT:
        raise SourceError(
            f"git commit {commit}: expected at most {MAX_CONTENT} bytes of files, found {total}", tool="git"
        )
    return links


def _submodules(git: Git, links: list[tuple[str, str]], commit: str, into: Path) -> list[_Link]:
    """Pair the tree's submodules with their URLs; `.gitmodules` is read from the commit, not from the folder."""
    try:
        listing = git.run("config", f"--blob={commit}:.gitmodules", "-z", "--list", cwd=into)
    except SourceUnreachable:
        raise
    except SourceError:
        listing = b""
    values: dict[str, dict[str, str]] = {}
    for entry in listing.decode(errors="replace").split("\0"):
        key, _, value = entry.partition("\n")
        section, _, name = key.rpartition(".")
        values.setdefault(section, {})[name] = value
    urls = {fields["path"]: fields["url"] for fields in values.values() if {"path", "url"} <= fields.keys()}
    missing = sorted(path for path, _ in links if path not in urls)
    if missing:
        raise SourceError(
            f"git submodule {missing[0]!r}: expected its path and URL in .gitmodules, found none; "
            "correct the file, or turn submodules off",
            tool="git",
        )
    return [_Link(path, check_commit(target), urls[path]) for path, target in links]
