"""Name patterns of a spec: the name itself, or a regular expression that matches all of it.

User patterns run on RE2: linear time whatever the pattern, and both `(?<n>…)` and `(?P<n>…)` name a group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import re2

from delivery_chain.core.spec.advice import glob_hint

METACHARACTERS = frozenset("\\^$*+?()[]{}|")
"""Metacharacters that make a value a pattern. `.` and `-` are left out: they are common in names."""
LONGEST_PATTERN = 1000
"""Maximum length of a pattern: RE2's memory grows with it, and no sensible rule is longer."""
PATTERN_MEMORY = 512 * 1024
"""Maximum size, in bytes, of a compiled pattern. Rejecting one takes about 3 ms; with RE2's default of 8 MiB, about 50.
`\\w{1,1000}` and `\\p{L}{1,30}` fit."""
LONGEST_NAME = 4096
"""Maximum length of a name to match; git and registries allow less."""

_PLAIN = re.compile(r"[A-Za-z0-9_/@-]*(?![*?{])")
"""Literal characters at the beginning, without the last one if a quantifier makes it optional."""


class Match(StrEnum):
    """Interpretation of a rule's value."""

    LITERAL = "literal"
    REGEXP = "regexp"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name, or a regular expression for whole names."""

    text: str
    match: Match

    @classmethod
    def guess(cls, text: str, match: Match | None = None) -> Pattern:
        """Parse `text` as `match` says; by default, any metacharacter makes it a pattern.

        Raises:
            ValueError: RE2 rejects the regular expression; the message has its reason.
        """
        regexp = METACHARACTERS & set(text)
        pattern = cls(text, match or (Match.REGEXP if regexp else Match.LITERAL))
        if pattern.match is Match.REGEXP:
            compile_pattern(text)
        return pattern

    @property
    def groups(self) -> frozenset[str]:
        """Names of the capturing groups."""
        if self.match is Match.LITERAL:
            return frozenset()
        return frozenset(compile_pattern(self.text).groupindex)

    @property
    def beginning(self) -> str:
        """Literal prefix of every matching name, as far as it is obvious from the text; empty if unknown."""
        if self.match is Match.LITERAL:
            return self.text
        plain = None if "|" in self.text else _PLAIN.match(self.text)
        return plain[0] if plain else ""

    def captures(self, name: str) -> dict[str, str] | None:
        """Return the named groups if the pattern matches the whole `name`, else None. An unmatched group gives ''."""
        if self.match is Match.LITERAL:
            return {} if name == self.text else None
        found = fullmatch(self.text, name)
        return None if found is None else {key: value or "" for key, value in found.groupdict().items()}


def compile_pattern(text: str) -> Any:
    """Compile a user's regular expression.

    Raises:
        ValueError: Too long, too large, or not RE2 syntax (which has no look-around or backreferences).
    """
    if len(text) > LONGEST_PATTERN:
        raise ValueError(f"at most {LONGEST_PATTERN} characters, found {len(text)}")
    compiled, refusal = _compile(text)
    if compiled is None:
        hint = glob_hint(text)
        raise ValueError(
            f"not a regular expression that RE2 accepts: {refusal}{f' ({hint})' if hint else ''}"
        )
    return compiled


@lru_cache(maxsize=4096)
def _compile(text: str) -> tuple[Any, str]:
    """Return the compiled pattern, or RE2's reason to reject it. Both are cached: rejections take longest."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        return re2.compile(text, options=options), ""
    except re2.error as error:
        return None, error.args[0].decode() if isinstance(error.args[0], bytes) else str(error.args[0])


def fullmatch(text: str, name: str) -> Any:
    """RE2's match object if `text` matches the whole `name`, else None. Names over 4096 characters never match."""
    return compile_pattern(text).fullmatch(name) if len(name) <= LONGEST_NAME else None
