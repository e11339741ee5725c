from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.errors import RegistryBusy, RegistryUnreachable, Unauthorized
from delivery_chain.triggers import image_tag
from delivery_chain.triggers.image_tag import ImageTagTrigger
from support.scripted_looks import Scripted, fired

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
V1, V2 = "shop/api:v1", "shop/api:v2"
DOWN = RegistryUnreachable("down")


@pytest.fixture
def fire(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, list[float]]]:
    """Run a trigger over scripted looks that begin at T1, T2, …; gives its event and the pauses between."""

    def run(
        known: dict[str, str] | None, *looks: Scripted, since: str | None = None
    ) -> tuple[Any, list[float]]:
        trigger = ImageTagTrigger("home", ["shop/api"], known=known, poll_seconds=7, since=since)
        return fired(monkeypatch, image_tag, trigger, *looks)

    return run


def test_it_comes_back_from_its_serialisation() -> None:
    """Airflow makes the trigger again from path and arguments, which are plain JSON."""
    trigger = ImageTagTrigger(
        "home",
        ("shop/api", "shop/web"),
        namespaces=("infra",),
        exclude=("infra/old",),
        tags="v.*",
        known={V1: A},
        poll_seconds=7,
        since="T0",
    )
    path, arguments = trigger.serialize()
    assert (path, arguments) == (
        "delivery_chain.triggers.image_tag.ImageTagTrigger",
        {
            "connection": "home",
            "repositories": ["shop/api", "shop/web"],
            "namespaces": ["infra"],
            "exclude": ["infra/old"],
            "tags": "v.*",
            "known": {V1: A},
            "poll_seconds": 7,
            "since": "T0",
            "told": None,
        },
    )
    assert ImageTagTrigger(**arguments).serialize() == (path, arguments)


def test_it_waits_for_a_difference(fire: Callable[..., tuple[Any, list[float]]]) -> None:
    """Equal looks make no event; the first other one does, once, and says when the last equal one began."""
    assert fire({V1: A}, {V1: A}, {V1: A}, {V1: B, V2: A}, since="T0") == (
        {
            "refs": [
                {"name": "shop/api", "tag": "v1", "digest": B, "previous": A},
                {"name": "shop/api", "tag": "v2", "digest": A, "previous": None},
            ],
            "gone": [],
            "seen": {V1: B, V2: A},
            "looked": "T3",
            "since": "T2",
        },
        [7, 7],
    )


@pytest.mark.parametrize(
    ("known", "looks", "since", "expected"),
    [
        ({V1: A}, [{V1: B}], "T0", "T0"),
        ({V1: A}, [{V1: B}], None, None),
        (None, [{V1: B}], "T0", "T0"),
        (None, [{}], None, "T1"),
        ({V1: A}, [{V1: A}, DOWN, DOWN, {V1: B}], "T0", "T1"),
        ({V1: A}, [DOWN, {V1: A}, {V1: B}], "T0", "T2"),
        ({V1: A, V2: A}, [{V1: A, V2: A}, {V1: A}], "T0", "T2"),
        ({V1: A, V2: A}, [{V1: A, V2: A}, {V1: B}], "T0", "T1"),
    ],
    ids=["at once", "unknown", "no baseline", "empty", "down", "down first", "only gone", "gone and moved"],
)
def test_since_is_when_the_last_look_that_found_nothing_new_began(
    fire: Callable[..., tuple[Any, list[float]]],
    known: dict[str, str] | None,
    looks: list[Scripted],
    since: str | None,
    expected: str | None,
) -> None:
    """Looks that failed saw nothing; before the first of this trigger, it is what the sensor said."""
    assert fire(known, *looks, since=since)[0]["since"] == expected


def test_a_registry_that_does_not_answer_is_asked_again(
    fire: Callable[..., tuple[Any, list[float]]],
) -> None:
    """Pauses grow, follow the registry's wish, and start over after a look that worked."""
    busy = RegistryBusy("busy", retry_after=99)
    event, pauses = fire({}, DOWN, DOWN, busy, {}, DOWN, {V1: A})
    assert (event["seen"], pauses) == ({V1: A}, [10, 20, 99, 7, 10])


def test_what_waiting_cannot_mend_ends_the_wait(fire: Callable[..., tuple[Any, list[float]]]) -> None:
    """The event carries the message; the trigger itself does not die."""
    assert fire({}, DOWN, Unauthorized("wrong password")) == ({"error": "wrong password"}, [10])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    looks=st.lists(
        st.one_of(
            st.just(DOWN), st.dictionaries(st.sampled_from([V1, V2]), st.sampled_from([A, B]), max_size=2)
        ),
        max_size=8,
    )
)
def test_the_event_is_of_the_first_other_look(
    fire: Callable[..., tuple[Any, list[float]]], looks: list[Scripted]
) -> None:
    """Whatever comes before it; `since` is never after the last look that saw what is known."""
    known, other = {V1: A}, {V1: B, "shop/api:v3": A}
    first = next((at for at, look in enumerate(looks) if look not in (known, DOWN)), len(looks))
    looks = [*looks[:first], looks[first] if first < len(looks) else other]
    event, pauses = fire(known, *looks, since="T0")
    equal = [at for at, look in enumerate(looks, 1) if look == known]
    began = len(looks) if not event["refs"] else max(equal, default=0)
    assert (event["seen"], event["since"], len(pauses)) == (looks[-1], f"T{began}", len(looks) - 1)
