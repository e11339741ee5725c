"""The connections that chains lack in a sandbox, and the commands that add them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.events.watch_dags import images_dag_id
from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.sandbox.following import taking
from delivery_chain.sandbox.source import Push
from delivery_chain.sandbox.wanted import advice, missing, watches

if TYPE_CHECKING:
    from delivery_chain.core.spec.model import ChainSpec

GIT = Path("/s/git/shop/api.git")
ENVIRONMENT = Path("/s/airflow.env")
TEXT = """
version: 1
name: mine
scope: {instance: my_registry, namespace: shop, repositories: [api]}
sources:
  api: {connection: CONNECTION, url: URL}
build:
  rules:
    - {name: release, tag: 'v.*', tags: [{tag: v1}]}
    - {name: nightly, tag: 'v.*-nightly', tags: [{tag: nightly}]}
replicate:
  - {name: near, to: my_registry_2, tags: 'v.*'}
  - {name: far, to: my_registry_2, tags: 'n.*'}
distribute:
  - {name: tell, url_connection: my_target, on: {regexp: 'v.*'}}
"""
IMAGES = "{version: 1, name: images, scope: {instance: reg, namespace: base, all: true}}"


def chain(connection: str = "my_git", url: str = "shop/api.git") -> ChainSpec:
    return parse_spec(TEXT.replace("CONNECTION", connection).replace("URL", url), "mine.yaml")


def push(kind: str = "tag", name: str = "v1") -> Push:
    return Push("api", kind, name, "a" * 40, vulnerable=False)


def test_each_missing_connection_is_told_once_with_its_command() -> None:
    """Registry, source and trigger, what each is for, and the way to speak to this sandbox."""
    known = {"my_registry": "oci_registry", "cn-hangzhou": "oci_registry"}
    assert advice(missing([chain()], known), known, ENVIRONMENT) == [
        "connection my_git is missing: the source of api",
        "  delivery-chain connect git my_git URL",
        "connection my_registry_2 is missing: replication rule near (did you mean my_registry?)",
        "  delivery-chain connect registry my_registry_2 HOST",
        "connection my_target is missing: trigger tell",
        "  delivery-chain connect trigger my_target URL",
        "run `. /s/airflow.env` first, so that these commands address this sandbox",
    ]


def test_a_connection_of_another_type_does_not_do() -> None:
    """The type that is wanted and the one that is there are told."""
    known = dict.fromkeys(("my_registry", "my_registry_2", "my_git"), "oci_registry")
    known["my_target"] = "delivery_webhook"
    first, *_ = advice(missing([chain()], known), known, ENVIRONMENT)
    assert first == (
        "connection my_git: expected type git for the source of api, found oci_registry; "
        "delete it under Admin > Connections, then"
    )


def test_nothing_is_told_where_nothing_is_missing() -> None:
    """No line at all."""
    assert advice(missing([], {}), {}, ENVIRONMENT) == []


def test_watches_are_known_by_their_connection() -> None:
    """Of sources and of images."""
    images = parse_spec(IMAGES, "images.yaml")
    found = watches([chain(), images])
    assert found.pop(images_dag_id("reg", "base")) == "reg"
    assert list(found.values()) == ["my_git"]


@pytest.mark.parametrize(
    ("connection", "url", "made", "chains"),
    [
        ("git_shop", "shop/api.git", push(), ["mine"]),
        ("git_shop", "shop/api", push(), ["mine"]),
        ("git_shop", "/shop/api.git/", push(name="v1-nightly"), ["mine"]),
        ("git_shop", GIT.as_uri(), push(), ["mine"]),
        ("git_shop", "shop/web.git", push(), []),
        ("other", "shop/api.git", push(), []),
        ("git_shop", "shop/api.git", push(name="x"), []),
        ("git_shop", "shop/api.git", push("branch", "v1"), []),
    ],
)
def test_the_chains_that_take_a_push_are_known(
    connection: str, url: str, made: Push, chains: list[str]
) -> None:
    """Those with a rule for its ref on its repository; each once, however many rules match."""
    assert taking([chain(connection, url)], made, GIT) == chains
