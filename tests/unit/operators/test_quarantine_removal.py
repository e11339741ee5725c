"""What a quarantine removes of an image, and what it keeps because others use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.results import Quarantined
from delivery_chain.errors import DeletesDisabled
from delivery_chain.oci import tag_holders
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_INDEX, build_index
from support.chain_steps import (
    NAME,
    image_plan,
    push_platform,
    report_of,
)
from support.quarantines import DIGEST, SAFE, blocked, kept_away, policy, pushed

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry


def test_an_image_of_others_is_removed_with_its_tag(home: MemoryRegistry) -> None:
    """The rule's `delete` holds for pushed images too."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    assert kept_away(run) == Quarantined(digest=digest, deleted=("v7", digest))
    assert (home.tags, home.manifests) == ({}, {})


def test_an_image_of_others_is_kept_under_its_tag(home: MemoryRegistry) -> None:
    """Without `delete` the result says where it still is."""
    run, digest = pushed(home, policy(backup=False, delete=False), "v7")
    assert kept_away(run).kept == f"{home.registry.host}/{NAME}:v7@{digest}"


def test_a_tag_that_was_pushed_again_is_not_removed(home: MemoryRegistry) -> None:
    """The fixed image was pushed meanwhile: its own run judges it, and this one removes only the blocked digest."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    with RegistryClient(home.registry) as client:
        fixed = push_platform(client, image_plan(DIGEST, "v7"), seed="fixed")
    assert kept_away(run) == Quarantined(digest=digest, deleted=(digest,))
    assert (home.tags, list(home.manifests)) == ({f"{NAME}:v7": fixed}, [f"{NAME}@{fixed}"])


def test_a_digest_under_another_tag_stays(home: MemoryRegistry) -> None:
    """Registries delete a manifest with all its tags: one that this run is not about is not taken along."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    home.tags[f"{NAME}:stable"] = digest
    assert kept_away(run) == Quarantined(
        digest=digest, deleted=("v7",), kept=f"{home.registry.host}/{NAME}:stable@{digest}"
    )
    assert (home.tags, list(home.manifests)) == ({f"{NAME}:stable": digest}, [f"{NAME}@{digest}"])


def test_parts_of_an_image_of_others_stay(home: MemoryRegistry) -> None:
    """Its platforms may be parts of other images."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    with RegistryClient(home.registry) as client:
        child = push_platform(client, image_plan(DIGEST, "part"), seed="child")
    run.leave("assemble", run.left("assemble") | {"images": [{"digest": child, "platform": "linux/amd64"}]})
    del home.tags[f"{NAME}:part"]
    assert kept_away(run).deleted == ("v7", digest)
    assert list(home.manifests) == [f"{NAME}@{child}"]


def test_an_index_is_not_broken(home: MemoryRegistry) -> None:
    """A platform that an index of others has stays for it, also where the index itself was never judged."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v2-amd64")
    with RegistryClient(home.registry) as client:
        arm = push_platform(client, image_plan(DIGEST, "v2-arm64"), "linux/arm64")
        children = [client.get_manifest(NAME, one).descriptor() for one in (digest, arm)]
        index = client.put_manifest(NAME, "v2", build_index(children), OCI_INDEX)
    kept = f"{home.registry.host}/{NAME}:v2@{index} (an index that contains it)"
    assert kept_away(run) == Quarantined(digest=digest, deleted=("v2-amd64",), kept=kept)
    assert home.tags == {f"{NAME}:v2": index, f"{NAME}:v2-arm64": arm}
    assert {f"{NAME}@{one}" for one in (digest, arm, index)} == set(home.manifests)


def test_another_runs_staging_tag_holds_too(home: MemoryRegistry) -> None:
    """What another run has under its staging tag is not taken from under it."""
    run, digest = blocked(home, policy(backup=False, delete=True))
    home.tags[f"{NAME}:_staging-0123456789ab"] = digest
    found = kept_away(run)
    assert (digest in found.deleted, found.kept) == (
        False,
        f"{home.registry.host}/{NAME}:_staging-0123456789ab@{digest}",
    )


def test_what_can_not_be_looked_through_is_kept(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else serves it is unknown: the tag is removed, the manifest is kept, and the result says both."""
    monkeypatch.setattr(tag_holders, "MOST_TAGS", 2)
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    with RegistryClient(home.registry) as client:
        for number in range(3):
            push_platform(client, image_plan(DIGEST, f"v{number}"), seed=str(number))
    found = kept_away(run)
    assert (found.deleted, f"{NAME}@{digest}" in home.manifests) == (("v7",), True)
    assert found.kept == (
        f"{home.registry.host}/{NAME}@{digest}, perhaps more, as not all of {NAME} was searched: "
        "it has more than 2 tags"
    )


@pytest.mark.parametrize("make", ["built", "pushed"])
@pytest.mark.parametrize("held", [False, True])
def test_deletes_that_are_off_leave_everything(home: MemoryRegistry, make: str, *, held: bool) -> None:
    """The backup is made, nothing else is written, and the result says where the image is, though the task fails."""
    spec = policy(backup=True, delete=True)
    run, digest = blocked(home, spec) if make == "built" else pushed(home, spec, "v7")
    if held:
        home.tags[f"{NAME}:prod"] = digest
    home.deletes = home.deletes_tags = False
    before = dict(home.tags)
    with pytest.raises(DeletesDisabled, match="REGISTRY_STORAGE_DELETE_ENABLED=true"):
        kept_away(run)
    left = Quarantined.from_xcom(run.left("quarantine"))
    assert {tag: to for tag, to in home.tags.items() if not tag.startswith(SAFE)} == before
    assert (left.deleted, f":prod@{digest}" in left.kept) == ((), held)
    assert home.tags[left.backup.partition("/")[2]] == digest
    run.states = {"quarantine": "failed", "denied": "upstream_failed"}
    sentence = report_of(run).sentence
    assert f"; kept as {left.backup}" in sentence
    assert "; failed in quarantine: manifest " in sentence


@pytest.mark.parametrize("status", [400, 409, 412])
def test_registries_that_want_tags_gone_first(home: MemoryRegistry, status: int) -> None:
    """Some refuse a digest while a tag points at it: the tags go by their names, then the digest."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    home.fail("DELETE", f"/v2/{NAME}/manifests/{digest}", status, times=1)
    assert kept_away(run) == Quarantined(digest=digest, deleted=("v7", digest))
    assert (home.tags, home.manifests) == ({}, {})


def test_a_registry_that_never_lets_go_of_a_digest(home: MemoryRegistry) -> None:
    """The tag is removed, and the result says that the image still exists under its digest."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    home.fail("DELETE", f"/v2/{NAME}/manifests/{digest}", 409)
    kept = f"{home.registry.host}/{NAME}@{digest}"
    assert kept_away(run) == Quarantined(digest=digest, deleted=("v7",), kept=kept)


def test_a_tag_that_moves_while_it_is_removed_stays(home: MemoryRegistry) -> None:
    """The fixed image is pushed between the look and the deletion: by digest, only the blocked one goes."""
    run, digest = pushed(home, policy(backup=False, delete=True), "v7")
    with RegistryClient(home.registry) as client:
        fixed = push_platform(client, image_plan(DIGEST, "fixed"), seed="fixed")

    def move() -> None:
        home.tags[f"{NAME}:v7"] = fixed

    home.on("DELETE", f"/v2/{NAME}/manifests/{digest}", move)
    assert kept_away(run) == Quarantined(digest=digest, deleted=(digest,))
    assert home.tags[f"{NAME}:v7"] == fixed
