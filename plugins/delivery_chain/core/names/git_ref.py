"""Git refs: the one definition, for events, webhooks, specs, sensors and git itself. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
REF_BYTES = 4000
"""Maximum number of UTF-8 bytes of a whole name: a path on disk has at most 4095, including the repository's folder."""
PART_BYTES = 250
"""Maximum number of UTF-8 bytes between two slashes: git creates a file `<part>.lock`, and file systems allow 255."""

_RULES = (
    (r"^(?:refs/(?:heads|tags)/)?-", "the name of the branch or tag begins with '-'"),
    (r"^@$", "'@' alone means HEAD in git"),
    (r"[\x00-\x20\x7f]", "it contains a space or a control character"),
    (r"[~^:?*\[\\]", "it contains one of ~ ^ : ? * [ and \\"),
    (r"\.\.", "it contains '..'"),
    (r"@\{", "it contains '@{'"),
    (r"^/|//|/$", "it has an empty part: it begins or ends with '/', or contains '//'"),
    (r"(?:^|/)\.", "a part of it begins with '.'"),
    (r"\.lock(?:/|$)", "a part of it ends with '.lock'"),
    (r"\.$", "it ends with '.'"),
    (rf"[^/]{{{PART_BYTES + 1}}}", "a part of it is too long"),
)
"""Git's rules, and how a name breaks each. The first is that of `git branch` and `git tag`: no name is an option.

Source: git-check-ref-format(1), with `--branch`.
"""
REF = re.compile(rf"(?![\s\S]*(?:{'|'.join(f'(?:{rule})' for rule, _ in _RULES)}))[\s\S]+")
"""The rules as one expression, compatible with JavaScript."""


def check_ref(ref: str) -> str:
    """Return a ref unchanged: a full name (`refs/heads/main`) or a short one (`main`).

    Raises:
        ValueError: It breaks a rule, which the message names.
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
        ValueError: It is not a full name; the message names the broken rule.
    """
    if not ref.startswith((BRANCHES, TAGS)):
        raise ValueError(f"expected refs/heads/… or refs/tags/…, found {ref[:200]!r}")
    return check_ref(ref)


def broken_rule(ref: str) -> str:
    """Describe the rule that a ref name breaks; empty if none."""
    try:
        size, longest = len(ref.encode()), max(len(part.encode()) for part in ref.split("/"))
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if size > REF_BYTES:
        return f"it has {size} bytes, and paths on disk have at most {REF_BYTES}"
    if longest > PART_BYTES:
        return f"a part of it has {longest} bytes, and git can store at most {PART_BYTES} between two slashes"
    return next((words for rule, words in _RULES if re.search(rule, ref)), "")


def short_ref(ref: str) -> tuple[str, str]:
    """Split a full ref into (`branch` or `tag`, name), a short one into ('', name)."""
    if ref.startswith(BRANCHES):
        return "branch", ref.removeprefix(BRANCHES)
    if ref.startswith(TAGS):
        return "tag", ref.removeprefix(TAGS)
    return "", ref


def counted(refs: Iterable[str]) -> str:
    """Count branches and tags among full refs: `1 branch and 2 tags`."""
    kinds = [short_ref(ref)[0] for ref in refs]
    branches, tags = kinds.count("branch"), kinds.count("tag")
    return f"{branches} branch{'es' if branches != 1 else ''} and {tags} tag{'s' if tags != 1 else ''}"
