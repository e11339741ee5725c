"""Tags and indexes that still serve a manifest: found in all forms, and never assumed absent if unknown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.oci import tag_holders as module
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from delivery_chain.oci.tag_holders import Held, Holder, holders
from support.oci_memory import MemoryRegistry, memory_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "shop/api"
BAD = b'{"bad": 1}'
WANTED = sha256_digest(BAD)


@pytest.fixture
def home() -> Iterator[MemoryRegistry]:
    with memory_registry() as held:
        held.manifests[f"{NAME}@{WANTED}"] = (OCI_MANIFEST, BAD)
        yield held


def store(home: MemoryRegistry, document: Any, kind: str = OCI_INDEX, tag: str = "") -> str:
    """Put whatever bytes into the registry; gives their digest."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    digest = sha256_digest(raw)
    home.manifests[f"{NAME}@{digest}"] = (kind, raw)
    if tag:
        home.tags[f"{NAME}:{tag}"] = digest
    return digest


def index(*digests: str, kind: str = OCI_MANIFEST, **more: Any) -> dict[str, Any]:
    children = [{"mediaType": kind, "digest": one, "size": 1} for one in digests]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children} | more


def look(home: MemoryRegistry, **how: Any) -> Held:
    with RegistryClient(home.registry) as client:
        return holders(client, NAME, (WANTED,), **how)


OTHER = "sha256:" + "1" * 64


@pytest.mark.parametrize(
    ("document", "kind", "held"),
    [
        pytest.param(index(OTHER, WANTED), OCI_INDEX, True, id="a child"),
        pytest.param(index(WANTED), DOCKER_LIST, True, id="of Docker's list"),
        pytest.param(index(WANTED, kind="application/x-foo"), OCI_INDEX, True, id="a child of an odd type"),
        pytest.param(
            {"manifests": [{"digest": WANTED}]}, "application/x-foo", True, id="an index of an odd type"
        ),
        pytest.param(
            {"manifests": [7, {}, {"digest": []}, {"digest": WANTED}]}, OCI_INDEX, True, id="rubbish"
        ),
        pytest.param(
            json.dumps(index(WANTED)).replace("sha256", "\\u0073ha256").encode(),
            OCI_INDEX,
            True,
            id="escaped",
        ),
        pytest.param(f"what is {WANTED}".encode(), "application/x-foo", True, id="no JSON, with its digest"),
        pytest.param(b"\xff\xfe", "application/x-foo", False, id="no JSON"),
        pytest.param(b"[" * 100_000, "application/x-foo", False, id="too deep"),
        pytest.param(index(OTHER), OCI_INDEX, False, id="another child"),
        pytest.param(
            index(OTHER, annotations={"org.opencontainers.image.base.digest": WANTED}),
            OCI_INDEX,
            False,
            id="made from it",
        ),
        pytest.param(index(OTHER, subject={"digest": WANTED}), OCI_INDEX, False, id="about it"),
        pytest.param({"manifests": {"digest": WANTED}}, OCI_INDEX, False, id="no list"),
        pytest.param([WANTED], OCI_INDEX, False, id="no object"),
    ],
)
def test_what_holds_it(home: MemoryRegistry, document: Any, kind: str, *, held: bool) -> None:
    """An index has it among its children; what is about it, or was made from it, serves it to nobody."""
    digest = store(home, document, kind, "v2")
    assert look(home) == Held({WANTED: (Holder("v2", digest),) if held else ()})


def test_every_tag_is_named(home: MemoryRegistry) -> None:
    """The manifest's own tags and those of indexes at any depth, by name; an index without a tag can't be found."""
    inner = store(home, index(WANTED, kind=OCI_MANIFEST))
    outer = store(home, index(inner, kind=OCI_INDEX), tag="outer")
    store(home, index(OTHER), tag="other")
    home.tags |= {f"{NAME}:v1": WANTED, f"{NAME}:inner": inner}
    found = look(home)
    assert found == Held({WANTED: (Holder("inner", inner), Holder("outer", outer), Holder("v1", WANTED))})
    assert found.others(WANTED, ("v1", "inner")) == (Holder("outer", outer),)


def test_an_index_is_read_once(home: MemoryRegistry) -> None:
    """However many tags lead to it."""
    digest = store(home, index(OTHER))
    home.tags |= {f"{NAME}:v{number}": digest for number in range(20)}
    look(home)
    assert home.requests.count(f"GET /v2/{NAME}/manifests/{digest}") == 1


def test_what_is_too_much_to_look_at_is_said(home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit it is unknown what serves the manifest: the result says so, and why."""
    for number in range(4):
        store(home, index(OTHER, number=number), tag=f"v{number}")
    limits = [look(home, seconds=-1).limit]
    for name in ("MOST_TAGS", "MOST_INDEXES"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 2)
            limits.append(look(home).limit)
    deep = store(home, index(WANTED))
    for _ in range(6):
        deep = store(home, index(deep, kind=OCI_INDEX))
    home.tags[f"{NAME}:v9"] = deep
    limits.append(look(home).limit)
    assert limits == [
        "it takes too long to search",
        "it has more than 2 tags",
        "it has more than 2 indexes",
        "it has more than 4 levels of nested indexes",
    ]


def test_a_manifest_that_can_not_be_read_may_hold_it(home: MemoryRegistry) -> None:
    """One that is larger than any may be is not read, and is no proof of anything."""
    digest = store(home, b" " * (5 * 1024 * 1024), "application/x-foo", "v2")
    assert look(home).limit == f"its manifest {digest} can't be read"


def test_no_repository_holds_nothing(home: MemoryRegistry) -> None:
    """Everything in it has been removed already."""
    home.manifests.clear()
    assert look(home) == Held({WANTED: ()})


trees = st.recursive(
    st.sampled_from([WANTED, OTHER]), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=12
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(trees, max_size=4))
def test_whatever_the_trees_are(home: MemoryRegistry, found: list[Any]) -> None:
    """Exactly the tags from which the manifest can be reached are named, or a limit is."""
    home.tags.clear()

    def put(tree: Any) -> tuple[str, bool]:
        if isinstance(tree, str):
            return tree, tree == WANTED
        below = [(*put(one), isinstance(one, list)) for one in tree]
        children = [
            {"mediaType": OCI_INDEX if deep else OCI_MANIFEST, "digest": digest, "size": 1}
            for digest, _, deep in below
        ]
        return store(home, {"manifests": children}), any(held for _, held, _ in below)

    expected = []
    for number, tree in enumerate(found):
        digest, held = put(tree)
        if digest == OTHER:
            continue
        home.tags[f"{NAME}:v{number}"] = digest
        expected += [Holder(f"v{number}", digest)] if held else []
    seen = look(home)
    assert seen.limit or seen.by[WANTED] == tuple(expected)
