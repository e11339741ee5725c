"""Parse YAML text to plain data with the line of every key. Bounded: any text is read or rejected instantly.

Accepts YAML 1.2's core schema, restricted to data: no tags, no secrets or environment, and no anchors, which would let
a small file expand to a huge one. It reads the C parser's events and nodes, not its Python objects: that parser treats
`1:59:59` and `on` by YAML 1.1's rules, while nodes have lines and still show duplicate keys.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from delivery_chain.core.spec.advice import yaml_hint
from delivery_chain.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KeyPath = tuple[str | int, ...]
Complaint = tuple[KeyPath, str]

LARGEST_SPEC = 256 * 1024
"""Maximum length in characters; the largest real spec seen has 20,000."""
DEEPEST = 20
"""Maximum nesting depth; the model has 7."""
MOST_NODES = 20_000
"""Maximum number of keys and values; a spec with every list at its limit has fewer."""
LONGEST_NUMBER = 30
"""Maximum length, in characters, of a number; no field accepts more than a few digits."""
LONGEST_KEY = 300
"""Maximum length, in characters, of a key; the longest ones, names of repositories, have 255."""
Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

ALIAS = (
    "anchors and aliases are not supported: write the value out; put text that begins with * or & in quotes"
)
_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class Document:
    """One YAML document: its plain data, the line of each key path, and its problems as YAML."""

    def __init__(self, file: str) -> None:
        """Create an empty document.

        Args:
            file: Name for the messages.
        """
        self.file = file
        self.lines: dict[KeyPath, int] = {(): 1}
        self.problems: list[Problem] = []

    def read(self, text: str) -> Any:
        """Parse mappings, lists, strings, numbers, booleans and None; None with `problems` if malformed."""
        if len(text) > LARGEST_SPEC:
            return self._complain(1, (), f"at most {LARGEST_SPEC} characters, found {len(text)}")
        try:
            self._check_events(text)
            loader = Loader(text)
            try:
                node = loader.get_single_node()
            finally:
                loader.dispose()
        except _Unwanted as error:
            return self._complain(error.line, (), str(error))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            problem = str(error.problem or error.context)
            hint = yaml_hint(problem, "".join(text.split("\n")[line - 1 : line])[:200])
            return self._complain(line, (), f"not YAML: {problem}{f'; {hint}' if hint else ''}")
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            return self._complain(
                _line_of(error, text), (), f"not YAML: {' '.join(str(error).split())[:300]}"
            )
        if node is None:
            return self._complain(
                1, (), "the file is empty: expected a chain spec, see chain_specs/ for examples"
            )
        return self._plain(node, ())

    def locate(self, complaints: Iterable[Complaint]) -> list[Problem]:
        """Locate each complaint at its key's line, or at its nearest parent's if the key is missing."""
        found = {
            Problem(self.file, self._line(path), key_path(path), message) for path, message in complaints
        }
        return sorted(found, key=lambda problem: (problem.line, problem.key, problem.message))

    def _check_events(self, text: str) -> None:
        """Check the text before building a tree.

        Raises:
            yaml.YAMLError: It is not YAML.
            _Unwanted: It uses a YAML feature that specs don't support.
        """
        depth = nodes = 0
        for event in yaml.parse(text, Loader=Loader):
            nodes += isinstance(event, yaml.NodeEvent)
            if nodes > MOST_NODES:
                raise _Unwanted(event, f"more than {MOST_NODES} keys and values")
            if getattr(event, "anchor", None):
                raise _Unwanted(
                    event,
                    ALIAS,
                )
            if tag := getattr(event, "tag", None):
                shown = tag.replace("tag:yaml.org,2002:", "!!")[:60]
                raise _Unwanted(
                    event,
                    f"the tag {shown} is not supported: write the value without it, and put text in quotes",
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise _Unwanted(event, f"nested deeper than {DEEPEST} levels")

    def _plain(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*path, index)) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.style:
            return node.value  # Quoted, or a block scalar: always a string.
        try:
            return scalar(node.value)
        except ValueError as error:
            return self._complain(node.start_mark.line + 1, path, str(error))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or len(key) > LONGEST_KEY:
                self._complain(line, path, f"expected a plain key of at most {LONGEST_KEY} characters")
                continue
            if key in mapping:
                self._complain(line, (*path, key), f"duplicate key, first in line {self.lines[*path, key]}")
                continue
            self.lines[*path, key] = line
            mapping[key] = self._plain(value_node, (*path, key))
        return mapping

    def _complain(self, line: int, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.file, line, key_path(path), message))

    def _line(self, path: KeyPath) -> int:
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def scalar(text: str) -> str | int | float | bool | None:
    """Resolve a plain scalar.

    Raises:
        ValueError: A number with more digits than any field accepts.

    Source: YAML 1.2.2, 10.3.2 "Tag Resolution" of the core schema.
    """
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    base = (
        10 if _DECIMAL.fullmatch(text) else 8 if _OCTAL.fullmatch(text) else 16 if _HEX.fullmatch(text) else 0
    )
    if not base and not _FLOAT.fullmatch(text):
        return text
    if len(text) > LONGEST_NUMBER:
        raise ValueError(
            f"expected a number of at most {LONGEST_NUMBER} characters, found one of {len(text)} "
            "(put text that consists of digits in quotes)"
        )
    return int(text, base) if base else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def key_path(path: Sequence[str | int]) -> str:
    """Format a key path: `('build', 'rules', 0, 'tags')` as `build.rules[0].tags`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class _Unwanted(Exception):
    """Unsupported YAML in a spec."""

    def __init__(self, event: yaml.Event, reason: str) -> None:
        super().__init__(reason)
        self.line = event.start_mark.line + 1 if event.start_mark else 1


def _line_of(error: Exception, text: str) -> int:
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
