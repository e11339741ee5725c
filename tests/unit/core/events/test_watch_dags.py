from __future__ import annotations

import re

from delivery_chain.core.events.watch_dags import (
    images_dag_id,
    source_dag_id,
    told_key,
    watch_words,
    watched,
    watched_images,
)
from delivery_chain.core.spec.model import Source
from support.webhook_airflow import images, spec

API = Source(connection="git_shop", url="api.git")


def test_a_source_is_watched_once() -> None:
    """Whatever the number of chains and of repositories that are built from it."""
    place = {"connection": "git_shop", "url": "api.git"}
    two = spec(
        "two",
        scope={"instance": "home", "namespace": "two", "repositories": ["api", "web"]},
        sources={"api": place, "web": place},
        build={
            "rules": [
                {"name": name, "branch": "main", "repository": name, "tags": [{"tag": "edge"}]}
                for name in ("web", "api")
            ],
            "timezone": "UTC",
        },
    )
    assert watched([spec(), two, images()]) == {
        source_dag_id(API): (API, [(spec(), "api"), (two, "web"), (two, "api")])
    }


def test_a_source_that_nothing_is_built_from_is_not_watched() -> None:
    """A chain that takes images watches its namespace, and one that builds them does not."""
    some = images("some", scope={"instance": "home", "namespace": "base", "repositories": ["python"]})
    assert watched([images(), some]) == {}
    assert watched_images([spec(), images(), some]) == {images_dag_id("home", "base"): [images(), some]}


def test_ids_can_be_read() -> None:
    """Kind, connection and place, and what keeps alike ones apart."""
    found = [
        source_dag_id(API),
        source_dag_id(Source(connection="git_shop", url="api")),
        images_dag_id("home", "shop/inner"),
        images_dag_id("home", "shop-inner"),
    ]
    assert [one[:-6] for one in found] == [
        "delivery-chain-source--git_shop--api-",
        "delivery-chain-source--git_shop--api-",
        "delivery-chain-images--home--shop-inner-",
        "delivery-chain-images--home--shop-inner-",
    ]
    assert len(set(found)) == 4
    assert re.fullmatch("delivery-chain-webhooks-[0-9a-f]{12}", told_key(found[0]))
    assert len({told_key(one) for one in found}) == 4


def test_words_of_an_id_are_in_its_spec() -> None:
    """A task's process reads only the specs that can have made its Dag."""
    for one in (spec(), images("shop", scope={"instance": "home", "namespace": "shop/inner", "all": True})):
        text = one.model_dump_json()
        ids = [*watched([one]), *watched_images([one])]
        assert len(ids) == 1
        assert [word for word in watch_words(ids[0]) if word not in text] == []
