from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events.dedupe import AGAIN, LATE, LOST
from delivery_chain.core.events.gaps import Wanted, Watch, changes, for_reader, settled, span
from delivery_chain.core.events.ledger import OWN_WRITES, Entry, LedgerLine, Looked, Seen, StartResult, join
from delivery_chain.core.events.watch_dags import images_dag_id, source_dag_id, watches
from delivery_chain.core.spec.model import Source

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AGO = timedelta(minutes=30)
A, B = "a" * 40, "b" * 40
PLACE = "delivery-chain-source--git--shop-api-000000"
REF = "refs/tags/v1.0.0"
HOOK = "webhook gh"
MADE = StartResult(chain="shop-api", rule="release", run_id="run-1", made=True)
FOUND = MADE.model_copy(update={"made": False})


def seen(by: str, ago: timedelta = AGO, outcome: StartResult | None = MADE, **given: Any) -> Seen:
    whole = {"ref": REF, "commit": A, "at": NOW - ago, "by": by, "outcomes": (outcome,) if outcome else ()}
    return Seen(PLACE, (Looked if by == "sensor" else Entry).model_validate(whole | given))


def watch(**given: Any) -> Watch:
    return Watch(**{"title": "source git shop/api.git", "senders": ("gh",)} | given)


def gaps(*found: Seen, **about: Any) -> list[tuple[str, ...]]:
    """The gaps of each change, the newest first."""
    return [change.gaps for change in changes(join(found), {PLACE: watch(**about)}, NOW)]


def test_seen_by_both_is_no_gap() -> None:
    """A webhook, then the sensor: all is well, even if the sensor's Dag is paused since."""
    assert gaps(seen(HOOK), seen("sensor", AGO - timedelta(seconds=4), FOUND), paused=True) == [()]


@pytest.mark.parametrize(
    ("since", "told"),
    [
        (None, "no webhook reported it: the sensor found it"),
        (timedelta(seconds=31), "no webhook reported it: the sensor found it, up to 31 s after the push"),
        (timedelta(hours=1), "no webhook reported it: the sensor found it, up to 1 h after the push"),
    ],
)
def test_no_webhook(since: timedelta | None, told: str) -> None:
    """A sender speaks for the source, and the sensor alone saw it: when it looked before says how late it was."""
    looked = NOW - AGO - since if since else None
    assert gaps(seen("sensor", since=looked)) == [(told,)]


@pytest.mark.parametrize(
    ("found", "about"),
    [
        ([seen("sensor")], {"senders": ()}),
        ([seen("sensor")], {"begun": NOW - AGO + timedelta(seconds=1)}),
        ([seen("sensor", since=NOW - 2 * AGO)], {"begun": NOW - AGO - timedelta(seconds=1)}),
        ([seen("sensor", timedelta(seconds=50))], {}),
        ([seen("sensor", outcome=None)], {}),
        ([seen("sensor", outcome=FOUND)], {}),
    ],
    ids=[
        "no sender",
        "before the sender",
        "perhaps before it",
        "a webhook may still come",
        "no chain takes it",
        "somebody else made the run",
    ],
)
def test_no_webhook_was_due(found: list[Seen], about: dict[str, Any]) -> None:
    """The sensor alone is enough if no webhook could have reported the change, or one did."""
    assert gaps(*found, **about) == [()]


def test_other_changes_came_by_webhook() -> None:
    """A sender whose connection can't be listed counts from its earlier webhooks."""
    found = gaps(
        seen("sensor"),
        seen(HOOK, 2 * AGO, outcome=None, ref="refs/heads/main"),
        seen("sensor", 3 * AGO, ref="refs/heads/old"),
        senders=(),
    )
    assert found == [("no webhook reported it: the sensor found it",), (), ()]


def test_what_a_sender_said_under_an_earlier_connection_counts_no_more() -> None:
    """A connection that was created again counts from then on."""
    found = gaps(seen("sensor"), seen(HOOK, 2 * AGO, outcome=None), begun=NOW - AGO / 2)
    assert found[0] == ()


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"paused": True}, "the sensor has not seen it: its Dag is paused"),
        ({"failed": True}, "the sensor has not seen it: its last run failed"),
        ({}, "the sensor has not seen it for 30 min"),
        ({"looked": NOW - 2 * AGO, "refs": {REF: B}}, "the sensor has not seen it for 30 min"),
        (
            {"looked": NOW, "refs": {REF: B}},
            "the sensor has not seen it: it polled since, and saw it at bbbbbbbbbbbb",
        ),
        ({"looked": NOW}, "the sensor has not seen it: it polled since, and saw no such ref"),
    ],
)
def test_the_sensor_has_not_seen_it(about: dict[str, Any], told: str) -> None:
    """A webhook told it, and the sensor should know by now: why it does not, as far as that is known."""
    assert gaps(seen(HOOK), **about) == [(told,)]


@pytest.mark.parametrize(
    ("found", "about"),
    [
        ([seen(HOOK)], {"looked": NOW - 2 * AGO, "refs": {REF: A}}),
        ([seen(HOOK, timedelta(seconds=100))], {}),
        ([seen(HOOK)], {"poll": timedelta(minutes=20)}),
        ([seen(HOOK, outcome=None)], {"paused": True}),
        ([seen(HOOK, outcome=FOUND, why=AGAIN)], {"paused": True}),
        ([seen(HOOK, why=LATE)], {"looked": NOW, "refs": {REF: B}}),
    ],
    ids=["there already", "three looks", "slow polls", "no chain takes it", "a redelivery", "late"],
)
def test_the_sensor_may_be_right(found: list[Seen], about: dict[str, Any]) -> None:
    """It knows the ref to be there, or has had no time, or the webhook tells of no new place."""
    assert gaps(*found, **about) == [()]


def test_only_the_newest_change_of_a_ref_can_be_seen() -> None:
    """A look sees where a ref is, not where it has been."""
    other = MADE.model_copy(update={"run_id": "run-2"})
    found = gaps(
        seen(HOOK, 2 * AGO), seen(HOOK, AGO, other, commit=B), looked=NOW - 3 * AGO, refs={}, paused=True
    )
    assert found == [("the sensor has not seen it: its Dag is paused",), ()]


def test_no_sensor_no_gap() -> None:
    """No sensor watches the images that a chain itself builds."""
    (change,) = changes(join([seen(HOOK)]), {}, NOW)
    assert change.gaps == ()


def test_a_lost_webhook_is_named_once() -> None:
    """A move from where nobody had seen the ref; the reason is the gap's alone."""
    found = [seen(HOOK, why=LOST), seen("sensor", outcome=FOUND)]
    (change,) = changes(join(found), {PLACE: watch()}, NOW)
    assert (change.gaps, change.why) == (("a webhook was lost: earlier moves were not reported",), "")


@pytest.mark.parametrize("why", sorted(OWN_WRITES))
def test_own_writes_are_left_out_unless_asked_for(why: str) -> None:
    """What a chain wrote into a registry nobody pushed; what makes a run is shown whatever is said of it."""
    own = change(ref="shop/api:x", outcomes=(), why=why)
    made = change(ref="shop/api:x", why=why)
    found = [[Wanted(own=asked).takes(one, watch()) for one in (own, made)] for asked in (False, True)]
    assert found == [[False, True], [True, True]]


def change(**given: Any) -> LedgerLine:
    whole = {"place": PLACE, "ref": REF, "commit": A, "at": NOW, "last": NOW, "by": HOOK, "outcomes": (MADE,)}
    return LedgerLine.model_validate(whole | given)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"source": "Shop/API"}, True),
        ({"source": "git--shop-api"}, True),
        ({"source": "other"}, False),
        ({"chain": "shop-api"}, True),
        ({"chain": "shop"}, False),
        ({"ref": "v1.0.0"}, True),
        ({"ref": REF}, True),
        ({"ref": "v1.*"}, True),
        ({"ref": "v2.*"}, False),
        ({"gaps": True}, False),
    ],
)
def test_what_is_wanted(wanted: dict[str, Any], *, expected: bool) -> None:
    """By part of the source, whole chain, ref with or without its prefix or by pattern, and gaps."""
    assert Wanted(**wanted).takes(change(), watch()) is expected


def test_an_image_is_wanted_by_its_repository() -> None:
    """And what no chain takes by what its reason says of its source."""
    image = change(
        ref="shop/api:v1", place="", outcomes=(), why="no chain builds shop/x from a source of git"
    )
    assert [Wanted(ref=ref).takes(image, None) for ref in ("shop/api", "shop/api:v1", "api")] == [
        True,
        True,
        False,
    ]
    assert [Wanted(source=source).takes(image, None) for source in ("shop/x", "shop/y")] == [True, False]


def test_a_reader_sees_no_other_chain() -> None:
    """The runs of chains that one may not read are left out, and that is said."""
    secret = StartResult(chain="secret", run_id="run-9", made=True)
    both = change(outcomes=(MADE, secret))
    assert for_reader(both, {"shop-api", "secret"}) is both
    assert for_reader(both, {"shop-api"}) == change(why="chains that you may not see took it, too")
    assert for_reader(both, ()) == change(outcomes=(), why="chains that you may not see took it")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (3600, "1 h"), (3725, "1 h 2 min"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_a_length_of_time(seconds: float, text: str) -> None:
    """At most two units."""
    assert span(timedelta(seconds=seconds)) == text


names = st.from_regex(r"[a-z][a-z0-9_.]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)


@given(names, names, st.sampled_from(["", "shop/api.git", "https://git.example.com/shop/api.git"]))
def test_a_dag_tells_its_connection(connection: str, other: str, url: str) -> None:
    """The sources and namespaces of a connection are found by it, and those of another one are not."""
    dags = [images_dag_id(connection, "shop")]
    if url or connection:
        dags.append(source_dag_id(Source(connection=connection, url=url)))
    assert [watches(dag, connection) for dag in dags] == [True] * len(dags)
    if other != connection:
        assert [watches(dag, other) for dag in dags] == [False] * len(dags)


def test_a_chain_is_no_watch() -> None:
    """A Dag that is no sensor's watches nothing."""
    assert not watches("git--shop-api-000000", "git")


@pytest.mark.parametrize(
    ("notes", "gaps"),
    [
        (["superseded: so"], ("no webhook reported it",)),
        (["built before: so", "superseded: so"], ("no webhook reported it",)),
        (["superseded: so", "delivered: so"], ("no webhook reported it", "the sensor has not seen it: so")),
        ([""], ("no webhook reported it", "the sensor has not seen it: so")),
        ([], ("no webhook reported it", "the sensor has not seen it: so")),
    ],
)
def test_an_old_push_told_again_was_not_missed(notes: list[str], gaps: tuple[str, ...]) -> None:
    """All its runs found that the ref moved on, or its image there: the sensor need not see it; other gaps stay."""
    runs = [
        {"chain": "c", "run_id": str(number), "state": "success", "note": n} for number, n in enumerate(notes)
    ]
    given = {
        "place": PLACE, "ref": REF, "commit": A, "at": NOW, "last": NOW, "by": HOOK, "runs": runs,
        "gaps": ["no webhook reported it", "the sensor has not seen it: so"],
    }  # fmt: skip
    assert settled(LedgerLine.model_validate(given)).gaps == gaps
