"""List the branches and tags of git sources. Names and ids are untrusted; those that break git's rules are left out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from delivery_chain.errors import SourceError
from delivery_chain.tools.git.session import session
from delivery_chain.tools.git.source import check_commit, check_ref

if TYPE_CHECKING:
    from delivery_chain.tools.git.source import GitSource

MAX_REFS_OUTPUT = 16 * 1024 * 1024
"""Most bytes of `git ls-remote`: some 200,000 refs."""
_PEELED = "^{}"


def list_refs(source: GitSource, *, deadline: float) -> dict[str, str]:
    """Return the branches and tags of a source.

    Args:
        source: The repository.
        deadline: Point on the clock of `time.monotonic()`, seconds.

    Returns:
        Full ref name (`refs/heads/…`, `refs/tags/…`) to commit id; an annotated tag is peeled to its commit.
        Refs whose names break git's rules are left out.

    Raises:
        SourceUnreachable: The server did not answer. Retryable.
        SourceError: Denied, or more than 16 MiB of refs. Not retryable.
    """
    with session(source, deadline=deadline) as git:
        listing = git.run("ls-remote", "--heads", "--tags", "--", source.url, max_stdout=MAX_REFS_OUTPUT)
    refs, peeled = _refs(listing)
    return refs | peeled


def tag_objects(source: GitSource, *, deadline: float) -> dict[str, tuple[str, str]]:
    """Return the objects that the tags of a source point at, and the commits they resolve to.

    Args:
        source: The repository.
        deadline: Point on the clock of `time.monotonic()`, seconds.

    Returns:
        Full ref name to the object's id and the commit's; for a lightweight tag both are the same.

    Raises:
        SourceUnreachable: The server did not answer. Retryable.
        SourceError: Denied, or more than 16 MiB of tags. Not retryable.
    """
    with session(source, deadline=deadline) as git:
        listing = git.run("ls-remote", "--tags", "--", source.url, max_stdout=MAX_REFS_OUTPUT)
    refs, peeled = _refs(listing)
    return {name: (found, peeled.get(name, found)) for name, found in refs.items()}


def _refs(listing: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Parse the output of `git ls-remote`: names to objects, and annotated tags to commits."""
    refs: dict[str, str] = {}
    peeled: dict[str, str] = {}
    # Split at git's newlines only: a name may hold other Unicode line ends, and would be cut to another name. Names
    # that are not UTF-8 are skipped; replacement characters would make two refs one.
    for line in listing.decode(errors="surrogateescape").split("\n"):
        commit, _, name = line.partition("\t")
        target, name = (peeled, name.removesuffix(_PEELED)) if name.endswith(_PEELED) else (refs, name)
        with contextlib.suppress(SourceError):
            target[check_ref(name)] = check_commit(commit)
    return refs, peeled
