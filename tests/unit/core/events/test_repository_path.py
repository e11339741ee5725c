from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events.repository_path import ends_of, path_of


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("shop/api", "shop/api"),
        ("Shop/API.git", "shop/api"),
        ("/srv/git/shop/api.git", "srv/git/shop/api"),
        ("https://git.example.com/shop/api.git", "shop/api"),
        ("https://mona:pass@git.example.com:8443/shop/api/", "shop/api"),
        ("https://git.example.com/shop/api?x=1#readme", "shop/api"),
        ("ssh://git@git.example.com:2222/shop/api.git", "shop/api"),
        ("git@git.example.com:shop/api.git", "shop/api"),
        ("git.example.com:shop/api", "shop/api"),
        ("git@git.example.com:/shop/api", "shop/api"),
        ("file:///srv/git/shop/api.git", "srv/git/shop/api"),
        ("https://git.example.com/a/b/c/d.git", "a/b/c/d"),
        ("https://git.example.com/shop//api", "shop/api"),
        ("https://git.example.com/my%20shop/api", "my shop/api"),
        # Bitbucket Data Center and Azure DevOps
        ("https://bitbucket.example.com/scm/shop/api.git", "shop/api"),
        ("ssh://git@bitbucket.example.com:7999/shop/api.git", "shop/api"),
        ("https://dev.azure.com/org/shop/_git/api", "org/shop/api"),
        ("git@ssh.dev.azure.com:v3/org/shop/api", "org/shop/api"),
        ("scm", "scm"),
        ("api.git", "api"),
        ("", ""),
        ("/", ""),
        ("https://git.example.com", ""),
        ("https://[broken/shop/api", ""),
    ],
)
def test_paths(place: str, path: str) -> None:
    """All names of a repository give one path; a text without a path gives an empty one."""
    assert path_of(place) == path


@given(st.text(max_size=60))
def test_any_text_has_a_path(place: str) -> None:
    """Whatever a sender says, there is an answer, and it is a name without empty parts."""
    path = path_of(place)
    assert path == "" or "" not in path.split("/")


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True).filter(
    lambda name: name not in {"scm", "v3", "_git"}
)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_all_addresses_of_a_repository_are_one(parts: list[str]) -> None:
    """https, ssh, scp and the full name, with and without `.git`, of either case."""
    name = "/".join(parts)
    places = [
        name,
        f"https://h.example.com/{name}.git",
        f"ssh://git@h.example.com/{name}",
        f"git@h.example.com:{name}.git",
    ]
    assert {path_of(place) for place in (*places, *map(str.upper, places[:1]))} == {name}


@pytest.mark.parametrize(
    ("whole", "below", "ends"),
    [
        ("srv/git/shop/api", "api", {"srv/git/shop/api", "git/shop/api", "shop/api"}),
        ("srv/git/shop/api", "shop/api", {"srv/git/shop/api", "git/shop/api"}),
        ("shop/api", "shop/api", {"shop/api"}),
        ("srv/git/shop/api", "", {"srv/git/shop/api"}),
        ("srv/git/shop/webapi", "api", {"srv/git/shop/webapi"}),
        ("", "api", set()),
    ],
)
def test_ends(whole: str, below: str, ends: set[str]) -> None:
    """Never one shorter than what the chain itself names."""
    assert ends_of(whole, below) == ends
