from __future__ import annotations

import json
from typing import Any

import pytest

from delivery_chain.core.events.push import Push
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.ghcr import pushed_images
from support.registry_samples import changed, sample

DIGEST = "sha256:3da1996a8115d7616457760d9920b815241d0a03b34cf5f04e9a0e9d8de37498"


def payload(case: str, **values: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(changed("ghcr", case, **values).body)
    return found


@pytest.mark.parametrize(
    ("case", "digest"),
    [
        (
            "package-tagged",
            json.loads(sample("ghcr", "package-tagged").body)["package"]["package_version"]["version"],
        ),
        ("registry-package-tagged", DIGEST),
    ],
)
@pytest.mark.parametrize("action", ["published", "updated"])
def test_a_tagged_container_is_an_image(case: str, digest: str, action: str) -> None:
    """Both of GitHub's events; the name is in lower case, as ghcr.io has it, and a version is named by its digest."""
    assert pushed_images(payload(case, action=action)) == (
        (Push.of_image(name="codertocat/hello-world-npm", tag="nightly", digest=digest),),
        "",
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            payload("package-untagged"),
            "pushed without a tag, like the platforms of an index and an image's referrers",
        ),
        (payload("package-npm"), "a package of the kind 'npm': not a container image"),
        (payload("package-tagged", action="deleted"), "a package was deleted: not a push"),
        (
            payload("package-tagged", package__package_version__container_metadata__tag__name="sha256-a.sig"),
            "the tag sha256-a.sig is a referrer's or the chain's own",
        ),
    ],
    ids=["untagged", "npm", "deleted", "signature"],
)
def test_what_is_no_push_of_a_tagged_container_says_why(found: dict[str, Any], why: str) -> None:
    """GitHub sends an event for each platform of an index as well, without a tag."""
    assert pushed_images(found) == ((), why)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "expected an object at registry_package or package"),
        ({"package": []}, "expected an object at registry_package or package"),
        (payload("package-tagged", action=None), "expected a text at action, found nothing"),
        (payload("package-tagged", package__owner=None), "expected a text at owner.login, found nothing"),
        (
            payload("package-tagged", package__package_version__container_metadata__tag__name=[1]),
            "the payload names no valid image: Input should be a valid string",
        ),
        (
            payload("package-tagged", package__package_version__version="sha256:1"),
            "the payload names no valid image: Value error, digest 'sha256:1': expected sha256: and 64 hex digits",
        ),
    ],
    ids=["empty", "list", "action", "owner", "tag", "digest"],
)
def test_other_shapes_are_refused(found: dict[str, Any], message: str) -> None:
    """One clear line says what is missing or wrong."""
    with pytest.raises(WebhookRefused) as refused:
        pushed_images(found)
    assert (refused.value.status, str(refused.value)) == (400, message)
