"""Hints for errors in a spec: the intended key, a glob read as a pattern, missing quotes.

Pure, and used only if something is wrong.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from delivery_chain.core.spec.document import KeyPath
    from delivery_chain.core.spec.model import ChainSpec

NEAR = 0.6
"""Minimum similarity, from 0 to 1, of a misspelled key to the intended one."""
FORMER = {
    "engines": "engine", "platform": "platforms", "trigger": "distribute", "triggers": "distribute",
    "regions": "replicate", "rule": "rules", "url": "url_connection", "connection": "to", "pattern": "regexp",
}  # fmt: skip
"""Names that users often give to a key, and the key's name in a spec."""
_GLOB = re.compile(r"[A-Za-z0-9_./@-]*(?<![.)\]}])[*?][A-Za-z0-9_./@*?-]*")
_DOTTED = re.compile(r"\.[*?]\??")


def unknown_key(path: KeyPath, key: str) -> str:
    """Suggest the key that was probably meant by an unknown one.

    Args:
        path: Path of the mapping, without the key.
        key: As it was written.
    """
    here = keys_at(path)
    if meant := _near(key, here):
        return f"did you mean `{meant}`?"
    for place, keys in _places().items():
        if place != _general(path) and (meant := _near(key, keys, 0.85)):
            return f"`{meant}` belongs in {_named(place)}"
    return f"expected one of {', '.join(sorted(here))}" if here else ""


def _near(key: str, keys: Iterable[str], least: float = NEAR) -> str:
    keys = list(keys)
    plain = {name.replace("_", ""): name for name in keys}
    if (name := key.lower().replace("_", "").replace("-", "")) in plain:
        return plain[name]
    if FORMER.get(key) in keys:
        return FORMER[key]
    return next(iter(get_close_matches(key, keys, 1, least)), "")


def keys_at(path: KeyPath) -> frozenset[str]:
    """Keys that a spec's mapping accepts; empty for a mapping with free keys, such as `args`."""
    return _places().get(_general(path), frozenset())


def _general(path: KeyPath) -> KeyPath:
    """Merge all items of a list into one path."""
    general = tuple("*" if isinstance(part, int) else part for part in path)
    # The only mapping of mappings with free keys.
    return ("sources", "*") if general[:1] == ("sources",) and len(general) == 2 else general  # noqa: PLR2004


def _named(place: KeyPath) -> str:
    parts = [str(part) for part in place if part != "*"]
    return f"`{'.'.join(parts)}`" if parts else "the top of the spec"


@lru_cache(maxsize=1)
def _places() -> dict[KeyPath, frozenset[str]]:
    from delivery_chain.core.spec.model import ChainSpec  # noqa: PLC0415 - that module's checks use these hints

    schema = ChainSpec.model_json_schema(by_alias=True)
    found: dict[KeyPath, set[str]] = {}
    for path, keys in _walk(schema, schema["$defs"], ()):
        found.setdefault(path, set()).update(keys)
    return {path: frozenset(keys) for path, keys in sorted(found.items(), key=lambda item: len(item[0]))}


def _walk(node: Any, models: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Iterable[str]]]:
    """Yield every mapping of a JSON Schema, which must not be recursive, with the keys that it accepts."""
    if not isinstance(node, dict):
        return
    if "$ref" in node:
        yield from _walk(models[node["$ref"].rpartition("/")[2]], models, path)
    for way in ("anyOf", "oneOf", "allOf"):
        for one in node.get(way, ()):
            yield from _walk(one, models, path)
    if properties := node.get("properties"):
        yield path, properties
        for key, value in properties.items():
            yield from _walk(value, models, (*path, key))
    for inner in ("items", "additionalProperties"):
        yield from _walk(node.get(inner), models, (*path, "*"))


def meant_by_glob(text: str) -> str:
    """Translate a shell glob into the regular expression that was probably intended; empty for any other text."""
    bare = _DOTTED.sub("", text)
    if not _GLOB.fullmatch(bare) or not set(bare) & set("*?"):
        return ""
    meant = re.sub(r"(?<!\.)\*+", ".*", text)
    return re.sub(r"(?<![.*])\?", ".", meant)


def glob_hint(text: str, capture: str = "") -> str:
    """Explain a pattern that looks like a shell glob, with the probable intention; empty for any other.

    `v*` is also a valid regular expression: any number of the letter v, and nothing else.

    Args:
        text: The pattern.
        capture: Name of a group that the pattern lacks; the first star becomes this group.
    """
    meant = meant_by_glob(text)
    meant = meant.replace(".*", f"(?<{capture}>.*)", 1) if capture else meant
    if not meant:
        return ""
    return (
        f"{text!r} looks like a glob, but is read as a regular expression for the whole name; write {meant!r}"
    )


def glob_warnings(spec: ChainSpec) -> Iterator[tuple[KeyPath, str]]:
    """Yield the patterns of a spec that match differently from a glob of the same text."""
    for path, text in _patterns(spec):
        if hint := glob_hint(text):
            yield path, hint


def _patterns(spec: ChainSpec) -> Iterator[tuple[KeyPath, str]]:
    for index, rule in enumerate(spec.build_rules):
        if rule.pattern.match == "regexp" and rule.match is None:
            yield ("build", "rules", index, rule.ref_kind), rule.pattern.text
    for index, region in enumerate(spec.replicate):
        yield ("replicate", index, "tags"), region.tags
        yield ("replicate", index, "repositories"), region.repositories or ""
    for index, trigger in enumerate(spec.distribute):
        if trigger.on != "all":
            yield ("distribute", index, "on", "regexp"), trigger.on.regexp or ""


def yaml_hint(problem: str, line: str) -> str:
    """Suggest a fix for text that is not YAML; empty if libyaml's own reason is all that is known.

    Args:
        problem: libyaml's reason.
        line: The line that the reason points at.
    """
    if "unknown escape character" in problem:
        return r"in double quotes \ begins an escape: put patterns in single quotes, as in 'v\d+'"
    if "cannot start any token" in problem and line.startswith("\t"):
        return "YAML is indented with spaces, not with tabs"
    value = line.partition(": ")[2].lstrip(" -[{")
    if value[:1] in {"*", "@", "`", "%", "&", "!", ">", "|"} or "mapping values" in problem:
        return "put the value in single quotes"
    return ""
