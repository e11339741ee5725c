"""Finds what is wrong with the observed facts. Pure: facts in, violations out, each with its evidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.kill_loop.facts import Chain, Facts, Push, Run

LOST, DOUBLED, LET_THROUGH = "lost", "doubled", "let through"
FALSE_RECORD, LEFT_BEHIND, WENT_BACK = "false record", "left behind", "went back"
KINDS = (LOST, DOUBLED, LET_THROUGH, FALSE_RECORD, LEFT_BEHIND, WENT_BACK)
ENDED = frozenset({"success", "failed"})
SUPERSEDED = "superseded"
"""The end of a run that found a newer push of its branch."""
FINE = frozenset({"delivered", SUPERSEDED})
"""Possible ends of a run that Airflow shows as a success."""
TOLD_AGAIN = "built before"
"""The end of a run for a push that was reported again: it finds its image and does nothing."""
TOLD_ONCE = frozenset({"hook", "sensor"})
"""Ways of reporting a push just once: by one webhook at once, or by the sensor alone."""
RESERVED = ("_staging-", "sha256-", "sha512-")
"""Prefixes of staging tags and of the fallback tags of referrers."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    kind: str
    """One of KINDS."""
    what: str
    evidence: str


def judge(facts: Facts) -> list[Violation]:
    """Return all violations, in the order of KINDS."""
    case = _Case(facts)
    found = [
        *case.pushes_and_runs(),
        *case.told_again(),
        *case.releases(),
        *case.fixed_tags(),
        *case.moving_tags(),
        *case.blocked(),
        *case.told(),
        *case.seen(),
        *case.records(),
        *(Violation(LEFT_BEHIND, one, "") for one in facts.left),
    ]
    return sorted(found, key=lambda violation: KINDS.index(violation.kind))


def is_users(tag: str) -> bool:
    """Whether a tag is meant for users."""
    return not tag.startswith(RESERVED)


class _Case:
    """The facts, indexed."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.chains = {chain.name: chain for chain in facts.chains}
        self.by_image = {chain.image: chain for chain in facts.chains}
        self.vulnerable = {push.commit for push in facts.pushes if push.vulnerable}
        self.runs = {(run.chain, run.run_id): run for run in facts.runs}
        self.of_push: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
        for run in self.first_told():
            self.of_push[run.chain, run.ref, run.commit].append(run)
        self.told_of: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
        for one in facts.deliveries:
            chain = self.chains.get(one.chain)
            trigger = chain.hooks.get(one.hook, one.hook) if chain else one.hook
            self.told_of[one.chain, one.run_id, trigger, one.tag].add(one.id)

    def first_told(self) -> list[Run]:
        """The runs, without those for pushes that were reported again."""
        return [run for run in self.facts.runs if run.end != TOLD_AGAIN]

    def commit_of(self, digest: str) -> str:
        """The commit that an image was built from; empty if unknown."""
        if image := self.facts.images.get(digest):
            return image.commit
        return next((run.commit for run in self.facts.runs if run.digest == digest), "")

    def everywhere(self, run: Run) -> bool:
        """Whether everything was done that the run is for: tags in all regions, deliveries to all triggers."""
        chain = self.chains[run.chain]
        there = all(
            self.facts.held.get((region, chain.image, tag)) == run.digest
            for region in self.facts.regions
            for tag in run.held
            if tag != chain.moving
        )
        return bool(run.held) and there and not list(self.missing(run))

    def missing(self, run: Run) -> Iterator[tuple[str, str]]:
        """Yield triggers and tags of a run for which no delivery arrived."""
        chain = self.chains[run.chain]
        for trigger in chain.triggers:
            for tag in run.held:
                if chain.fires(trigger, tag) and not self.told_of.get((run.chain, run.run_id, trigger, tag)):
                    yield trigger, tag

    def pushes_and_runs(self) -> Iterator[Violation]:
        """Check that each push has one run, unless it was not reported and a newer push of its branch overtook it."""
        newest = {(push.chain, push.ref): push.number for push in self.facts.pushes}
        stays: dict[tuple[str, str, str], list[Push]] = defaultdict(list)
        for push in self.facts.pushes:
            stays[push.chain, push.ref, push.commit].append(push)
        for key, pushes in stays.items():
            runs = self.of_push.get(key, [])
            due = [push for push in pushes if push.taken or push.number == newest[push.chain, push.ref]]
            evidence = f"pushes {_pushes(pushes)}; runs {_runs(runs)}"
            if len(runs) < len(due):
                yield Violation(LOST, f"{' '.join(key)}: {len(due)} pushes, {len(runs)} runs", evidence)
            if len(runs) > len(pushes):
                yield Violation(DOUBLED, f"{' '.join(key)}: {len(pushes)} pushes, {len(runs)} runs", evidence)
            yield from self._done(pushes, runs, is_newest=max(p.number for p in pushes) in newest.values())
        for run in self.facts.runs:
            if (run.chain, run.ref, run.commit) not in stays:
                yield Violation(DOUBLED, f"{run.title}: a run of no push", f"{run.ref} {run.commit}")

    def _done(self, pushes: list[Push], runs: list[Run], *, is_newest: bool) -> Iterator[Violation]:
        for run in runs:
            evidence = f"state {run.state}, failed {', '.join(run.failed) or 'nothing'}, note {run.note!r}"
            if run.state not in ENDED:
                yield Violation(LOST, f"{run.title}: did not end", evidence)
            elif run.superseded:
                others = any(not other.superseded for other in runs)
                if (pushes[0].tag or is_newest) and not others:
                    yield Violation(LOST, f"{run.title}: superseded, though nothing is newer", evidence)
            elif not pushes[0].vulnerable and run.state != "success":
                done = self.everywhere(run)
                kind, what = (
                    (FALSE_RECORD, "all is done") if done else (LOST, "a clean push was not delivered")
                )
                yield Violation(kind, f"{run.title}: {run.state}, and {what}", evidence)

    def told_again(self) -> Iterator[Violation]:
        """Check runs that ended as built before: their push was reported twice, and another run built the image."""
        for run in self.facts.runs:
            if run.end != TOLD_AGAIN:
                continue
            key = (run.chain, run.ref, run.commit)
            evidence = f"runs {_runs(self.of_push[key])}, note {run.note!r}"
            if not any(other.digest for other in self.of_push[key]):
                yield Violation(LOST, f"{run.title}: built before, and no run has built it", evidence)
            if run.digest or run.held:
                yield Violation(DOUBLED, f"{run.title}: built before, and built again", evidence)
            ways = {push.way for push in self.facts.pushes if (push.chain, push.ref, push.commit) == key}
            if ways and ways <= TOLD_ONCE:
                yield Violation(DOUBLED, f"{run.title}: built before, of a push that was told once", evidence)

    def releases(self) -> Iterator[Violation]:
        """Check that every clean release is under its tag in every region."""
        for push in self.facts.pushes:
            if not push.tag:
                continue
            image = self.chains[push.chain].image
            places = {region: (region, image, push.tag) for region in self.facts.regions}
            held = {region: self.facts.held.get(place, "") for region, place in places.items()}
            if not push.vulnerable:
                wrong = [region for region, digest in held.items() if self.commit_of(digest) != push.commit]
                if wrong:
                    what = f"{image}:{push.tag} is not in {', '.join(wrong)}"
                    yield Violation(LOST, what, f"held {held}; push {push}")

    def fixed_tags(self) -> Iterator[Violation]:
        """Check that fixed tags only ever had the digest of their push's run. Pushes of one commit may share a tag."""
        pushes = Counter((push.chain, push.commit) for push in self.facts.pushes)
        ever: dict[tuple[str, str], set[str]] = defaultdict(set)
        for _, name, tag, digest in self.places():
            ever[name, tag].add(digest)
        for (name, tag), digests in sorted(ever.items()):
            chain = self.by_image[name]
            of_runs = {run.digest: run.commit for run in self.first_told() if run.chain == chain.name}
            commits = {of_runs.get(digest, "") for digest in digests}
            due = max(pushes[chain.name, commit] for commit in commits)
            if tag != chain.moving and (commits == {""} or len(commits) > 1 or len(digests) > due):
                strange = len(digests - of_runs.keys())
                what = f"{name}:{tag} had {len(digests)} digests, {strange} of them of no run"
                yield Violation(DOUBLED, what, f"{sorted(digests)} of commits {sorted(commits)}")

    def places(self) -> list[tuple[str, str, str, str]]:
        """Return every digest that was ever under a user's tag of an image: region, repository, tag, digest."""
        found = {(one.region, one.name, one.tag, one.digest) for one in self.facts.sights if one.digest}
        found |= {(*place, digest) for place, digests in self.facts.ever.items() for digest in digests}
        found |= {(*place, digest) for place, digest in self.facts.held.items() if digest}
        return sorted(place for place in found if place[1] in self.by_image and is_users(place[2]))

    def moving_tags(self) -> Iterator[Violation]:
        """Check that moving tags end at the newest clean push in every region, and never went back."""
        for chain in self.facts.chains:
            clean = [run for run in self.first_told() if run.chain == chain.name and not self._kept_out(run)]
            newest = max(clean, key=lambda run: _time(run.pushed_at), default=None)
            for region in self.facts.regions:
                digest = self.facts.held.get((region, chain.image, chain.moving), "")
                if newest and digest != newest.digest:
                    where = f"{chain.image}:{chain.moving} in {region}"
                    evidence = f"at {digest or 'nothing'} of {self.commit_of(digest)}; newest {newest}"
                    yield Violation(LOST, f"{where} is not the newest push's", evidence)
                yield from self._went_back(chain, region)

    def _kept_out(self, run: Run) -> bool:
        return run.superseded or run.commit in self.vulnerable

    def _went_back(self, chain: Chain, region: str) -> Iterator[Violation]:
        last = ("", "")
        for sight in self.facts.sights:
            image = self.facts.images.get(sight.digest)
            if (sight.region, sight.name, sight.tag) != (region, chain.image, chain.moving) or not image:
                continue
            if last[0] and _time(image.pushed_at) < _time(last[0]):
                what = f"{chain.image}:{chain.moving} in {region} went back to an older push"
                evidence = (
                    f"{_clock(sight.at)}: from {last[1]} of {last[0]} to {sight.digest} of {image.pushed_at}"
                )
                yield Violation(WENT_BACK, what, evidence)
            last = (image.pushed_at, sight.digest)

    def blocked(self) -> Iterator[Violation]:
        """Check that every vulnerable image failed its run, was backed up once, and is no longer served."""
        backups = Counter[tuple[str, str]]()
        for run in self.facts.runs:
            if run.commit not in self.vulnerable or run.superseded or run.state not in ENDED:
                continue
            evidence = f"failed {', '.join(run.failed)}, note {run.note!r}"
            if run.state == "success":
                yield Violation(FALSE_RECORD, f"{run.title}: success, of a vulnerable image", evidence)
            kept = self.facts.held.get((self.facts.home, self.chains[run.chain].quarantine, run.backup))
            if not run.backup or kept != run.digest:
                what = f"{run.title}: its blocked image is not backed up"
                yield Violation(LOST, what, f"{run.backup or 'no backup'} holds {kept}; {evidence}")
            backups[run.chain, run.ref] += 1
            if run.digest in self.facts.pullable:
                yield Violation(LET_THROUGH, f"{run.title}: {run.digest} is still served", evidence)
        yield from self._backups(backups)

    def _backups(self, wanted: Counter[tuple[str, str]]) -> Iterator[Violation]:
        for chain in self.facts.chains:
            name = chain.quarantine
            tags = [
                tag
                for region, repository, tag in self.facts.held
                if (region, repository) == (self.facts.home, name) and is_users(tag)
            ]
            due = sum(count for (owner, _), count in wanted.items() if owner == chain.name)
            if len(tags) > due:
                yield Violation(DOUBLED, f"{name}: {len(tags)} backups of {due} runs", f"{sorted(tags)}")

    def told(self) -> Iterator[Violation]:
        """Check that each due delivery arrived under one id per run, trigger and tag, and no others arrived."""
        for run in self.facts.runs:
            if run.commit not in self.vulnerable:
                for trigger, tag in self.missing(run):
                    what = f"{run.title}: {trigger} was not told of {tag}"
                    yield Violation(LOST, what, f"state {run.state}, note {run.note!r}")
        for (chain, run_id, trigger, tag), ids in self.told_of.items():
            what = f"{chain} {run_id}: {trigger} was told of {tag}"
            if len(ids) > 1:
                yield Violation(DOUBLED, f"{what} under {len(ids)} ids", f"{sorted(ids)}")
            told = self.runs.get((chain, run_id))
            if told is None:
                yield Violation(DOUBLED, f"{what} for a run that is not there", f"{sorted(ids)}")
            elif told.commit in self.vulnerable:
                yield Violation(LET_THROUGH, f"{what}, a vulnerable image", f"{sorted(ids)}")
            elif tag not in told.held:
                yield Violation(
                    FALSE_RECORD, f"{what}, which its record does not hold", f"held {told.held}, {told}"
                )

    def seen(self) -> Iterator[Violation]:
        """Check that no vulnerable or unknown image was ever under a user's tag anywhere."""
        for region, name, tag, digest in self.places():
            commit = self.commit_of(digest)
            if commit in self.vulnerable or not commit:
                what = f"{name}:{tag} in {region} was {'a vulnerable' if commit else 'an unknown'} image"
                yield Violation(LET_THROUGH, what, f"{digest} of commit {commit or 'unknown'}")

    def records(self) -> Iterator[Violation]:
        """Check that state, note and record of each run agree with each other, the registries and the receiver."""
        for run in self.facts.runs:
            if run.state in ENDED:
                lies = _idle(run) if run.end in {SUPERSEDED, TOLD_AGAIN} else self._lies(run)
                for what, evidence in lies:
                    yield Violation(FALSE_RECORD, f"{run.title}: {what}", evidence)

    def _lies(self, run: Run) -> Iterator[tuple[str, str]]:
        chain = self.chains[run.chain]
        if not _noted(run):
            yield _NOTE, f"note {run.note!r}, record {run.sentence!r}"
            return
        if run.digest and run.recorded != run.digest:
            yield "its record is of another digest", f"{run.recorded}, assembled {run.digest}"
        if (run.state == "success") != (run.end in FINE):
            yield f"{run.state}, and its record says {run.end}", f"note {run.note!r}"
        bad = [name for name, state in (run.regions | run.triggers).items() if state not in _GOOD]
        if run.state == "success" and (bad or not run.recorded):
            yield "success, and its record says otherwise", f"{bad}, note {run.note!r}"
        for rule, state in run.regions.items():
            region = chain.regions.get(rule, rule)
            holds = [
                self.facts.held.get((region, chain.image, tag), "") for tag in run.held if tag != chain.moving
            ]
            # Another run of the same commit may have taken over the tag.
            if state == "success" and any(self.commit_of(digest) != run.commit for digest in holds):
                yield f"its record says that {rule} holds it", f"{holds}, not {run.digest}"
        for trigger, state in run.triggers.items():
            told = any(key[:3] == (run.chain, run.run_id, trigger) for key in self.told_of)
            if told != (state == "success"):
                yield f"its record says {trigger} {state}", f"{'a' if told else 'no'} delivery arrived"


def _idle(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the record of a run that had nothing to do."""
    if not _noted(run):
        yield _NOTE, f"note {run.note!r}, record {run.sentence!r}"
    if run.state != "success" or run.failed:
        yield f"{run.state}, and its record says {run.end}", f"failed {', '.join(run.failed)}"
    if run.end == SUPERSEDED and (run.digest or run.held):
        yield "superseded, and it has an image", f"{run.digest}, tags {', '.join(run.held)}"


def _noted(run: Run) -> bool:
    return bool(run.sentence) and run.sentence in run.note


_NOTE = "its note is not its record's sentence"
_GOOD = frozenset({"success", "skipped"})


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def _pushes(pushes: list[Push]) -> str:
    return ", ".join(f"{p.number} {p.way} at {_clock(p.at)}{' taken' if p.taken else ''}" for p in pushes)


def _runs(runs: list[Run]) -> str:
    return ", ".join(f"{run.run_id} {run.state}{' superseded' if run.superseded else ''}" for run in runs)
