"""What a git ref is: the one definition, for events, webhooks, specs, sensors and git itself. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
REF_BYTES = 4000
"""UTF-8 bytes of a whole name: a path on disk has at most 4095, the repository's folder among them."""
PART_BYTES = 250
"""UTF-8 bytes between two slashes: git makes a file `<part>.lock`, and file systems take 255."""

_RULES = (
    (r"^(?:refs/(?:heads|tags)/)?-", "the name of the branch or tag begins with '-'"),
    (r"^@$", "'@' alone stands for something else in git"),
    (r"[\x00-\x20\x7f]", "it holds a blank or a control character"),
    (r"[~^:?*\[\\]", "it holds one of ~ ^ : ? * [ and \\"),
    (r"\.\.", "it holds '..'"),
    (r"@\{", "it holds '@{'"),
    (r"^/|//|/$", "it holds an empty part: '/' at an end, or '//'"),
    (r"(?:^|/)\.", "a part of it begins with '.'"),
    (r"\.lock(?:/|$)", "a part of it ends in '.lock'"),
    (r"\.$", "it ends in '.'"),
    (rf"[^/]{{{PART_BYTES + 1}}}", "a part of it is too long"),
)
"""Git's rules; the first is that of `git branch` and `git tag`, whose names can be no options.

Source: git-check-ref-format(1), with `--branch`.
"""
REF = re.compile(rf"(?![\s\S]*(?:{'|'.join(f'(?:{rule})' for rule, _ in _RULES)}))[\s\S]+")
"""The same as one expression, which JavaScript takes too."""


def check_ref(ref: str) -> str:
    """Return a ref unchanged: a full name (`refs/heads/main`) or a short one (`main`).

    Raises:
        ValueError: With the rule that it breaks.
    """
    if not ref or (broken := broken_rule(ref)):
        raise ValueError(
            f"expected a git ref such as v1.2.0 or refs/heads/main, found {ref[:200]!r}"
            + (f": {broken}" if ref else "")
        )
    return ref


def check_full_ref(ref: str) -> str:
    """Return the full name of a branch or tag unchanged.

    Raises:
        ValueError: It is none, with the rule that it breaks.
    """
    if not ref.startswith((BRANCHES, TAGS)):
        raise ValueError(f"expected refs/heads/… or refs/tags/…, found {ref[:200]!r}")
    return check_ref(ref)


def broken_rule(ref: str) -> str:
    """The rule for names that a ref breaks, in words; empty for none."""
    try:
        size, longest = len(ref.encode()), max(len(part.encode()) for part in ref.split("/"))
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if size > REF_BYTES:
        return f"it has {size} bytes, and paths on disk take at most {REF_BYTES}"
    if longest > PART_BYTES:
        return f"a part of it has {longest} bytes, and git can store at most {PART_BYTES} between two slashes"
    return next((words for rule, words in _RULES if re.search(rule, ref)), "")


def short_ref(ref: str) -> tuple[str, str]:
    """A full ref as (`branch` or `tag`, name); a short one as ('', name)."""
    if ref.startswith(BRANCHES):
        return "branch", ref.removeprefix(BRANCHES)
    if ref.startswith(TAGS):
        return "tag", ref.removeprefix(TAGS)
    return "", ref


def counted(refs: Iterable[str]) -> str:
    """How many branches and tags there are among full refs: `1 branch and 2 tags`."""
    kinds = [short_ref(ref)[0] for ref in refs]
    branches, tags = kinds.count("branch"), kinds.count("tag")
    return f"{branches} branch{'es' if branches != 1 else ''} and {tags} tag{'s' if tags != 1 else ''}"
