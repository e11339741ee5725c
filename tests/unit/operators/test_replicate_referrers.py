"""Referrers of an image are copied with it, except images, which no gate has judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import parse_descriptor
from delivery_chain.oci.referrers import fallback_tag, link
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.replicate import ReplicateOperator
from support.chain_steps import NAME, build_plan, chain, judged
from support.image_trees import Entry, Forest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.oci_memory import MemoryRegistry

SPEC = chain(replicate=[{"name": "to-west", "to": "west"}])
About = dict[str, Entry]


def refer(home: MemoryRegistry, digest: str, make: Callable[[Forest, About], Entry]) -> str:
    """Push a referrer of the image as anybody may who pushes; gives its digest."""
    forest = Forest()
    with RegistryClient(home.registry) as client:
        about = client.get_manifest(NAME, digest)
        subject = {"mediaType": about.media_type, "digest": digest, "size": len(about.raw)}
        entry = make(forest, {"subject": subject})
        forest.upload(client, NAME)
        link(client, NAME, digest, parse_descriptor(entry, "entry"))
    return entry["digest"]


def replicated(
    home: MemoryRegistry, west: MemoryRegistry, *makes: Callable[[Forest, About], Entry]
) -> list[str]:
    """The referrers of an image that went to west."""
    run, digest = judged(home.registry, SPEC, build_plan())
    run.do(PublishOperator(task_id="publish"))
    referrers = [refer(home, digest, make) for make in makes]
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    assert west.user_tags(NAME) == {"v1.2": digest, "latest": digest}
    return referrers


def inner(forest: Forest, about: About) -> Entry:
    return forest.index(forest.index(forest.image({"a": "deep"})), **about)


BAD: dict[str, Callable[[Forest, About], Entry]] = {
    "an image": lambda forest, about: forest.image({"bad": "1"}, **about),
    "a Docker image": lambda forest, about: forest.image({"bad": "1"}, docker=True, **about),
    "an image that says artifact": lambda forest, about: forest.image(
        {"bad": "1"}, config_type="application/x-sbom", artifactType="application/x-sbom", **about
    ),
    "an index": lambda forest, about: forest.index(forest.image({"bad": "1"}), **about),
    "an index in an index": inner,
    "a signature of archives": lambda forest, about: forest.signature(forest.image(), b"\x1f\x8b", **about),
    "a child of an unknown type": lambda forest, about: forest.index(
        forest.image({"bad": "1"}) | {"mediaType": "application/x-foo"}, **about
    ),
}
GOOD: dict[str, Callable[[Forest, About], Entry]] = {
    "a file": lambda forest, about: forest.files(**about),
    "a chart": lambda forest, about: forest.chart(**about),
    "a signature": lambda forest, about: forest.signature(about["subject"], **about),
    "an index of artifacts": lambda forest, about: forest.index(forest.files(), **about),
}


@pytest.mark.parametrize("case", BAD)
def test_a_referrer_that_is_or_holds_an_image_stays_behind(
    home: MemoryRegistry, west: MemoryRegistry, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """The image itself goes its way, and the log names what did not."""
    bad, good = replicated(home, west, BAD[case], GOOD["a file"])
    assert {f"{NAME}@{bad}", f"{NAME}@{good}"} & set(west.manifests) == {f"{NAME}@{good}"}
    assert not any(b'"bad"' in content for content in west.blobs.values())
    assert f"referrer {bad} of {NAME} left behind: " in capsys.readouterr().out


@pytest.mark.parametrize("case", GOOD)
def test_a_referrer_that_is_proven_to_be_no_image_goes_along(
    home: MemoryRegistry, west: MemoryRegistry, case: str
) -> None:
    """Reports, SBOMs, signatures."""
    (good,) = replicated(home, west, GOOD[case])
    assert f"{NAME}@{good}" in west.manifests


def test_a_referrer_of_a_referrer_is_looked_at_too(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """An image that is about the report of an image is an image all the same."""
    run, digest = judged(home.registry, SPEC, build_plan())
    run.do(PublishOperator(task_id="publish"))
    good = refer(home, digest, GOOD["a file"])
    bad = refer(home, good, BAD["an image"])
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    assert {f"{NAME}@{good}", f"{NAME}@{bad}"} & set(west.manifests) == {f"{NAME}@{good}"}


def too_many(home: MemoryRegistry, digest: str) -> None:
    """A chain of referrers that is longer than any real one."""
    for number in range(8):
        digest = refer(
            home, digest, lambda forest, about, n=number: forest.files(annotations={"n": str(n)}, **about)
        )


def no_list(home: MemoryRegistry, digest: str) -> None:
    """Something else under the tag where the list belongs."""
    with RegistryClient(home.registry) as client:
        raw = client.get_manifest(NAME, digest)
        client.put_manifest(NAME, fallback_tag(digest), raw.raw, raw.media_type)


def lost_blob(home: MemoryRegistry, digest: str) -> None:
    """A referrer without its content."""
    refer(home, digest, GOOD["a file"])
    for key in [key for key, content in home.blobs.items() if content == b"some file\n"]:
        del home.blobs[key]


@pytest.mark.parametrize("harm", [too_many, no_list, lost_blob])
def test_nothing_that_refers_to_an_image_fails_it(
    home: MemoryRegistry, west: MemoryRegistry, harm: Callable[[MemoryRegistry, str], None]
) -> None:
    """Whoever may push referrers can't keep an image that was passed from its regions."""
    run, digest = judged(home.registry, SPEC, build_plan())
    run.do(PublishOperator(task_id="publish"))
    harm(home, digest)
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    assert west.user_tags(NAME) == {"v1.2": digest, "latest": digest}
