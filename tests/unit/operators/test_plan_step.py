from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.events.event import Kind
from delivery_chain.core.placeholder import deleted_tag_digest, stand_in
from delivery_chain.core.plan import Plan
from delivery_chain.core.spec.in_force import fingerprint
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.errors import DeliveryChainError, EventRefused, SourceUnreachable, UsageError
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import EMPTY_BLOB, OCI_MANIFEST
from delivery_chain.operators.plan import PlanOperator
from delivery_chain.tools.git import refs as git
from support.chain_steps import COMMIT, DAY, NAME, Run, build_plan, chain, image_plan, push_platform

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

OTHER = "b" * 40
DIGEST = "sha256:" + "9" * 64
PUSH = {
    "kind": "source_push",
    "ref": "refs/tags/v1.2",
    "commit": COMMIT,
    "pushed_at": "2026-05-20T12:00:00Z",
    "actor": "bob",
}
WIDE = chain(
    build={"rules": [{"name": "any", "tag": "(?<all>.*)", "tags": [{"tag": "${all}"}]}]},
)


@pytest.fixture
def refs(monkeypatch: pytest.MonkeyPatch, home: MemoryRegistry) -> dict[str, str]:
    """What the git source holds; the home registry is empty."""
    found = {"refs/tags/v1.2": COMMIT, "refs/heads/main": OTHER, "refs/tags/feature/x": OTHER}
    where = {"conn_type": "git", "host": "https://git.example.com/shop"}
    monkeypatch.setenv("AIRFLOW_CONN_GIT_SHOP", json.dumps(where))
    monkeypatch.setattr(git, "list_refs", lambda source, *, deadline: found)
    return found


def plan_of(conf: dict[str, Any], spec: ChainSpec | None = None) -> dict[str, Any]:
    spec = spec or chain()
    found: dict[str, Any] = Run(spec, conf=conf).do(PlanOperator(task_id="plan", spec=spec))
    return found


def test_a_push_becomes_a_plan(refs: dict[str, str]) -> None:
    """Everything that the run does is decided here, and the spec that it was decided from goes along."""
    found = plan_of(PUSH)
    assert found == {
        "plan": build_plan(actor="bob, says anna").to_xcom(),
        "spec": chain().to_xcom(),
        "number": 0,
        "fingerprint": fingerprint(chain()),
    }
    assert (Plan.from_xcom(found["plan"]), ChainSpec.from_xcom(found["spec"])) == (
        build_plan(actor="bob, says anna"),
        chain(),
    )


def test_a_person_is_the_actor(refs: dict[str, str]) -> None:
    """If the event names no actor, the run's triggering user is named; the run's time replaces that of the push."""
    found = Plan.from_xcom(plan_of({"ref": "v1.2"})["plan"])
    assert found == build_plan(actor="anna", kind=Kind.MANUAL)


def test_a_cleared_plan_is_made_anew_from_the_same_event(refs: dict[str, str]) -> None:
    """With the source as it was it is the same plan; what the ref points at now counts for a person's wish."""
    run = Run(chain(), conf={"ref": "v1.2"})
    step = PlanOperator(task_id="plan", spec=chain())
    first, second = run.do(step), run.do(step)
    refs["refs/tags/v1.2"] = OTHER
    third = run.do(step)
    assert (first == second, third["plan"]["build"]["commit"]) == (True, OTHER)


def test_a_push_that_was_overtaken_is_skipped(refs: dict[str, str]) -> None:
    """A late or cleared run of an old push builds nothing: the newer push has its own run."""
    refs["refs/tags/v1.2"] = OTHER
    with pytest.raises(AirflowSkipException, match="the newer push has its own run"):
        plan_of(PUSH)


@pytest.mark.parametrize(
    ("spec", "conf", "error", "message"),
    [
        (chain(), PUSH | {"ref": "refs/heads/main"}, EventRefused, "no build rule of chain 'shop' matches"),
        (chain(), PUSH | {"ref": "refs/tags/v1.2.3"}, EventRefused, "as a whole name (release: tag v("),
        (chain(), PUSH | {"ref": "refs/tags/v9.9"}, EventRefused, "'refs/tags/v9.9' does not exist"),
        (chain(), {"ref": "v9.9"}, EventRefused, "'refs/tags/v9.9' does not exist"),
        (WIDE, {"ref": "feature/x"}, EventRefused, "produces an invalid tag"),
        (chain(), {"rule": "release"}, EventRefused, "can't be built by its name alone"),
        (chain(), {"repository": "web", "tag": "v1"}, EventRefused, "not in the scope of chain 'shop'"),
        (chain(), {"tag": "_staging-0123456789ab"}, EventRefused, "a name reserved for the chain"),
        (chain(), {"ref": "--upload-pack=x"}, UsageError, "expected a git ref"),
        (chain(), {"ref": "v1.2", "digets": "x"}, UsageError, "digets: Extra inputs are not permitted"),
        (chain(), {}, EventRefused, "name a `rule` or a `ref` to build"),
    ],
)
def test_an_event_that_makes_no_run_is_refused(
    refs: dict[str, str], spec: ChainSpec, conf: dict[str, Any], error: type[DeliveryChainError], message: str
) -> None:
    """The task fails at its first try, with the reason."""
    with pytest.raises(error) as caught:
        plan_of(conf, spec)
    assert (type(caught.value), caught.value.retryable) == (error, False)
    assert message in str(caught.value)


def test_a_source_that_is_away_is_asked_again(refs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no reason to refuse the event."""

    def away(source: object, *, deadline: float) -> dict[str, str]:
        raise SourceUnreachable("git.example.com does not answer", tool="git")

    monkeypatch.setattr(git, "list_refs", away)
    with pytest.raises(SourceUnreachable) as caught:
        plan_of(PUSH)
    assert caught.value.retryable


def image(home: MemoryRegistry) -> str:
    with RegistryClient(home.registry) as client:
        return push_platform(client, image_plan(DIGEST, "v7"))


def test_an_image_is_pinned_to_its_digest(home: MemoryRegistry) -> None:
    """The tag is read once, here; everything later goes by digest."""
    digest = image(home)
    found = Plan.from_xcom(plan_of({"kind": "image_push", "repository": "api", "tag": "v7"})["plan"])
    assert found == image_plan(digest, "v7", actor="anna")


def test_an_image_by_digest_has_no_tag(home: MemoryRegistry) -> None:
    """A person may judge an image that has no tag, or whose tag does not matter."""
    digest = image(home)
    found = Plan.from_xcom(plan_of({"digest": digest})["plan"])
    assert found == image_plan(digest, actor="anna", kind=Kind.MANUAL)


@pytest.mark.parametrize(
    ("conf", "error", "message"),
    [
        ({"tag": "v8"}, EventRefused, "tag 'v8' does not exist"),
        ({"digest": DIGEST}, EventRefused, f"tag {DIGEST!r} does not exist"),
        ({"tag": "v7", "digest": DIGEST}, AirflowSkipException, "tag 'v7' moved on from sha256:999999999999"),
    ],
)
def test_an_image_that_is_gone_or_was_overtaken(
    home: MemoryRegistry, conf: dict[str, str], error: type[Exception], message: str
) -> None:
    """Neither is built or judged; a newer push of the tag has its own run."""
    image(home)
    with pytest.raises(error) as caught:
        plan_of({"kind": "image_push", "repository": "api", **conf})
    assert message in str(caught.value)


def test_a_plan_names_no_secret(monkeypatch: pytest.MonkeyPatch, refs: dict[str, str]) -> None:
    """The connection's password is in no XCom."""
    where = {
        "conn_type": "git",
        "host": "https://git.example.com/shop",
        "login": "bot",
        "password": "hunter2",
    }
    monkeypatch.setenv("AIRFLOW_CONN_GIT_SHOP", json.dumps(where))
    assert "hunter2" not in json.dumps(plan_of(PUSH))


def test_what_steps_read_is_what_plan_left(refs: dict[str, str]) -> None:
    """An edit of the spec changes no run that is on its way."""
    run = Run(chain(), conf=PUSH)
    run.do(PlanOperator(task_id="plan", spec=chain(description="old")))
    assert run.left("plan")["spec"]["description"] == "old"
    assert run.left("plan")["plan"]["pushed_at"] == DAY.isoformat().replace("+00:00", "Z")
    assert run.left("plan")["plan"]["namespace"] + "/" + run.left("plan")["plan"]["repository"] == NAME


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2026-05-20T11:00:00Z", datetime(2026, 5, 20, 11, tzinfo=UTC)),
        ("2026-05-20T11:00:00", datetime(2026, 5, 20, 11, tzinfo=UTC)),
        ("2026-05-20T11:00:00+08:00", datetime(2026, 5, 20, 3, tzinfo=UTC)),
        ("1970-01-02T00:00:00Z", datetime(1970, 1, 2, tzinfo=UTC)),
        ("2999-01-01T00:00:00Z", DAY),
        ("9999-12-31T23:59:59-14:00", DAY),
        (2 * 10**10, DAY),
    ],
)
def test_a_push_of_the_future_is_of_now(refs: dict[str, str], said: Any, expected: datetime) -> None:
    """Whoever starts a run can't make its image newer than every later push."""
    spec = chain(
        build={"rules": [{"name": "release", "tag": "v.*", "tags": [{"tag": "v", "build_time": "minute"}]}]}
    )
    found = Plan.from_xcom(plan_of({"ref": "v1.2", "pushed_at": said}, spec)["plan"])
    assert found.pushed_at == expected


@pytest.mark.parametrize(
    "said", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "garbage", "2026-13-01", -1, 10**30, [], {}]
)
@pytest.mark.parametrize("field", ["pushed_at", "seen_at"])
def test_a_time_that_no_push_has(refs: dict[str, str], field: str, said: Any) -> None:
    """It is refused by its field's name, and never by a traceback from inside."""
    with pytest.raises(UsageError, match=f"not a valid event:\n{field}: "):
        plan_of({"ref": "v1.2", field: said})


def test_a_run_that_was_asked_to_wait_is_of_no_later_time(refs: dict[str, str]) -> None:
    """Who may start a run may choose `run_after`, too; a retry of the plan sees the same time."""
    run = Run(chain(), conf={"ref": "v1.2"})
    step = PlanOperator(task_id="plan", spec=chain())
    context = run.context("plan")
    context["dag_run"].run_after = datetime(2999, 1, 1, tzinfo=UTC)
    began = datetime.now(UTC)
    assert began <= Plan.from_xcom(step.execute(context)["plan"]).pushed_at <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("conf", "there"),
    [
        ({"tag": "v7"}, True),
        ({"tag": "v7", "digest": deleted_tag_digest("v7")}, True),
        ({"tag": "v7", "digest": deleted_tag_digest("v7")}, False),
        ({"tag": "v7", "digest": deleted_tag_digest("v6")}, True),
    ],
)
def test_the_chains_own_deletion_is_skipped(
    home: MemoryRegistry, conf: dict[str, str], *, there: bool
) -> None:
    """Its mark comes back as an event: the run is skipped with the reason, also where the mark is gone by now."""
    image(home)
    if there:
        with RegistryClient(home.registry) as client:
            client.put_blob_bytes(NAME, EMPTY_BLOB)
            for tag in ("v6", "v7"):
                client.put_manifest(NAME, tag, stand_in(tag), OCI_MANIFEST)
    else:
        home.tags.clear()
    with pytest.raises(AirflowSkipException, match="placeholder with which a chain deletes a tag"):
        plan_of({"kind": "image_push", "repository": "api", **conf})
