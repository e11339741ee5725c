"""Locates a build's context and Dockerfile, and checks that both are inside the checkout."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from delivery_chain.errors import BuildFailed


def resolve_context(checkout: Path, context: str, dockerfile: str) -> tuple[Path, Path]:
    """Find the context folder and the Dockerfile of a rule in a checkout.

    Args:
        checkout: The folder with the source's files.
        context: Folder relative to the checkout, `.` for all of it.
        dockerfile: File relative to the context or, if it does not exist there, to the checkout: users of
            `docker build` write both.

    Returns:
        Context folder and Dockerfile, absolute, with symlinks resolved.

    Raises:
        BuildFailed: A path is absolute, leaves the checkout by `..` or a symlink, or does not exist.
            Not retryable.
    """
    root = checkout.resolve(strict=True)
    folder = _inside(root, root, context, "context")
    if not folder.is_dir():
        raise _refused(
            "context", context, "a folder", "something else" if folder.exists() else "nothing there"
        )
    if folder.is_relative_to(root / ".git"):
        raise _refused("context", context, "a folder of the source", "git's own files")
    file = _inside(root, folder, dockerfile, "dockerfile")
    if not file.exists() and folder != root:
        file = _inside(root, root, dockerfile, "dockerfile")
    if not file.is_file():
        raise _refused(
            "dockerfile", dockerfile, "a file", "something else" if file.exists() else "nothing there"
        )
    return folder, file


def _inside(root: Path, base: Path, name: str, what: str) -> Path:
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise _refused(
            what, name, "a relative path inside the checkout without '..'", "a path that leaves it"
        )
    try:
        found = (base / path).resolve()
        found.exists()  # Raises if the kernel rejects the name.
    except (OSError, RuntimeError) as error:  # RuntimeError: a symlink loop, before Python 3.13
        raise _refused(
            what, name, "a path that can be resolved", "a symlink loop, or a name that is too long"
        ) from error
    if not found.is_relative_to(root):
        raise _refused(what, name, "a path inside the checkout", "a link that leads out of it")
    return found


def _refused(what: str, name: str, expected: str, found: str) -> BuildFailed:
    return BuildFailed(
        f"build.{what} {name[:300]!r}: expected {expected}, found {found}; correct the rule or the source",
        tool="buildah",
    )
