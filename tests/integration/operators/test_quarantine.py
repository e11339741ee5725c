"""The run of a blocked image reports exactly what a real registry then contains, in every combination."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.results import Image, Quarantined, Subject
from delivery_chain.errors import DeletesDisabled, PolicyViolation
from delivery_chain.oci.copy.api import put_tag
from delivery_chain.oci.manifest import OCI_MANIFEST
from delivery_chain.operators.quarantine import DeniedOperator, QuarantineOperator
from support.chain_steps import Run, build_plan, built, chain, image_plan, push_platform, report_of, verdict
from support.oci_images import push_image, push_index

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan
    from delivery_chain.oci.client import RegistryClient

pytestmark = pytest.mark.integration
DIGEST = "sha256:" + "9" * 64
BLOCKED = "blocked: 1 finding at or above high (limit 1)"
HOLDERS = ("", "prod", "v2", "v2 nested")


def policy(namespace: str, *, backup: bool, delete: bool) -> Any:
    scope = {"instance": "home", "namespace": namespace, "repositories": ["api"]}
    block = {"severity": "high", "on_block": {"backup": backup, "delete": delete}}
    return chain(scope=scope, scan={"block": block})


@dataclass(frozen=True, slots=True)
class Case:
    """A blocked image in a namespace of its own."""

    run: Run
    plan: Plan
    digest: str


def blocked(home: RegistryClient, spec: Any, *, build: bool, tags: tuple[str, ...] = ("v7",)) -> Case:
    namespace = spec.scope.namespace
    if build:
        plan = build_plan(namespace=namespace)
        run, subject = built(home.registry, spec, plan, seed=namespace)
        digest = subject.digest
    else:
        digest = push_platform(home, image_plan(DIGEST, tags[0] if tags else "d1", namespace=namespace))
        plan = image_plan(digest, *tags, namespace=namespace)
        run = Run(spec, plan)
        image = Image(digest=digest, platform="linux/amd64")
        run.leave("assemble", Subject(digest=digest, media_type=OCI_MANIFEST, size=1, images=(image,)))
    run.leave("gate", verdict(digest, passed=False))
    return Case(run, plan, digest)


def hold(home: RegistryClient, name: str, digest: str, how: str) -> str:
    """Point another tag at a digest; return what that tag points at."""
    if not how:
        return ""
    tag, _, nested = how.partition(" ")
    held = digest
    if tag == "v2":
        arm = push_image(home, name, seed=7, platform="linux/arm64")
        held = push_index(home, name, (home.get_manifest(name, digest).descriptor(), arm)).digest
    if nested:
        held = push_index(home, name, (home.get_manifest(name, held).descriptor(),)).digest
    put_tag(home, name, tag, held)
    return held


def tags_of(home: RegistryClient, name: str) -> dict[str, str]:
    """Every tag that can be pulled, and its target."""
    found = {tag: home.head_digest(name, tag) for tag in home.list_tags(name)}
    return {tag: digest for tag, digest in found.items() if digest}


@pytest.mark.parametrize(
    ("deletes", "build", "backup", "delete", "holder"),
    [*product((True, False), (True, False), (True, False), (True, False), HOLDERS)],
)
def test_what_is_said_is_so(
    home: RegistryClient,
    caplog: pytest.LogCaptureFixture,
    *,
    deletes: bool,
    build: bool,
    backup: bool,
    delete: bool,
    holder: str,
) -> None:
    """Result, log, outcome and registry agree on the backup, the removed tags, and all that still serves the image."""
    namespace, host = f"t-{token_hex(4)}", home.registry.host
    spec = policy(namespace, backup=backup, delete=delete)
    case = blocked(home, spec, build=build)
    name, own = case.plan.name, (case.plan.staging() if build else "v7")
    other = holder.partition(" ")[0]
    held = hold(home, name, case.digest, holder)
    before = tags_of(home, name)
    step = QuarantineOperator(task_id="quarantine")
    if deletes or not delete:
        found = Quarantined.from_xcom(case.run.do(step))
    else:
        with pytest.raises(DeletesDisabled, match="REGISTRY_STORAGE_DELETE_ENABLED=true") as caught:
            case.run.do(step)
        assert not caught.value.retryable
        found = Quarantined.from_xcom(case.run.left("quarantine"))

    removed = delete and deletes
    whole = removed and not holder
    safe = f"{namespace}-quarantine/api"
    own_tags = [tag for tag in before if tag.startswith("_staging-")] if build else ["v7"]
    serving = [] if removed else [f"{host}/{name}:{own}@{case.digest}"]
    if other:
        note = "" if held == case.digest else " (an index that contains it)"
        serving.append(f"{host}/{name}:{other}@{held}{note}")
    tag = next(iter(tags_of(home, safe)), "") if backup else ""
    deleted = (*(sorted(own_tags, reverse=True) if removed else ()), *((case.digest,) if whole else ()))
    assert found == Quarantined(
        digest=case.digest,
        backup=f"{host}/{safe}:{tag}" if backup else "",
        deleted=deleted,
        kept=", ".join(sorted(serving)),
    )
    assert (home.head_digest(name, case.digest) is None) == whole
    gone = set(own_tags) if removed else set()
    assert tags_of(home, name) == {key: to for key, to in before.items() if key not in gone}
    if held:
        assert home.get_manifest(name, other).digest == held
    if backup:
        assert home.head_digest(safe, tag) == case.digest
    # The wording: the log's is that of `denied`, and of the run's note.
    with pytest.raises(PolicyViolation) as refused:
        case.run.do(DeniedOperator(task_id="denied"))
    text = str(refused.value)
    assert ("published nothing" in text) == build
    assert ("existed, and could be pulled, before it was judged" in text) == (not build)
    said = [*serving, *([found.backup] if backup else ()), *deleted]
    assert [one for one in said if one not in text] == []
    assert ("can no longer be pulled from there" in text) == (not serving)
    case.run.states = {"quarantine": "failed"} if delete and not deletes else {}
    sentence = report_of(case.run).sentence
    assert sentence.startswith(BLOCKED)
    assert (f"; kept as {found.backup}" in sentence) == bool(backup)
    assert tags_of(home, name) == {key: to for key, to in before.items() if key not in gone}


@pytest.mark.parametrize("deletes", [True])
def test_a_run_about_a_digest_names_the_tags_that_serve_it(home: RegistryClient, deletes: bool) -> None:  # noqa: FBT001
    """The run has no tag of its own and removes none: the tags of others stay."""
    spec = policy(f"t-{token_hex(4)}", backup=False, delete=True)
    case = blocked(home, spec, build=False, tags=())
    host, name = home.registry.host, case.plan.name
    put_tag(home, name, "d2", case.digest)
    found = Quarantined.from_xcom(case.run.do(QuarantineOperator(task_id="quarantine")))
    kept = ", ".join(f"{host}/{name}:{tag}@{case.digest}" for tag in ("d1", "d2"))
    assert found == Quarantined(digest=case.digest, kept=kept)
    assert tags_of(home, name) == {"d1": case.digest, "d2": case.digest}


@pytest.mark.parametrize("deletes", [True])
def test_platforms_of_a_removed_index_are_named(home: RegistryClient, deletes: bool) -> None:  # noqa: FBT001
    """The index is removed; a platform with a tag of its own can still be pulled, and is named."""
    namespace = f"t-{token_hex(4)}"
    spec, name = policy(namespace, backup=False, delete=True), f"{namespace}/api"
    parts = [
        push_image(home, name, seed=at, platform=f"linux/{arch}")
        for at, arch in enumerate(("amd64", "arm64"))
    ]
    index = push_index(home, name, tuple(parts))
    put_tag(home, name, "v2", index.digest)
    put_tag(home, name, "v2-amd64", parts[0].digest)
    plan = image_plan(index.digest, "v2", namespace=namespace)
    run = Run(spec, plan)
    images = tuple(Image(digest=one.digest, platform=one.platform_name) for one in parts)
    run.leave("assemble", Subject(digest=index.digest, media_type=index.media_type, size=1, images=images))
    run.leave("gate", verdict(index.digest, passed=False))
    found = Quarantined.from_xcom(run.do(QuarantineOperator(task_id="quarantine")))
    named = f"{home.registry.host}/{name}:v2-amd64@{parts[0].digest} (a platform of it)"
    assert found == Quarantined(digest=index.digest, deleted=("v2", index.digest), kept=named)
    assert tags_of(home, name) == {"v2-amd64": parts[0].digest}
