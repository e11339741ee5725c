from __future__ import annotations

from typing import Any

import pytest

from delivery_chain.core.spec.delivery import Trigger
from delivery_chain.core.spec.filters import Destination, NotCovered, destination, fires_for, waits_for
from delivery_chain.core.spec.model import ChainSpec


def chain(rule: dict[str, Any], *repositories: str) -> ChainSpec:
    scope: dict[str, Any] = {"repositories": repositories} if repositories else {"all": True}
    return ChainSpec.model_validate(
        {
            "version": 1,
            "name": "x",
            "scope": {"instance": "home", "namespace": "shop", **scope},
            "replicate": [{"name": "r", "to": "far", **rule}],
        }
    )


def goes(
    rule: dict[str, Any], repository: str = "api", tags: tuple[str, ...] = ("v1", "latest")
) -> Destination | NotCovered:
    spec = chain(rule, *(() if rule.get("level") == "namespace" else ("api",)))
    return destination(spec, spec.replicate[0], repository, tags)


BOTH = ("v1", "latest")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, Destination("r", "far", "shop/api", BOTH, override=True)),
        ({"tags": "v.*"}, Destination("r", "far", "shop/api", ("v1",), override=True)),
        ({"tags": "v"}, NotCovered("no tag of v1, latest matches 'v'")),
        ({"override": False}, Destination("r", "far", "shop/api", BOTH, override=False)),
        ({"repository": "web"}, NotCovered("rule 'r' is for repository 'web'")),
        ({"as": {"namespace": "eu"}}, Destination("r", "far", "eu/api", BOTH, override=True)),
        ({"as": {"repository": "api2"}}, Destination("r", "far", "shop/api2", BOTH, override=True)),
        ({"level": "namespace"}, Destination("r", "far", "shop/api", BOTH, override=True)),
        (
            {"level": "namespace", "repositories": "ap."},
            Destination("r", "far", "shop/api", BOTH, override=True),
        ),
        ({"level": "namespace", "repositories": "ap"}, NotCovered("repository 'api' does not match 'ap'")),
    ],
)
def test_destination(rule: dict[str, Any], expected: Destination | NotCovered) -> None:
    """A rule sends the tags that match as a whole, under the target's name, or says why it does not."""
    assert goes(rule) == expected


def test_no_tags() -> None:
    """An image without tags is sent nowhere, and the reason reads well."""
    assert goes({}, tags=()) == NotCovered("no tag of this image matches '.*'")


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("all", ("v1", "v2", "latest")),
        ({"regexp": "v.*"}, ("v1", "v2")),
        ({"regexp": "v"}, ()),
        ({"tags": ["latest", "v1"]}, ("v1", "latest")),
        ({"tags": ["other"]}, ()),
    ],
)
def test_fires_for(on: Any, expected: tuple[str, ...]) -> None:
    """A trigger announces the tags that its filter accepts, in the image's order."""
    trigger = Trigger.model_validate({"name": "t", "url_connection": "c", "on": on})
    assert fires_for(trigger, ("v1", "v2", "latest")) == expected


@pytest.mark.parametrize(("after", "expected"), [(None, ("r",)), ((), ()), (("r",), ("r",))])
def test_waits_for(after: tuple[str, ...] | None, expected: tuple[str, ...]) -> None:
    """A trigger waits for every region unless it says for which."""
    trigger = Trigger(name="t", url_connection="c", after=after)
    assert waits_for(trigger, chain({}, "api")) == expected
