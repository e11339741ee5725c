from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from delivery_chain.core.spec.in_force import (
    ABSENT_FOR,
    KEEP_ROOM,
    REMEMBER,
    Entry,
    Found,
    Kept,
    State,
    fingerprint,
    judge,
    judge_watches,
    version,
)
from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.core.spec.scan import Scan
from delivery_chain.core.spec.slots import widest, widths
from support.chain_steps import chain

if TYPE_CHECKING:
    from delivery_chain.core.spec.model import ChainSpec

NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
SOON = timedelta(seconds=1)
TEXT = """\
version: 1
name: shop
scope: {instance: home, namespace: shop, repositories: [api]}
replicate: [{name: west, to: west}, {name: east, to: east}]
"""
SAME_MEANING = """\
# what people see
name: "shop"
scope:
  repositories: [api]
  namespace: shop
  instance: home
description: ''
replicate:
  - to: west
    name: west
    level: repository
  - {name: east, to: east, tags: '.*', override: true}
scan: {enabled: true}
version: 1
"""


def named(name: str, regions: int = 1) -> ChainSpec:
    replicate = [{"name": f"r{number}", "to": "west"} for number in range(regions)]
    scope = {"instance": "home", "namespace": name, "repositories": ["api", "web"]}
    listed = [rule | {"repository": "api"} for rule in replicate]
    return chain(name=name, scope=scope, replicate=listed, sources=None, build=None)


def entry(spec: ChainSpec, file: str = "shop.yaml", **fields: Any) -> Entry:
    known = {"number": 3, "fingerprint": fingerprint(spec), "file": file, "slots": widths(spec)}
    return Entry(**(known | fields))


SHOP = named("shop")
OTHER = named("shop", 2)
KNOWN = {"shop": entry(SHOP)}


def test_a_fingerprint_is_of_the_meaning() -> None:
    """Comments, quotes, the order of keys and written-out defaults are none."""
    assert fingerprint(parse_spec(TEXT, "")) == fingerprint(parse_spec(SAME_MEANING, ""))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: west, to: west", "name: west, to: south"),
        ("[api]", "[web]"),
        ("east,", "est,"),
    ],
)
def test_another_meaning_has_another_fingerprint(old: str, new: str) -> None:
    assert fingerprint(parse_spec(TEXT, "")) != fingerprint(parse_spec(TEXT.replace(old, new), ""))


def test_the_order_of_rules_is_a_part_of_the_meaning() -> None:
    """Instances of a run are told apart by it."""
    spec = parse_spec(TEXT, "")
    turned = spec.model_copy(update={"replicate": spec.replicate[::-1]})
    assert fingerprint(spec) != fingerprint(turned)


@pytest.mark.parametrize(
    ("number", "print_", "text"),
    [(3, "0123456789abcdef", "3 (01234567)"), (0, "0123456789abcdef", "01234567"), (0, "", "")],
)
def test_a_version_for_people(number: int, print_: str, text: str) -> None:
    assert version(number, print_) == text


TABLE: list[tuple[str, Found, dict[str, Entry], dict[str, tuple[int, State]], tuple[str, ...]]] = [
    # What the files hold, what was known, number and state of each chain, whose spec has to be kept now.
    ("first start", Found({"shop.yaml": SHOP}), {}, {"shop": (1, State.CURRENT)}, ("shop",)),
    ("no change", Found({"shop.yaml": SHOP}), KNOWN, {"shop": (3, State.CURRENT)}, ()),
    ("edit", Found({"shop.yaml": OTHER}), KNOWN, {"shop": (4, State.CURRENT)}, ("shop",)),
    ("move", Found({"a/b.yaml": SHOP}), KNOWN, {"shop": (3, State.CURRENT)}, ()),
    ("move and edit", Found({"a/b.yaml": OTHER}), KNOWN, {"shop": (4, State.CURRENT)}, ("shop",)),
    ("typo", Found(bad={"shop.yaml": "shop"}), KNOWN, {"shop": (3, State.INVALID)}, ()),
    (
        "nothing but a half-written file",
        Found(bad={"shop.yaml": ""}),
        KNOWN,
        {"shop": (3, State.INVALID)},
        (),
    ),
    ("typo and move", Found(bad={"new.yaml": "shop"}), KNOWN, {"shop": (3, State.INVALID)}, ()),
    ("typo and rename", Found(bad={"shop.yaml": "store"}), KNOWN, {"shop": (3, State.INVALID)}, ()),
    (
        "name taken by a second file, so both are bad",
        Found(bad={"shop.yaml": "shop", "copy.yaml": "shop"}),
        KNOWN,
        {"shop": (3, State.INVALID)},
        (),
    ),
    (
        "rename",
        Found({"shop.yaml": named("store")}),
        KNOWN,
        {"shop": (3, State.REMOVED), "store": (1, State.CURRENT)},
        ("store",),
    ),
    (
        "swap of names",
        Found({"shop.yaml": named("store"), "store.yaml": SHOP}),
        KNOWN | {"store": entry(named("store"), "store.yaml")},
        {"shop": (3, State.CURRENT), "store": (3, State.CURRENT)},
        (),
    ),
    (
        "file gone",
        Found({"x.yaml": named("x")}),
        KNOWN,
        {"x": (1, State.CURRENT), "shop": (3, State.ABSENT)},
        ("x",),
    ),
    ("volume gone", Found(), KNOWN, {"shop": (3, State.NO_FILES)}, ()),
    (
        "renamed back",
        Found({"shop.yaml": SHOP}),
        {"shop": entry(SHOP, state=State.REMOVED, since=NOW - SOON)},
        {"shop": (3, State.CURRENT)},
        ("shop",),
    ),
    (
        "back after a day, other",
        Found({"shop.yaml": OTHER}),
        {"shop": entry(SHOP, state=State.REMOVED, since=NOW - REMEMBER, settled=True)},
        {"shop": (4, State.CURRENT)},
        ("shop",),
    ),
    (
        "removed, and a typo in the file that it was in",
        Found(bad={"shop.yaml": "shop"}),
        {"shop": entry(SHOP, state=State.REMOVED, since=NOW - SOON)},
        {"shop": (3, State.REMOVED)},
        (),
    ),
    (
        "valid again",
        Found({"shop.yaml": SHOP}),
        {"shop": entry(SHOP, state=State.INVALID)},
        {"shop": (3, State.CURRENT)},
        (),
    ),
    (
        "removed long ago",
        Found({"x.yaml": named("x")}),
        {"shop": entry(SHOP, state=State.REMOVED, since=NOW - REMEMBER, settled=True)},
        {"x": (1, State.CURRENT)},
        ("x",),
    ),
]


@pytest.mark.parametrize(
    ("found", "known", "expected", "changed"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_what_is_in_force(
    found: Found,
    known: dict[str, Entry],
    expected: dict[str, tuple[int, State]],
    changed: tuple[str, ...],
) -> None:
    judged = judge(found, known, NOW)
    assert {name: (one.number, one.state) for name, one in judged.chains.items()} == expected
    assert judged.changed == changed
    assert set(judged.good) | set(judged.kept) == set(expected)


@pytest.mark.parametrize(("after", "state"), [(ABSENT_FOR - SOON, State.ABSENT), (ABSENT_FOR, State.REMOVED)])
def test_a_file_that_is_written_anew_is_not_missed(after: timedelta, state: State) -> None:
    """It may be gone for a moment; the time runs from when that was first seen."""
    away = Found({"x.yaml": named("x")})
    first = judge(away, KNOWN, NOW).chains
    later = judge(away, judge(away, first, NOW + SOON).chains, NOW + after).chains
    assert later["shop"].state is state


def test_what_is_known_of_a_removed_chain_goes_after_a_day() -> None:
    """Not while something of it runs."""
    away = Found({"x.yaml": named("x")})
    running = entry(SHOP, state=State.REMOVED, since=NOW)
    settled = running.model_copy(update={"settled": True})
    days = [REMEMBER - SOON, REMEMBER]
    assert [judge(away, {"shop": settled}, NOW + after).over for after in days] == [(), ("shop",)]
    assert judge(away, {"shop": running}, NOW + 10 * REMEMBER).over == ()


def test_there_is_room_for_rules_that_are_gone() -> None:
    """For runs that were planned with them; after some weeks there is not."""
    wide, slim = named("shop", 5), named("shop", 2)
    known = {"shop": entry(wide)}
    after = judge(Found({"shop.yaml": slim}), known, NOW).chains
    again = judge(Found({"shop.yaml": slim}), after, NOW + KEEP_ROOM - SOON).chains
    at_last = judge(Found({"shop.yaml": slim}), again, NOW + KEEP_ROOM).chains
    assert [one["shop"].room["replicate"] for one in (known, after, again, at_last)] == [5, 5, 5, 2]


def test_there_is_room_for_an_engine_that_is_gone() -> None:
    """Runs that were planned with it have their scans yet."""
    two = named("shop")
    two = two.model_copy(update={"scan": Scan().model_copy(update={"engine": ("trivy", "other")})})
    one = named("shop").model_copy(update={"scan": Scan()})
    after = judge(Found({"shop.yaml": one}), {"shop": entry(two)}, NOW).chains["shop"]
    assert (after.slots["scan"], after.room["scan"]) == (3, 6)


@pytest.mark.parametrize("slots", [{"replicate": 10**9}, {"replicate": -1}, {"replicate": "many"}])
def test_what_somebody_wrote_by_hand_is_bounded(slots: dict[str, Any]) -> None:
    """A Dag would be made with so many instances."""
    with pytest.raises(ValidationError):
        Entry.model_validate({"number": 1, "fingerprint": "x", "file": "f", "slots": slots})


def test_what_is_kept_is_what_was_good() -> None:
    """It goes through a Variable and comes back as the same spec; an edit of it is noticed."""
    kept = Kept.of(SHOP, entry(SHOP))
    again = Kept.model_validate_json(kept.model_dump_json(exclude_defaults=True))
    assert again.read() == SHOP
    with pytest.raises(ValueError, match=r"^the stored spec of chain 'shop' was changed$"):
        again.model_copy(update={"spec": again.spec | {"description": "other"}}).read()


def test_a_watch_that_nobody_needs_is_forgotten_after_a_day() -> None:
    """A chain that comes back before finds what was seen last."""
    first, _ = judge_watches({}, {"a", "b"}, NOW)
    second, none = judge_watches(first, {"a"}, NOW + SOON)
    back, _ = judge_watches(second, {"a", "b"}, NOW + REMEMBER)
    gone, over = judge_watches(second, {"a"}, NOW + SOON + REMEMBER)
    assert (second, none) == ({"a": None, "b": NOW + SOON}, ())
    assert back == {"a": None, "b": None}
    assert (gone, over) == ({"a": None}, ("b",))


NAMES = st.sampled_from(["one", "two", "three"])
FILES = st.sampled_from(["a.yaml", "b.yaml", "c.yaml"])
FOLDERS = st.dictionaries(
    FILES, st.one_of(st.tuples(NAMES, st.integers(0, 3)), st.sampled_from(["", "one", "two"])), max_size=3
)
HISTORIES = st.lists(st.tuples(FOLDERS, st.integers(0, 40)), max_size=12)


def found_of(folder: dict[str, Any]) -> Found:
    """Files with the same name are all bad, as the catalogue has it."""
    names = [content[0] for content in folder.values() if isinstance(content, tuple)]
    specs, bad = {}, {}
    for file, content in folder.items():
        if isinstance(content, tuple) and names.count(content[0]) == 1:
            specs[file] = named(*content)
        else:
            bad[file] = content[0] if isinstance(content, tuple) else content
    return Found(specs, bad)


@given(history=HISTORIES)
def test_whatever_is_edited_in_whatever_order(history: list[tuple[dict[str, Any], int]]) -> None:
    """Good files are in force; numbers grow by one, and only with the meaning; no chain is lost, nor its room."""
    known: dict[str, Entry] = {}
    now = NOW
    for folder, seconds in history:
        now += timedelta(seconds=seconds)
        found = found_of(folder)
        judged = judge(found, known, now)
        good = {spec.name: spec for spec in found.specs.values()}
        for name, one in judged.chains.items():
            before = known.get(name)
            if name in good:
                assert (one.state, one.fingerprint) == (State.CURRENT, fingerprint(good[name]))
            else:
                assert one.state is not State.CURRENT
                assert before is not None
            if before is not None:
                assert one.number - before.number == (one.fingerprint != before.fingerprint)
                # Nothing of these minutes is older than the time for which room is kept.
                assert widest(one.room, before.room) == one.room
        assert set(known) <= set(judged.chains)
        assert judge(found, judged.chains, now).changed == ()
        known = judged.chains
