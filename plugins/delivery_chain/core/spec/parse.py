"""Parse YAML text to a chain spec, and report every problem as `file:line: key path: message`."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from delivery_chain.core.names.pattern import LONGEST_PATTERN
from delivery_chain.core.spec.advice import unknown_key
from delivery_chain.core.spec.checks import DISTRIBUTE, REPLICATE, RULES, Draft, cross_problems
from delivery_chain.core.spec.delivery import ReplicateRule, Trigger
from delivery_chain.core.spec.document import Complaint, Document, KeyPath
from delivery_chain.core.spec.model import BuildRule, ChainSpec, Scope
from delivery_chain.core.spec.types import IN_WORDS
from delivery_chain.core.value import Value
from delivery_chain.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

V = TypeVar("V", bound=Value)
MOST_PROBLEMS = 50
"""Maximum number of problems of one file to report."""
PATTERN_COST = 20_000
"""Maximum total length of a spec's names and patterns; `\\p{…}` counts as 50 more, since it is slow to compile."""
LONGEST_MESSAGE = 500
"""Maximum length, in characters, of one problem's message, which may repeat the value found."""
SHOWN = 80
"""Maximum number of characters of a value to show: one line of a terminal."""
_PATTERN_KEYS = frozenset({"branch", "tag", "tags", "repositories", "regexp", "exclude"})


def parse_spec(text: str, file: str) -> ChainSpec:
    """Parse one spec.

    Args:
        text: YAML, at most 256 KiB.
        file: Name for the messages.

    Raises:
        SpecError: With every problem of the text, in line order, up to the first 50.
    """
    document = Document(file)
    data = document.read(text)
    # Data with a duplicate key can be checked further; text that is not YAML leaves None.
    spec, complaints = (None, []) if data is None and document.problems else _validate(data)
    if spec is None or complaints or document.problems:
        known = {(problem.line, problem.key) for problem in document.problems}
        located = document.locate(_by_name(complaints, data))
        more = [problem for problem in located if (problem.line, problem.key) not in known]
        raise SpecError(_first([*document.problems, *more]))
    return spec


def locate(text: str, file: str, complaints: Iterable[Complaint]) -> list[Problem]:
    """Locate complaints about text that parses."""
    document = Document(file)
    data = document.read(text)
    return document.locate(_by_name(complaints, data))


def _by_name(complaints: Iterable[Complaint], data: Any) -> list[Complaint]:
    """Add the names of rules to complaints: readers don't count from 0."""
    return [(path, f"{message}{_owner(path, data)}") for path, message in complaints]


def _owner(path: KeyPath, data: Any) -> str:
    for above, kind in LISTS.items():
        # The name itself needs no further label.
        if path[: len(above)] == above and len(path) > len(above) and path[len(above) + 1 :] != ("name",):
            item = _at(data, path[: len(above) + 1])
            name = item.get("name") if isinstance(item, dict) else None
            return f" ({kind} {_show(name)})" if isinstance(name, str) else ""
    return ""


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        else:
            data = (
                data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else None
            )
    return data


LISTS: dict[KeyPath, str] = {RULES: "build rule", REPLICATE: "replication rule", DISTRIBUTE: "trigger"}
"""Lists whose items have names, and the noun for an item."""


def _first(problems: Sequence[Problem]) -> list[Problem]:
    ordered = sorted(problems, key=lambda problem: (problem.line, problem.key, problem.message))
    shown, more = ordered[:MOST_PROBLEMS], len(ordered) - MOST_PROBLEMS
    if more > 0:
        shown.append(
            Problem(shown[-1].file, shown[-1].line, "", f"{more} more problems follow; correct these first")
        )
    return shown


def _validate(data: Any) -> tuple[ChainSpec | None, list[Complaint]]:
    if not isinstance(data, dict):
        return None, [((), f"expected a mapping with `version: 1` at its top, found {type(data).__name__}")]
    if _pattern_cost(data) > PATTERN_COST:
        return None, [
            ((), f"expected names and patterns of at most {PATTERN_COST} characters in total, found more")
        ]
    try:
        spec = ChainSpec.model_validate(data)
    except ValidationError as error:
        complaints = _complaints(error, data)
        if len(complaints) > MOST_PROBLEMS:
            return None, complaints  # More would not be shown.
        return None, [*complaints, *cross_problems(_draft(data))]
    return spec, list(cross_problems(Draft.of(spec)))


def _pattern_cost(data: Any, key: str = "") -> int:
    """Total characters of the distinct strings that may be compiled."""
    texts: set[str] = set()
    left = [(key, data)]
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += ((key, item) for item in value if isinstance(item, dict))
        elif isinstance(value, str) and key in _PATTERN_KEYS and len(value) <= LONGEST_PATTERN:
            texts.add(value)
    return sum(len(text) + 50 * (text.count("\\p") + text.count("\\P")) for text in texts)


def _draft(data: dict[str, Any]) -> Draft:
    """Collect the parts that are valid on their own, so that an error in one does not hide errors between the rest."""
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
    # A sequence whose items failed is also reported as too short, which is only confusing.
    above = {loc[:length] for loc, _ in kinds for length in range(len(loc))}
    hollow = {loc for loc, kind in kinds if kind == "too_short" and loc in above}
    return [
        (path, _message(item, path if len(items) <= MOST_PROBLEMS else ())[:LONGEST_MESSAGE])
        for item in items
        if item["loc"] not in hollow
        for path in (_real_path(item["loc"], data),)
    ]


def _real_path(loc: Sequence[str | int], data: Any) -> KeyPath:
    """Convert a pydantic location to a key path, dropping union members and `[key]` marks, which no user wrote."""
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
    "int_parsing_size": "expected a smaller number, found {found}",
    "string_type": "expected text, found {found}{hint}",
    "string_pattern_mismatch": "expected {wanted}, found {found}",
    "bool_type": "expected true or false, found {found}",
    "enum": "expected {expected}, found {found}",
    "literal_error": "expected {expected}, found {found}",
    "value_error": "{error}",
    "model_type": "expected a mapping, found {found}",
    "dict_type": "expected a mapping, found {found}",
    "tuple_type": "expected a list, found {found}",
    "too_short": "expected at least one item, found none",
    "too_long": "expected at most {max_length} items, found {actual_length}",
}
"""Message for each kind of error; other kinds use pydantic's text."""


def _message(item: Any, path: KeyPath) -> str:
    if item["type"] == "extra_forbidden":
        hint = unknown_key(path[:-1], str(path[-1])[:SHOWN]) if path else ""
        return f"unknown key; {hint}" if hint else "unknown key"
    shown = _show(item.get("input"))
    words = re.sub("^(?:Input|String) should (?:be |have )?", "", item["msg"])
    if item["type"] not in _WORDINGS:
        return f"expected {words}, found {shown}"
    error = item["msg"].removeprefix("Value error, ")
    context = item.get("ctx", {})
    pattern = context.get("pattern", "")
    wanted = IN_WORDS.get(pattern, f"text like {pattern}")
    details = {"found": shown, "hint": _quote_hint(item.get("input")), "error": error, "wanted": wanted}
    return _WORDINGS[item["type"]].format(**(details | context))


def _quote_hint(found: Any) -> str:
    return " (put it in quotes)" if isinstance(found, bool | int | float) else ""


def _show(value: Any) -> str:
    """Show the beginning of a value; never all of a large one, which many errors may repeat."""
    text = _BRIEF.repr(value) if isinstance(value, dict | list | str) else repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxdict, _BRIEF.maxlist, _BRIEF.maxstring = 3, 12, 40, 120
