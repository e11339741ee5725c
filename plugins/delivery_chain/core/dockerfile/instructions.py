"""Parse a Dockerfile's instructions and flags as buildah does. Pure.

It parses only as much as is needed to find the images and mounts that an instruction names. buildah still does the
build, without a login and without pulling, so if a name is parsed differently here, the build fails.

Source: github.com/openshift/imagebuilder, dockerfile/parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ESCAPE = re.compile(r"#[ \t]*escape[ \t]*=[ \t]*(.).*")
_SPACE = re.compile(r"[\t\v\f\r ]+")
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Whitespace in Go, and so in buildah. Python's `strip` would also strip the bytes 1C to 1F."""
_HEREDOC = re.compile(r"<<(-?)\s*(['\"]?)([A-Za-z0-9_.]+)\2")
_WITH_HEREDOC = {"run", "copy", "add"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, continuation lines joined."""

    line: int
    """1-based line on which it begins."""
    name: str
    """Lowercase: `from`, `run`."""
    flags: tuple[str, ...]
    """As written, without quotes and backslashes: `--from=build`."""
    rest: str
    """Rest of the line after the flags."""


def decode(content: bytes) -> str:
    """Decode a Dockerfile, keeping every byte: flags are parsed byte by byte, whatever the encoding."""
    return content.decode(errors="surrogateescape")


def instructions(text: str, *, heredocs: bool = False) -> list[Instruction]:
    """Parse the instructions of a Dockerfile, in order.

    Args:
        text: Its content, from `decode`.
        heredocs: Whether the builder supports `<<END`; an older one reads the lines as instructions.
    """
    found = []
    lines = _logical_lines(text.removeprefix("\ufeff"))
    ends: list[tuple[str, bool]] = []
    for number, line in lines:
        if ends:
            end, tabs = ends[0]
            if (line.lstrip("\t") if tabs else line) == end:
                ends.pop(0)
            continue
        instruction = _instruction(number, line)
        if instruction.name:
            found.append(instruction)
        if heredocs and instruction.name in _WITH_HEREDOC:
            ends = [(end, bool(tabs)) for tabs, _, end in _HEREDOC.findall(instruction.rest)]
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Join lines with their continuations, with the number of the first; comments become empty lines."""
    escape, directives = "\\", True
    number, joined = 0, None
    for at, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        if joined is None:
            line = line.lstrip(_BLANKS)
            number = at
        if directives:
            given = _ESCAPE.fullmatch(line.lower())
            directives = given is not None
            escape = given[1] if given and given[1] in "`\\" else escape
        is_comment = line.startswith("#")
        if joined is not None and line.lstrip(_BLANKS)[:1] in {"", "#"}:
            continue
        line = "" if is_comment else line
        stripped = line.rstrip(" \t")
        if stripped.endswith(escape):
            joined = (joined or "") + stripped[:-1]
            continue
        yield number, (joined or "") + line
        joined = None
    if joined:
        yield number, joined


def _instruction(line: int, text: str) -> Instruction:
    name, *rest = _SPACE.split(text.strip(_BLANKS), maxsplit=1)
    flags, arguments = _flags(rest[0] if rest else "")
    return Instruction(line, name.lower(), tuple(flags), arguments.strip(_BLANKS))


def triggered(instruction: Instruction) -> Instruction:
    """Parse the instruction inside an ONBUILD instruction."""
    return _instruction(instruction.line, " ".join([*instruction.flags, instruction.rest]))


def _flags(text: str) -> tuple[list[str], str]:
    """Split off words that begin with `--` from the rest.

    buildah treats each byte as a character here: the bytes 85 and A0 are blanks, even within a UTF-8 character.
    """
    signs = text.encode(errors="surrogateescape").decode("latin-1")
    flags: list[str] = []
    at = 0
    while True:
        while at < len(signs) and signs[at] in _BLANKS:
            at += 1
        if not signs.startswith("--", at):
            break
        word, at = _word(signs, at)
        if word == "--":
            break
        flags.append(word)
    return flags, decode(signs[at:].encode("latin-1"))


def _word(text: str, at: int) -> tuple[str, int]:
    """Return the word at a position, without quotes and backslashes, and the position after it."""
    word, quote = "", ""
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 1
            word += text[at : at + 1]
        elif quote:
            word, quote = (word, "") if sign == quote else (word + sign, quote)
        elif sign in "'\"":
            quote = sign
        elif sign in _BLANKS:
            break
        else:
            word += sign
        at += 1
    return word, at


def expand(word: str, values: Mapping[str, str]) -> str:
    """Expand `$name`, `${name}`, `${name:-default}` and `${name:+other}`, and remove quotes.

    An unknown name is empty, as for the builder.
    """
    return _Word(word, values).until("")


class _Word:
    """Expansion of one word. Source: imagebuilder, shell_parser.go."""

    def __init__(self, text: str, values: Mapping[str, str]) -> None:
        self._text = text
        self._values = values
        self._at = 0

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1 : self._at]

    def until(self, stop: str) -> str:
        """Expand up to the character `stop`; up to the end if `stop` is empty."""
        result = ""
        while self._at < len(self._text):
            sign = self._next()
            if sign == stop:
                break
            if sign == "$":
                result += self._dollar()
            elif sign == "'":
                end = self._text.find("'", self._at)
                end = len(self._text) if end < 0 else end
                result += self._text[self._at : end]
                self._at = end + 1
            elif sign == '"':
                result += self._quoted()
            else:
                result += self._next() if sign == "\\" else sign
        return result

    def _quoted(self) -> str:
        result = ""
        while self._at < len(self._text) and (sign := self._next()) != '"':
            if sign == "$":
                result += self._dollar()
            elif sign == "\\" and self._text[self._at : self._at + 1] in {'"', "$", "\\"}:
                result += self._next()
            else:
                result += sign
        return result

    def _dollar(self) -> str:
        if not self._text.startswith("{", self._at):
            name = self._name()
            return self._values.get(name, "") if name else "$"
        self._at += 1
        name = self._name()
        value = self._values.get(name, "")
        if self._next() != ":":
            return value
        modifier = self._next()
        other = self.until("}")
        if modifier == "+":
            return other if value else ""
        return value or other

    def _name(self) -> str:
        found = re.compile(r"\d|[^\W\d]\w*").match(self._text, self._at)
        self._at += len(found[0]) if found else 0
        return found[0] if found else ""
