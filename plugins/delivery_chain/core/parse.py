"""YAML text to chain spec, and every problem of it as `file:line: key path: message`.

The C safe loader's node tree is read, not its Python objects: nodes know their lines, and a duplicate key is
still there to be seen. YAML is data: no tags, no merge of secrets or environment, and no anchors, which would let
a small file stand for a huge one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ValidationError

from delivery_chain.core.spec import BuildRule, ChainSpec, ReplicateRule, Scope, Trigger
from delivery_chain.core.spec_checks import (
    DISTRIBUTE,
    REPLICATE,
    RULES,
    Complaint,
    Draft,
    KeyPath,
    cross_problems,
)
from delivery_chain.core.value import Value
from delivery_chain.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

V = TypeVar("V", bound=Value)
LARGEST_SPEC = 256 * 1024
"""Characters; the largest real spec seen has 20,000."""
DEEPEST = 20
"""Levels of nesting; the model has 7."""
Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_spec(text: str, file: str) -> ChainSpec:
    """Read one spec.

    Args:
        text: YAML, at most 256 KiB.
        file: Name for the messages.

    Raises:
        SpecError: With every problem of the text, in line order.
    """
    document = _Document(file)
    data = document.read(text)
    # A key that is there twice leaves data that can be checked further; a text that is not YAML leaves None.
    spec, complaints = (None, []) if data is None and document.problems else _validate(data)
    if spec is None or complaints or document.problems:
        problems = [*document.problems, *document.locate(complaints)]
        raise SpecError(sorted(problems, key=lambda problem: (problem.line, problem.key, problem.message)))
    return spec


def locate(text: str, file: str, complaints: Iterable[Complaint]) -> list[Problem]:
    """Give complaints about a text that parses their lines."""
    document = _Document(file)
    document.read(text)
    return document.locate(complaints)


def key_path(path: Sequence[str | int]) -> str:
    """`('build', 'rules', 0, 'tags')` as `build.rules[0].tags`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class _Document:
    """One YAML document: its plain data, the line of each key path, and what is wrong with it as YAML."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {(): 1}
        self.problems: list[Problem] = []

    def read(self, text: str) -> Any:
        if len(text) > LARGEST_SPEC:
            return self._complain(1, (), f"at most {LARGEST_SPEC} characters, found {len(text)}")
        try:
            self._refuse_anchors(text)
            loader = Loader(text)
            try:
                node = loader.get_single_node()
                if node is None:
                    return self._complain(
                        1, (), "the file is empty: expected a chain spec, see chain_specs/ for examples"
                    )
                return self._plain(loader, node, ())
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            return self._complain(
                mark.line + 1 if mark else 1, (), f"not YAML: {error.problem or error.context}"
            )
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            return self._complain(1, (), f"not YAML: {' '.join(str(error).split())}")

    def _refuse_anchors(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=Loader):
            if getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else 1
                self._complain(line, (), "anchors and aliases are not taken: write the value out")
                raise yaml.YAMLError("anchors are not taken")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise yaml.YAMLError(f"nested deeper than {DEEPEST} levels")

    def _plain(self, loader: Any, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, item, (*path, index)) for index, item in enumerate(node.value)]
        return loader.construct_object(node)

    def _mapping(self, loader: Any, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key, str):
                self._complain(line, path, "expected a plain key")
                continue
            if key in mapping:
                self._complain(
                    line, (*path, key), f"the key is there twice, first in line {self.lines[*path, key]}"
                )
                continue
            self.lines[*path, key] = line
            mapping[key] = self._plain(loader, value_node, (*path, key))
        return mapping

    def _complain(self, line: int, path: KeyPath, message: str) -> None:
        if not self.problems or path:
            self.problems.append(Problem(self.file, line, key_path(path), message))

    def locate(self, complaints: Iterable[Complaint]) -> list[Problem]:
        """Each complaint at its key's line, or at its nearest parent's where the key is missing."""
        found = {
            Problem(self.file, self._line(path), key_path(path), message) for path, message in complaints
        }
        return sorted(found, key=lambda problem: (problem.line, problem.key, problem.message))

    def _line(self, path: KeyPath) -> int:
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def _validate(data: Any) -> tuple[ChainSpec | None, list[Complaint]]:
    if not isinstance(data, dict):
        return None, [((), f"expected a mapping with `version: 1` at its top, found {type(data).__name__}")]
    try:
        spec = ChainSpec.model_validate(data)
    except ValidationError as error:
        return None, [*_complaints(error, data), *cross_problems(_draft(data))]
    return spec, list(cross_problems(Draft.of(spec)))


def _draft(data: dict[str, Any]) -> Draft:
    """The parts that are fine on their own, so that one fault does not hide what is wrong between the others."""
    sources = data.get("sources", {})
    build = data.get("build", {})
    lists = {
        RULES: build.get("rules", []) if isinstance(build, dict) else None,
        REPLICATE: data.get("replicate", []),
        DISTRIBUTE: data.get("distribute", []),
    }
    return Draft(
        _valid(Scope, data.get("scope")),
        frozenset(key for key in sources if isinstance(key, str)) if isinstance(sources, dict) else None,
        _valid_items(BuildRule, lists[RULES]),
        _valid_items(ReplicateRule, lists[REPLICATE]),
        _valid_items(Trigger, lists[DISTRIBUTE]),
        {path: _names(items) for path, items in lists.items()},
    )


def _valid(model: type[V], data: Any) -> V | None:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _valid_items(model: type[V], data: Any) -> dict[int, V]:
    items = enumerate(data if isinstance(data, list) else [])
    return {index: item for index, raw in items if (item := _valid(model, raw)) is not None}


def _names(data: Any) -> dict[int, str] | None:
    if not isinstance(data, list):
        return None
    names = {index: item.get("name") for index, item in enumerate(data) if isinstance(item, dict)}
    return {index: name for index, name in names.items() if isinstance(name, str)}


def _complaints(error: ValidationError, data: Any) -> list[Complaint]:
    items = error.errors(include_url=False)
    kinds = {(item["loc"], item["type"]) for item in items}
    # A sequence whose items failed is also reported as too short; that would only confuse.
    hollow = {
        loc for loc, kind in kinds if kind == "too_short" and any(o[: len(loc)] == loc != o for o, _ in kinds)
    }
    return [(_real_path(item["loc"], data), _message(item)) for item in items if item["loc"] not in hollow]


def _real_path(loc: Sequence[str | int], data: Any) -> KeyPath:
    """A pydantic location without the names of union members and the `[key]` marks, which no user wrote."""
    path: list[str | int] = []
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if part == "[key]":
            continue
        if isinstance(data, dict) and part in data:  # noqa: SIM114 - joined by `or` it no longer reads
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not (last and isinstance(data, dict) and re.fullmatch(r"[a-z_]+", str(part))):
            continue
        path.append(part)
    return tuple(path)


_WORDINGS = {
    "missing": "is missing",
    "extra_forbidden": "unknown key",
    "string_type": "expected text, found {found}{hint}",
    "string_pattern_mismatch": "expected text like {pattern}, found {found}",
    "enum": "expected {expected}, found {found}",
    "literal_error": "expected {expected}, found {found}",
    "value_error": "{error}",
    "model_type": "expected a mapping, found {found}",
    "dict_type": "expected a mapping, found {found}",
    "tuple_type": "expected a list, found {found}",
    "too_short": "expected at least one item, found none",
    "too_long": "expected at most {max_length} items, found {actual_length}",
}
"""What is said of each kind of error; other kinds are said in pydantic's words."""


def _message(item: Any) -> str:
    shown = _show(item.get("input"))
    words = re.sub("^(?:Input|String) should (?:be |have )?", "", item["msg"])
    if item["type"] not in _WORDINGS:
        return f"expected {words}, found {shown}"
    details = {"found": shown, "hint": _quote_hint(item.get("input")), "error": item["msg"]}
    return _WORDINGS[item["type"]].format(**(details | item.get("ctx", {})))


def _quote_hint(found: Any) -> str:
    scalar = isinstance(found, bool | int | float) or type(found).__name__ in {"date", "datetime"}
    return " (put it in quotes)" if scalar else ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - one line of a terminal
