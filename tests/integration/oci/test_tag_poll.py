"""Polls of registries: what is included, what it costs, and what can go wrong."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import (
    ConfigurationError,
    DeliveryChainError,
    InvalidReference,
    RegistryBusy,
    RegistryFailure,
    RegistryUnreachable,
    Unauthorized,
)
from delivery_chain.oci import tag_poll
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.limits import Limits
from delivery_chain.oci.http.connector import Connector
from delivery_chain.oci.manifest import OCI_MANIFEST
from delivery_chain.oci.referrers import fallback_tag
from delivery_chain.oci.tag_poll import poll_tags
from support.oci_images import push_image
from support.oci_registry import docker_registry, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from support.oci_scripted import Script

pytestmark = pytest.mark.integration

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
NOT_HERE = b'{"errors": [{"code": "NAME_UNKNOWN", "message": "repository name not known"}]}'


def push(client: RegistryClient, name: str, *tags: str, seed: int = 1) -> str:
    """Push an image under tags; return its digest."""
    entry = push_image(client, name, seed=seed, sizes=(100,))
    raw = client.get_manifest(name, entry.digest).raw
    for tag in tags:
        client.put_manifest(name, tag, raw, entry.media_type)
    return entry.digest


def ask(script: Script, *names: str, **more: Any) -> dict[str, str]:
    """Poll a scripted registry, with limits for this poll alone."""
    with RegistryClient(script.registry, timeout=5) as client:
        return poll_tags(client, names, **{"limits": Limits(), **more})


def say_tags(script: Script, name: str, **tags: str) -> None:
    """Serve tags: the list, and HEAD of each."""
    body = json.dumps({"name": name, "tags": list(tags)}).encode()
    script.say("GET", rf"/v2/{name}/tags/list\?n=1000", body=body)
    for tag, digest in tags.items():
        head = {"Docker-Content-Digest": digest, "Content-Type": OCI_MANIFEST}
        script.say("HEAD", f"/v2/{name}/manifests/{tag}", headers=head)


def test_tags_of_several_repositories(oci_client: RegistryClient, oci_repository: str) -> None:
    """All matching tags, in one poll; a repository that does not exist has none."""
    one, two = f"{oci_repository}/one", f"{oci_repository}/two"
    first = push(oci_client, one, "v1", "v2", "latest", seed=1)
    second = push(oci_client, two, "v1", seed=2)
    assert poll_tags(oci_client, [one, two, f"{oci_repository}/three"], tags="v.*") == {
        f"{one}:v1": first,
        f"{one}:v2": first,
        f"{two}:v1": second,
    }


def test_own_tags_never_count(oci_client: RegistryClient, oci_repository: str) -> None:
    """Staging tags, fallback tags of referrers, and cosign's."""
    digest = push(oci_client, oci_repository)
    own = [fallback_tag(digest), *(f"{fallback_tag(digest)}.{kind}" for kind in ("sig", "att", "sbom"))]
    push(oci_client, oci_repository, "v1", "_staging-0123456789ab", *own)
    assert poll_tags(oci_client, [oci_repository]) == {f"{oci_repository}:v1": digest}


def test_whole_namespaces(oci_client: RegistryClient, oci_repository: str) -> None:
    """The catalog's repositories, without excluded ones, and without those that merely share the prefix's letters."""
    digest = push(oci_client, f"{oci_repository}/api", "v1")
    for name in ("/old", "-2/api"):
        push(oci_client, f"{oci_repository}{name}", "v1")
    found = poll_tags(oci_client, namespaces=[oci_repository], exclude=[f"{oci_repository}/old"])
    assert found == {f"{oci_repository}/api:v1": digest}


def test_a_tag_that_is_being_deleted_is_gone(
    oci_client: RegistryClient, oci_repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only digests can be deleted, the tag points at a stand-in for a moment, which was not pushed."""
    push(oci_client, oci_repository, "v1")
    with monkeypatch.context() as patch:
        patch.setattr(oci_client, "delete_manifest", lambda *_: None)
        oci_client.delete_tag(oci_repository, "v1")
    assert oci_client.head_manifest(oci_repository, "v1") is not None
    assert poll_tags(oci_client, [oci_repository]) == {}


def test_a_look_costs_one_request_a_tag(oci_script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plus one for each repository's list; all on one connection."""
    opened = []
    connect = Connector.open
    monkeypatch.setattr(Connector, "open", lambda *to: opened.append(to) or connect(*to))
    say_tags(oci_script, "shop/api", v1=A, v2=B)
    say_tags(oci_script, "shop/web", v1=A)
    found = ask(oci_script, "shop/api", "shop/web", "shop/api")
    assert found == {"shop/api:v1": A, "shop/api:v2": B, "shop/web:v1": A}
    assert [one.method for one in oci_script.seen] == ["GET", "GET", "HEAD", "HEAD", "HEAD"]
    assert len(opened) == 1


def test_the_catalogue_is_read_once(oci_script: Script) -> None:
    """For all namespaces together."""
    names = ["shop/api", "infra/dns", "shop2/api", "Odd/Name"]
    body = json.dumps({"repositories": names}).encode()
    oci_script.say("GET", r"/v2/_catalog\?n=1000", body=body)
    say_tags(oci_script, "shop/api", v1=A)
    say_tags(oci_script, "infra/dns", v1=B)
    assert ask(oci_script, namespaces=["shop", "infra"]) == {"shop/api:v1": A, "infra/dns:v1": B}
    assert len([path for path in oci_script.paths("GET") if "catalog" in path]) == 1


def test_a_tag_that_goes_away_meanwhile_is_gone(oci_script: Script) -> None:
    """It was in the list, but no longer exists when it is resolved."""
    say_tags(oci_script, "shop/api", v1=A)
    oci_script.say("GET", r"/v2/shop/web/tags/list\?n=1000", body=b'{"name": "shop/web", "tags": ["v1"]}')
    oci_script.say("GET", "/v2/", body=b"{}")
    assert ask(oci_script, "shop/api", "shop/web") == {"shop/api:v1": A}


@pytest.mark.parametrize("media_type", ["application/vnd.docker.distribution.manifest.v1+prettyjws", ""])
def test_what_no_chain_can_copy_is_seen_too(oci_script: Script, media_type: str) -> None:
    """A tag in an old format does not end the wait with an error."""
    body = b'{"name": "shop/api", "tags": ["v1"]}'
    oci_script.say("GET", r"/v2/shop/api/tags/list\?n=1000", body=body)
    head = {"Docker-Content-Digest": A, "Content-Type": media_type}
    oci_script.say("HEAD", "/v2/shop/api/manifests/v1", headers=head)
    assert ask(oci_script, "shop/api") == {"shop/api:v1": A}


def test_a_registry_that_says_no_digest_is_read(oci_script: Script) -> None:
    """The manifest is fetched and hashed."""
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": A, "size": 2},
            "layers": [],
        }
    ).encode()
    oci_script.say("GET", r"/v2/shop/api/tags/list\?n=1000", body=b'{"name": "shop/api", "tags": ["v1"]}')
    oci_script.say_manifest("shop/api", "v1", raw, OCI_MANIFEST)
    assert ask(oci_script, "shop/api") == {"shop/api:v1": sha256_digest(raw)}


def test_a_proxy_that_says_404_to_all_is_no_empty_registry(oci_script: Script) -> None:
    """Otherwise every tag would seem deleted while a registry restarts, and new afterwards."""
    with pytest.raises(RegistryFailure, match="the server that answers now is not a registry") as caught:
        ask(oci_script, "shop/api")
    assert caught.value.retryable
    with pytest.raises(RegistryFailure, match="the server that answers now is not a registry"):
        ask(oci_script, namespaces=["shop"])


def test_a_registry_that_lets_nobody_in_without_a_scope_is_there(oci_script: Script) -> None:
    """Its refusal of the ping shows that it is a registry."""
    oci_script.say("GET", "/v2/", 403)
    assert ask(oci_script, "shop/api") == {}


def test_a_registry_that_knows_the_repository_is_missing_is_believed(oci_script: Script) -> None:
    """It responds with the spec's code, and no further request is needed."""
    oci_script.say("GET", r"/v2/shop/api/tags/list\?n=1000", 404, body=NOT_HERE)
    assert (ask(oci_script, "shop/api"), len(oci_script.seen)) == ({}, 1)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_registry_without_a_catalogue(oci_script: Script, status: int) -> None:
    """The error says what to do: name the repositories."""
    headers = {"WWW-Authenticate": "Basic"} if status == 401 else {}
    oci_script.say("GET", r"/v2/_catalog\?n=1000", status, headers=headers)
    oci_script.say("GET", "/v2/", body=b"{}")
    with pytest.raises(ConfigurationError) as caught:
        ask(oci_script, namespaces=["shop"])
    assert str(caught.value).startswith(
        f"repositories of shop: expected a registry that lists them, found: GET catalog at "
        f"{oci_script.registry.base_url}: HTTP {status}"
    )
    assert "name the repositories one by one" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "more", "kind", "message"),
    [
        ((), {}, ConfigurationError, "image tags: expected a repository or a namespace to watch"),
        (("shop/api",), {"tags": "v("}, ConfigurationError, r"image tags 'v\(': not a regular expression"),
        (("Shop/api",), {}, InvalidReference, "repository name 'Shop/api': expected lowercase"),
        (
            [f"shop/r{number}" for number in range(1001)],
            {},
            ConfigurationError,
            "expected at most 1000 repositories in one watch, found more; name fewer repositories",
        ),
    ],
    ids=["nothing", "pattern", "name", "repositories"],
)
def test_what_is_refused_before_anything_is_asked(
    oci_script: Script, names: Any, more: dict[str, Any], kind: type[DeliveryChainError], message: str
) -> None:
    """No request is sent."""
    with pytest.raises(kind, match=message) as caught:
        ask(oci_script, *names, **more)
    assert (caught.value.retryable, oci_script.seen) == (False, [])


def test_too_many_tags_are_refused(oci_script: Script) -> None:
    """Before any is resolved; tags that do not match don't count."""
    for name in ("one", "two"):
        tags = [*(f"v{number}" for number in range(2501)), *(f"b{number}" for number in range(5000))]
        body = json.dumps({"name": name, "tags": tags}).encode()
        oci_script.say("GET", rf"/v2/{name}/tags/list\?n=1000", body=body)
    with pytest.raises(ConfigurationError) as caught:
        ask(oci_script, "one", "two", tags="v.*")
    assert str(caught.value) == (
        "image tags: expected at most 5000 tags that match in one watch, found more; "
        "narrow `tags`, or name fewer repositories"
    )
    assert oci_script.paths("HEAD") == []


def test_a_login_that_is_refused_is_an_error(tmp_path: Path) -> None:
    """It does not count as an empty repository, and the password is not shown."""
    with docker_registry(tmp_path, htpasswd=True) as registry:
        wrong = replace(registry, password="another-password")
        with RegistryClient(wrong) as client, pytest.raises(Unauthorized) as caught:
            poll_tags(client, ["shop/api"])
    assert (caught.value.retryable, "another-password" in str(caught.value)) == (False, False)


def test_a_registry_that_is_down_is_a_retryable_error() -> None:
    """The poll saw nothing, so nothing counts as deleted."""
    registry = Registry(host=f"127.0.0.1:{free_port()}", plain_http=True)
    with RegistryClient(registry) as client, pytest.raises(RegistryUnreachable):
        poll_tags(client, ["shop/api"])


def test_a_registry_that_asks_to_slow_down_is_left_alone(oci_script: Script) -> None:
    """Other polls of this process leave it alone, too, and say when to retry."""
    limits = Limits()
    oci_script.say("GET", ".*", 429, headers={"Retry-After": "40"})
    with pytest.raises(RegistryBusy) as first:
        ask(oci_script, "shop/api", limits=limits)
    with pytest.raises(RegistryBusy) as second:
        ask(oci_script, "shop/web", limits=limits)
    assert (first.value.retry_after, len(oci_script.seen)) == (40, 1)
    assert second.value.retry_after is not None
    assert 30 < second.value.retry_after <= 40


def test_a_look_has_an_end(oci_script: Script) -> None:
    """Even while it waits for a response that never comes; nothing of it keeps running."""
    path = r"/v2/shop/api/tags/list\?n=1000.*"
    body = b'{"name": "shop/api", "tags": ["v1"]}'
    oci_script.say("GET", path, body=body, headers={"Content-Length": "1000"})
    started = time.monotonic()
    with pytest.raises(RegistryUnreachable) as caught:
        ask(oci_script, "shop/api", seconds=0.3)
    assert time.monotonic() - started < 4
    assert str(caught.value) == (
        f"{oci_script.registry.base_url}: expected to poll the tags within 0.3 s, it took longer. "
        "Watch fewer tags, or check whether the registry is slow"
    )
    assert [one for one in threading.enumerate() if one.name == "delivery-chain-poll"] == []


def test_the_limits_of_a_look_fit_together() -> None:
    """At a usual registry's speed, the maximum number of tags and repositories can be polled in time."""
    assert (tag_poll.MAX_TAGS + tag_poll.MAX_REPOSITORIES) * 0.05 <= tag_poll.POLL_SECONDS
