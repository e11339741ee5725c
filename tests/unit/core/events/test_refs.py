from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events import refs as module
from delivery_chain.core.events.refs import changes, gone, matching, natural_key
from delivery_chain.errors import ConfigurationError

A, B = "a" * 40, "b" * 40
REFS = st.dictionaries(st.text("v01.9rc-/", min_size=1, max_size=8), st.sampled_from([A, B]))
SEEN = {"refs/heads/main": A, "refs/heads/release-1": A, "refs/tags/v1.0": B, "refs/tags/main": B}


@pytest.mark.parametrize(
    ("known", "seen", "expected"),
    [
        ({}, {}, ()),
        ({"refs/tags/v1": A}, {"refs/tags/v1": A}, ()),
        ({}, {"refs/tags/v1": A}, ({"ref": "refs/tags/v1", "commit": A, "previous": None},)),
        (
            {"refs/heads/main": A},
            {"refs/heads/main": B},
            ({"ref": "refs/heads/main", "commit": B, "previous": A},),
        ),
        ({"refs/tags/v1": A}, {}, ()),
        (
            {},
            {"refs/tags/v1.10": A, "refs/tags/v1.9": A, "refs/heads/x": A},
            (
                {"ref": "refs/heads/x", "commit": A, "previous": None},
                {"ref": "refs/tags/v1.9", "commit": A, "previous": None},
                {"ref": "refs/tags/v1.10", "commit": A, "previous": None},
            ),
        ),
    ],
)
def test_changes(
    known: dict[str, str], seen: dict[str, str], expected: tuple[dict[str, str | None], ...]
) -> None:
    """New and moved refs are returned, in natural order; deleted and unchanged ones are not."""
    assert tuple(changes(known, seen)) == expected


@given(REFS, REFS)
def test_changes_and_gone_tell_all(known: dict[str, str], seen: dict[str, str]) -> None:
    """Changes and deletions, applied to the old listing, give the new one; no change is returned twice."""
    found = changes(known, seen)
    left = {ref: commit for ref, commit in known.items() if ref not in gone(known, seen)}
    assert left | {change["ref"]: change["commit"] for change in found} == seen
    assert all(one["previous"] == known.get(str(one["ref"])) != one["commit"] for one in found)
    assert len({change["ref"] for change in found}) == len(found)


@given(REFS)
def test_nothing_changes_by_itself(refs: dict[str, str]) -> None:
    """The same refs twice are no change."""
    assert (changes(refs, refs), gone(refs, refs)) == ([], ())


@given(st.lists(st.text(max_size=12), unique=True))
def test_the_order_is_total(names: list[str]) -> None:
    """Any names can be compared, and no two share a key."""
    assert len({repr(natural_key(name)) for name in sorted(names, key=natural_key)}) == len(names)


@pytest.mark.parametrize(
    ("branches", "tags", "expected"),
    [
        (None, None, set(SEEN)),
        ("main", None, {"refs/heads/main"}),
        (None, r"v\d+\.\d+", {"refs/tags/v1.0"}),
        (None, r"v\d", set()),
        (".*", "v1.0", {"refs/heads/main", "refs/heads/release-1", "refs/tags/v1.0"}),
    ],
)
def test_matching(branches: str | None, tags: str | None, expected: set[str]) -> None:
    """Patterns match whole names of their own kind of ref; none at all means everything."""
    assert matching(SEEN, branches, tags) == {ref: SEEN[ref] for ref in expected}


def test_a_wrong_pattern_says_which() -> None:
    """RE2's reason reaches the reader."""
    with pytest.raises(ConfigurationError, match=r"git refs, tags 'v\(': not a regular expression"):
        matching(SEEN, None, "v(")


def test_a_watch_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """More refs than can be remembered are refused, with the next step."""
    monkeypatch.setattr(module, "MAX_WATCHED", 3)
    with pytest.raises(ConfigurationError) as caught:
        matching(SEEN, None, None)
    assert str(caught.value) == (
        "git refs: expected at most 3 matches, found 4; narrow the patterns for branches and tags"
    )
