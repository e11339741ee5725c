from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events.image_tags import counted, tag_changes, tag_difference, tag_pattern
from delivery_chain.errors import ConfigurationError

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"

looks = st.dictionaries(
    st.builds(
        "{}:{}".format,
        st.from_regex(r"[a-z0-9]{1,3}(/[a-z0-9]{1,3}){0,2}", fullmatch=True),
        st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,4}", fullmatch=True),
    ),
    st.sampled_from([A, B]),
    max_size=8,
)


def test_new_and_moved_tags_in_natural_order() -> None:
    """Repository by repository, whatever sorts between a name and a colon."""
    known = {"shop/api:v1.9": A, "shop/api:latest": A, "shop/api:old": A}
    seen = {
        "shop/api-2:v1": A,
        "shop/api:v1.10": B,
        "shop/api:v1.9": A,
        "shop/api:v1.2": B,
        "shop/api:latest": B,
    }
    assert tag_changes(known, seen) == [
        {"name": "shop/api", "tag": "latest", "digest": B, "previous": A},
        {"name": "shop/api", "tag": "v1.2", "digest": B, "previous": None},
        {"name": "shop/api", "tag": "v1.10", "digest": B, "previous": None},
        {"name": "shop/api-2", "tag": "v1", "digest": A, "previous": None},
    ]


def test_a_change_as_json_has_all_keys() -> None:
    """Dags need not ask whether a key is there."""
    assert tag_changes({}, {"shop/api:v1": A}) == [
        {"name": "shop/api", "tag": "v1", "digest": A, "previous": None}
    ]


@given(looks, looks)
def test_known_and_difference_give_what_is_seen(known: dict[str, str], seen: dict[str, str]) -> None:
    """No change is lost, and none is reported twice."""
    found = tag_difference(known, seen)
    left = {key: digest for key, digest in known.items() if key not in found["gone"]}
    told = {f"{change['name']}:{change['tag']}": change["digest"] for change in found["refs"]}
    assert left | told == seen == found["seen"]
    assert (len(told), len(set(found["gone"]))) == (len(found["refs"]), len(found["gone"]))
    assert all(known.get(f"{one['name']}:{one['tag']}") == one["previous"] for one in found["refs"])
    assert all(one["previous"] != one["digest"] for one in found["refs"])


@given(looks, st.randoms())
def test_the_order_is_that_of_the_names(seen: dict[str, str], random: object) -> None:
    """Whatever order the registry lists tags in; each repository's tags are together."""
    keys = list(seen)
    random.shuffle(keys)  # type: ignore[attr-defined]
    found = tag_changes({}, {key: seen[key] for key in keys})
    assert found == tag_changes({}, seen)
    names = [change["name"] for change in found]
    assert len([name for at, name in enumerate(names) if names[at - 1 : at] != [name]]) == len(set(names))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, ["v1.9", "v1.10", "latest", "v1.sig", "sha256-notes"]),
        ("latest", ["latest"]),
        ("v1.1", []),
        (r"v1\.\d+", ["v1.9", "v1.10"]),
        ("v1", []),
        (".*", ["v1.9", "v1.10", "latest", "v1.sig", "sha256-notes"]),
        ("_staging-.*|sha256-.*", ["sha256-notes"]),
    ],
)
def test_which_tags_count(pattern: str | None, expected: list[str]) -> None:
    """Whole names; never the chain's staging, the referrers' fallback tags or cosign's."""
    own = ["_staging-0123456789ab", f"sha256-{'a' * 64}", f"sha512-{'b' * 128}"]
    own += [f"sha256-{'a' * 64}.{kind}" for kind in ("sig", "att", "sbom")]
    users = ["v1.9", "v1.10", "latest", "v1.sig", "sha256-notes"]
    assert counted([*own, *users], tag_pattern(pattern)) == expected


def test_a_pattern_that_re2_does_not_take_is_refused() -> None:
    """With RE2's reason, and what to do."""
    with pytest.raises(ConfigurationError) as caught:
        tag_pattern("v(1")
    assert str(caught.value) == (
        "image tags 'v(1': not a regular expression that RE2 accepts: missing ): v(1; correct the pattern"
    )
