"""Facts of a kill loop that are right, and faults planted in them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.kill_loop.chains import HOME, REGIONS, REPOSITORIES
from benchmarks.kill_loop.facts import Delivery, Facts, Image, Push, Run, Sight

API = next(repository.chain for repository in REPOSITORIES if repository.name == "api")
WEB = next(repository.chain for repository in REPOSITORIES if repository.name == "web")
ALL = (HOME, *REGIONS.values())
NEAR = REGIONS["near"]
GOOD, BAD, A, B = "a" * 40, "b" * 40, "c" * 40, "d" * 40
REPORT = "passed, published"


def time(number: int) -> str:
    return f"2026-11-27T12:00:{number:02d}+00:00"


def push(number: int, ref: str, commit: str) -> Push:
    chain = API.name if ref.startswith("refs/tags/") else WEB.name
    return Push(
        number=number,
        chain=chain,
        ref=ref,
        commit=commit,
        vulnerable=commit == BAD,
        way="hook",
        at=number,
        taken=True,
    )


PUSHES = (
    push(0, "refs/tags/v1.0.0", GOOD),
    push(1, "refs/tags/v1.1.0", BAD),
    push(2, "refs/heads/main", A),
    push(3, "refs/heads/main", B),
    push(4, "refs/heads/main", A),
)


def digest(number: int) -> str:
    return f"sha256:{number:064d}"


def tags(number: int) -> tuple[str, ...]:
    """The tags that the run of a push holds at its end; the later push has the moving one."""
    return {0: ("v1.0.0", "latest"), 1: (), 2: ("main-2", "edge"), 3: ("main-3",), 4: ("main-4", "edge")}[
        number
    ]


def run(number: int) -> Run:
    made = PUSHES[number]
    clean = not made.vulnerable
    state = "success" if clean else "skipped"
    return Run(
        chain=made.chain,
        run_id=f"run{number}",
        ref=made.ref,
        commit=made.commit,
        pushed_at=time(number),
        state="success" if clean else "failed",
        note=REPORT,
        end="delivered" if clean else "blocked",
        failed=() if clean else ("denied",),
        digest=digest(number),
        held=tags(number),
        backup="" if clean else "v1.1.0.20261127T120001Z",
        sentence=REPORT,
        recorded=digest(number),
        regions=dict.fromkeys(REGIONS, state),
        triggers={
            trigger: "success"
            if any((tag in {"edge", "latest"}) == moving for tag in tags(number))
            else "skipped"
            for trigger, moving in API.triggers.items()
        },
    )


def told(number: int) -> list[Delivery]:
    made = run(number)
    return [
        Delivery(
            id=f"dlv_{number}_{tag}",
            hook="staging" if tag in {"latest", "edge"} else "prod",
            chain=made.chain,
            run_id=made.run_id,
            tag=tag,
            digest=made.digest,
        )
        for tag in made.held
    ]


def right() -> Facts:
    """A clean release, a blocked one, and a branch that went A, B, A."""
    numbers = range(len(PUSHES))
    order = [(API.image, 0), (WEB.image, 2), (WEB.image, 3), (WEB.image, 4)]
    held = {(region, name, tag): digest(n) for name, n in order for region in ALL for tag in tags(n)}
    held[HOME, "loop-quarantine/api", "v1.1.0.20261127T120001Z"] = digest(1)
    return Facts(
        chains=(API, WEB),
        home=HOME,
        regions=ALL,
        pushes=PUSHES,
        runs=tuple(run(number) for number in numbers),
        sights=tuple(
            Sight(at=n, region=region, name=name, tag=tag, digest=digest(n))
            for name, n in order
            for region in ALL
            for tag in tags(n)
        ),
        held=held,
        ever={},
        images={digest(n): Image(commit=PUSHES[n].commit, pushed_at=time(n)) for n in numbers},
        deliveries=tuple(one for number in numbers for one in told(number)),
    )


def with_run(number: int, **changed: object) -> Facts:
    facts = right()
    runs = tuple(replace(one, **changed) if one.run_id == f"run{number}" else one for one in facts.runs)
    return replace(facts, runs=runs)


def without_run(number: int) -> Facts:
    return replace(right(), runs=tuple(one for one in right().runs if one.run_id != f"run{number}"))


def with_more_runs(number: int) -> Facts:
    return replace(right(), runs=(*right().runs, replace(run(number), run_id="again", held=(), triggers={})))


def with_held(region: str, name: str, tag: str, value: str) -> Facts:
    return replace(right(), held=right().held | {(region, name, tag): value})


def with_sight(region: str, name: str, tag: str, number: int) -> Facts:
    sight = Sight(at=50, region=region, name=name, tag=tag, digest=digest(number))
    return replace(right(), sights=(*right().sights, sight))


def with_delivery(number: int, **changed: str) -> Facts:
    made = run(number)
    extra = Delivery(
        id="dlv_other", hook="prod", chain=made.chain, run_id=made.run_id, tag="v1.0.0", digest=made.digest
    )
    return replace(right(), deliveries=(*right().deliveries, replace(extra, **changed)))


def without_delivery(tag: str) -> Facts:
    return replace(right(), deliveries=tuple(one for one in right().deliveries if one.tag != tag))


def told_again(number: int, *, way: str, **changed: object) -> Facts:
    """A push was told a second time, and the run of that did nothing."""
    pushes = tuple(replace(one, way=way) if one.number == number else one for one in PUSHES)
    again = replace(run(number), run_id="again", end="built before", held=(), digest="")
    return replace(right(), pushes=pushes, runs=(*right().runs, replace(again, **changed)))


def in_one_minute() -> Facts:
    """Both runs of a commit gave it the same tag, which the later one holds."""
    facts = without_tag("main-4")
    runs = tuple(replace(one, held=("main-2", "edge")) if one.run_id == "run4" else one for one in facts.runs)
    places = [(region, WEB.image, "main-2") for region in ALL]
    return replace(
        facts,
        runs=runs,
        held=facts.held | dict.fromkeys(places, digest(4)),
        ever=dict.fromkeys(places, frozenset({digest(2), digest(4)})),
        deliveries=(*facts.deliveries, replace(told(4)[0], id="dlv_minute", tag="main-2")),
    )


def unbuilt(facts: Facts) -> Facts:
    """The push 3 has no image."""
    return without_tag("main-3", facts)


def without_tag(tag: str, facts: Facts | None = None) -> Facts:
    """A tag was never there, and nobody was told of it."""
    facts = facts or right()
    return replace(
        facts,
        held={place: held for place, held in facts.held.items() if place[2] != tag},
        sights=tuple(one for one in facts.sights if one.tag != tag),
        deliveries=tuple(one for one in facts.deliveries if one.tag != tag),
    )


def untaken(number: int) -> tuple[Push, ...]:
    return tuple(replace(one, taken=one.number != number) for one in PUSHES)
