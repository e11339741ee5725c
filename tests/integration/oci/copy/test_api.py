"""Copies between real registries, and the state after a source lies."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    ProtocolViolation,
    RegistryError,
    RegistryUnreachable,
    TagConflict,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import CopyResult, copy_image, put_tag
from delivery_chain.oci.copy.limits import Limits
from delivery_chain.oci.manifest import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    build_index,
)
from delivery_chain.oci.referrers import attach, fallback_tag, list_referrers
from support.oci_images import noise, push_image, push_index

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.oci.copy.progress import Progress
    from support.oci_scripted import Script

pytestmark = pytest.mark.integration


def two_platforms(client: RegistryClient, name: str) -> Descriptor:
    amd64 = push_image(client, name, seed=1)
    arm64 = push_image(client, name, seed=2, platform="linux/arm64", sizes=(3000, 1_500_000))
    return push_index(client, name, (amd64, arm64))


def test_an_index_arrives_byte_for_byte(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Everything arrives under the same digests, without a tag; a second copy sends nothing."""
    index = two_platforms(oci_client, oci_repository)

    first = copy_image(oci_client, oci_repository, index.digest, oci_target, f"eu/{oci_repository}")
    second = copy_image(oci_client, oci_repository, index.digest, oci_target, f"eu/{oci_repository}")

    size = first.bytes
    assert size > 1_500_000
    assert first == CopyResult(index.digest, manifests=3, blobs=6, copied=6, mounted=0, skipped=0, bytes=size)
    assert second == CopyResult(index.digest, manifests=3, blobs=6, copied=0, mounted=0, skipped=6, bytes=0)
    there = oci_target.get_manifest(f"eu/{oci_repository}", index.digest)
    assert there == oci_client.get_manifest(oci_repository, index.digest)
    # docker-registry recognizes a repository by its tags.
    with pytest.raises(NotFound):
        oci_target.list_tags(f"eu/{oci_repository}")


def test_one_registry_mounts_and_sends_nothing(oci_client: RegistryClient, oci_repository: str) -> None:
    """Within a registry, a copy transfers no blob bytes."""
    index = two_platforms(oci_client, oci_repository)

    result = copy_image(oci_client, oci_repository, index.digest, oci_client, f"{oci_repository}/to")

    assert (result.mounted, result.copied, result.bytes) == (6, 0, 0)


def test_progress_goes_up_to_the_whole(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Counts never go down, and end at the totals."""
    index = two_platforms(oci_client, oci_repository)
    seen: list[Progress] = []
    to = f"eu/{oci_repository}"

    result = copy_image(oci_client, oci_repository, index.digest, oci_target, to, on_progress=seen.append)

    rows = [one.targets[0] for one in seen]
    assert rows == sorted(rows, key=lambda one: (one.bytes_done, one.blobs_done))
    last = rows[-1]
    assert (last.target, last.blobs_done, last.bytes_done) == (
        f"{oci_target.registry.host}/{to}",
        6,
        result.bytes,
    )
    assert (last.blobs_total, last.bytes_total, last.sent, last.seconds_left) == (
        6,
        result.bytes,
        result.bytes,
        0,
    )


def test_referrers_go_along(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Reports on the index, on a child, and on a report arrive and are listed at the target."""
    index = two_platforms(oci_client, oci_repository)
    child = oci_client.get_manifest(oci_repository, index.digest).children[1]
    report = attach(oci_client, oci_repository, index, "x/report", b"{}", "application/json", {"k": "v"})
    sbom = attach(oci_client, oci_repository, child, "x/sbom", b"[]", "application/json")
    signature = attach(oci_client, oci_repository, report, "x/signature", b"sig", "x/sig")
    to = f"eu/{oci_repository}"

    result = copy_image(oci_client, oci_repository, index.digest, oci_target, to)

    assert (result.manifests, result.referrers) == (6, 3)
    assert list_referrers(oci_target, to, index.digest) == (report,)
    assert list_referrers(oci_target, to, child.digest) == (sbom,)
    assert list_referrers(oci_target, to, report.digest) == (signature,)


def test_referrers_stay_where_nobody_asked_for_them(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """`referrers=False` copies only the image."""
    image = push_image(oci_client, oci_repository)
    attach(oci_client, oci_repository, image, "x/report", b"{}", "application/json")

    result = copy_image(
        oci_client, oci_repository, image.digest, oci_target, f"eu/{oci_repository}", referrers=False
    )

    assert (result.manifests, result.referrers) == (1, 0)


def test_entries_that_are_no_referrers_are_left_out(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """A fallback index may list deleted manifests, and manifests with other subjects: neither is a referrer."""
    image = push_image(oci_client, oci_repository)
    stranger = push_image(oci_client, oci_repository, seed=2)
    real = attach(oci_client, oci_repository, image, "x/report", b"{}", "application/json")
    gone = attach(oci_client, oci_repository, image, "x/report", b"old", "application/json")
    theirs = attach(oci_client, oci_repository, stranger, "x/report", b"{}", "application/json")
    entries = (plain(stranger), theirs, gone, real)
    oci_client.put_manifest(oci_repository, fallback_tag(image.digest), build_index(entries), OCI_INDEX)
    oci_client.delete_manifest(oci_repository, gone.digest)
    to = f"eu/{oci_repository}"

    result = copy_image(oci_client, oci_repository, image.digest, oci_target, to)

    assert (result.manifests, result.referrers) == (2, 1)
    assert list_referrers(oci_target, to, image.digest) == (real,)


def plain(entry: Descriptor) -> Descriptor:
    return Descriptor(entry.media_type, entry.digest, entry.size)


def test_other_tools_read_what_was_copied(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str, tmp_path: Path
) -> None:
    """skopeo reads every platform of a copied index, and computes the same digest."""
    index = two_platforms(oci_client, oci_repository)
    copy_image(oci_client, oci_repository, index.digest, oci_target, oci_repository)
    put_tag(oci_target, oci_repository, "v1", index.digest)

    subprocess.run(
        [
            "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
            f"docker://{oci_target.registry.host}/{oci_repository}:v1", f"dir:{tmp_path}/out",
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip

    assert sha256_digest((tmp_path / "out" / "manifest.json").read_bytes()) == index.digest


def test_a_missing_image_is_not_found(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Copying a missing image raises NotFound."""
    with pytest.raises(NotFound, match="manifest"):
        copy_image(oci_client, oci_repository, "sha256:" + "0" * 64, oci_target, oci_repository)


def scripted_image(script: Script, name: str, layer: bytes, **answer: object) -> str:
    """An image at the scripted registry with one layer, whose response is `answer`."""
    config = b'{"os":"linux","architecture":"amd64"}'
    parts = {
        "config": Descriptor(OCI_CONFIG, sha256_digest(config), len(config)).to_json(),
        "layers": [Descriptor("x/layer", sha256_digest(layer), len(layer)).to_json()],
    }
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, **parts}).encode()
    script.say_manifest(name, sha256_digest(raw), raw, OCI_MANIFEST)
    script.say_blob(name, sha256_digest(config), config)
    script.say("GET", f"/v2/{name}/blobs/{sha256_digest(layer)}", **({"body": layer} | answer))  # type: ignore[arg-type]
    return sha256_digest(raw)


LAYER = noise(5, 2_500_000)
LIES: dict[str, tuple[dict[str, object], type[RegistryError]]] = {
    "truncated": ({"cut": 2_000_000}, RegistryUnreachable),
    "shorter than announced": ({"body": LAYER[:-1]}, ContentMismatch),
    "longer": ({"body": LAYER + b"x"}, ContentMismatch),
    "other bytes": ({"body": noise(6, len(LAYER))}, ContentMismatch),
    "last byte wrong": ({"body": LAYER[:-1] + b"x"}, ContentMismatch),
    "not there": ({"status": 404, "body": b""}, NotFound),
    "chunked and cut": (
        {"body": b"5\r\nabc", "headers": {"Transfer-Encoding": "chunked"}, "cut": 6},
        RegistryUnreachable,
    ),
}


@pytest.mark.parametrize(("answer", "kind"), LIES.values(), ids=LIES)
def test_a_wrong_blob_is_never_committed(
    oci_script: Script,
    oci_target: RegistryClient,
    oci_repository: str,
    answer: dict[str, object],
    kind: type[RegistryError],
) -> None:
    """A blob that does not match its digest leaves neither blob nor manifest at the target, and a retry may work."""
    digest = scripted_image(oci_script, oci_repository, LAYER, **answer)

    with RegistryClient(oci_script.registry) as source, pytest.raises(RegistryError) as caught:
        copy_image(
            source, oci_repository, digest, oci_target, oci_repository, limits=Limits(first_wait=0.001)
        )

    assert type(caught.value) is kind
    assert oci_target.head_blob(oci_repository, sha256_digest(LAYER)) is None
    assert oci_target.head_manifest(oci_repository, digest) is None


def test_a_copy_goes_on_where_it_stopped(
    oci_script: Script, oci_target: RegistryClient, oci_repository: str
) -> None:
    """After a failed copy, the blobs that arrived are not sent again."""
    digest = scripted_image(oci_script, oci_repository, LAYER, status=404, times=1)
    oci_script.say("GET", f"/v2/{oci_repository}/blobs/{sha256_digest(LAYER)}", body=LAYER)

    with RegistryClient(oci_script.registry) as source:
        with pytest.raises(NotFound):
            copy_image(source, oci_repository, digest, oci_target, oci_repository)
        # The config may or may not have arrived: the copy ends at the first permanent failure.
        before = oci_target.head_blob(oci_repository, oci_target_config(source, oci_repository, digest))
        result = copy_image(source, oci_repository, digest, oci_target, oci_repository)

    assert (result.copied, result.skipped) == ((1, 1) if before is not None else (2, 0))
    assert result.resent == 0


def oci_target_config(source: RegistryClient, name: str, digest: str) -> str:
    manifest = source.get_manifest(name, digest)
    return next(blob.digest for blob in manifest.blobs if blob.media_type == OCI_CONFIG)


def test_a_target_that_loses_a_blob_fails_the_copy(
    oci_client: RegistryClient, oci_script: Script, oci_repository: str
) -> None:
    """The final check detects a target that accepts everything but keeps nothing."""
    image = push_image(oci_client, oci_repository, sizes=(10,))
    oci_script.say("POST", ".*", 202, headers={"Location": "/v2/upload?x=1"})
    oci_script.say("PUT", ".*", 201)

    with (
        RegistryClient(oci_script.registry) as target,
        pytest.raises(ContentMismatch, match="after the copy"),
    ):
        copy_image(oci_client, oci_repository, image.digest, target, "to")


def test_indexes_without_end_are_refused(oci_client: RegistryClient, oci_repository: str) -> None:
    """More than four nested indexes are rejected."""
    entry = push_image(oci_client, oci_repository)
    for _ in range(5):
        entry = push_index(oci_client, oci_repository, (plain(entry),))

    with pytest.raises(ProtocolViolation, match="at most 4 levels of nested indexes"):
        copy_image(oci_client, oci_repository, entry.digest, oci_client, f"{oci_repository}/to")


def test_sizes_that_disagree_are_refused(oci_client: RegistryClient, oci_repository: str) -> None:
    """An index that states a wrong size for a child is not copied."""
    image = push_image(oci_client, oci_repository)
    index = push_index(oci_client, oci_repository, (replace(image, size=image.size + 1),))

    with pytest.raises(ProtocolViolation, match=r"expected \d+ bytes for sha256:"):
        copy_image(oci_client, oci_repository, index.digest, oci_client, f"{oci_repository}/to")


def test_a_tag_moves_only_where_it_may(oci_client: RegistryClient, oci_repository: str) -> None:
    """`overwrite=False` sets a new tag, accepts an unchanged one, and refuses to move another."""
    first, second = (push_image(oci_client, oci_repository, seed=seed) for seed in (1, 2))
    for _ in range(2):
        put_tag(oci_client, oci_repository, "v1", first.digest, overwrite=False)

    with pytest.raises(TagConflict, match=f"TAG_CONFLICT.*{first.digest}"):
        put_tag(oci_client, oci_repository, "v1", second.digest, overwrite=False)
    put_tag(oci_client, oci_repository, "v2", second.digest)
    put_tag(oci_client, oci_repository, "v2", first.digest)

    tags = {tag: oci_client.get_manifest(oci_repository, tag).digest for tag in ("v1", "v2")}
    assert tags == {"v1": first.digest, "v2": first.digest}
