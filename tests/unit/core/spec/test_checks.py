from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.spec.checks import fleet_problems
from delivery_chain.core.spec.model import ChainSpec

if TYPE_CHECKING:
    from delivery_chain.core.spec.document import Complaint


def chain(name: str, instance: str = "home", namespace: str = "shop", **scope: Any) -> ChainSpec:
    return ChainSpec.model_validate(
        {"version": 1, "name": name, "scope": {"instance": instance, "namespace": namespace, **scope}}
    )


API = {"repositories": ["api"]}
LISTED = ("scope", "repositories")


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ({}, []),
        ({"a.yaml": chain("a", **API), "b.yaml": chain("b", repositories=["web"])}, []),
        ({"a.yaml": chain("a", **API), "b.yaml": chain("b", all=True)}, []),
        ({"a.yaml": chain("a", **API), "b.yaml": chain("b", "far", **API)}, []),
        ({"a.yaml": chain("a", **API), "b.yaml": chain("b", "home", "other", **API)}, []),
        (
            {"a.yaml": chain("a", **API), "b.yaml": chain("b", repositories=["web", "api"])},
            [
                ("a.yaml", (LISTED, "shop/api is also covered by b.yaml, whose scope is just as narrow")),
                ("b.yaml", (LISTED, "shop/api is also covered by a.yaml, whose scope is just as narrow")),
            ],
        ),
        (
            {"a.yaml": chain("a", all=True), "b.yaml": chain("b", all=True, exclude=["api"])},
            [
                (
                    "a.yaml",
                    (("scope", "all"), "shop/* is also covered by b.yaml, whose scope is just as narrow"),
                ),
                (
                    "b.yaml",
                    (("scope", "all"), "shop/* is also covered by a.yaml, whose scope is just as narrow"),
                ),
            ],
        ),
        (
            {name: chain("a", namespace=name[0], **API) for name in ("a.yaml", "b.yaml", "c.yaml")},
            [
                ("a.yaml", (("name",), "chain 'a' is defined by b.yaml and c.yaml too")),
                ("b.yaml", (("name",), "chain 'a' is defined by a.yaml and c.yaml too")),
                ("c.yaml", (("name",), "chain 'a' is defined by a.yaml and b.yaml too")),
            ],
        ),
    ],
)
def test_fleet(specs: dict[str, ChainSpec], expected: list[tuple[str, Complaint]]) -> None:
    """Duplicate names and equally narrow scopes are reported for every file; a narrower scope is accepted."""
    assert list(fleet_problems(specs)) == expected
