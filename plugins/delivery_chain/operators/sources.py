"""Watching one git source: what changed, which chains it starts, and remembering it only after they were started."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from delivery_chain.core.event import Event, Kind, push_run_id
from delivery_chain.core.plan import matching_rules
from delivery_chain.operators.base import MOST_RUNS, ChainOperator
from delivery_chain.sensors.git_ref import GitRefSensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from delivery_chain.core.spec import ChainSpec


HANDLED = "handled"
"""XCom of `match`: how many of the changes it took, where it left some for later."""


class Cursor:
    """What a source's Dag has seen: `{ref: [commit, how often it changed]}` in an Airflow Variable."""

    def __init__(self, key: str) -> None:
        self.key = key

    def read(self) -> dict[str, tuple[str, int]] | None:
        """What was seen, or None before the first look."""
        text = Variable.get(self.key, default=None)
        return (
            None
            if text is None
            else {ref: (entry[0], int(entry[1])) for ref, entry in json.loads(text).items()}
        )

    def write(self, seen: Mapping[str, tuple[str, int]]) -> None:
        """Remember."""
        Variable.set(
            self.key,
            json.dumps(seen, sort_keys=True),
            description="Refs that a delivery chain source has seen",
        )


class WatchOperator(GitRefSensor):
    """Waits until a source has other refs than the cursor knows; the first look only remembers."""

    def __init__(self, *, cursor: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cursor = cursor

    def _known(self, context: Any) -> dict[str, str]:
        del context
        known = Cursor(self.cursor).read()
        if known is None:
            # Not from 0: a cursor that was lost counted too, and run ids made from its counts are taken.
            begin = int(time.time())
            known = {ref: (commit, begin) for ref, commit in self._look().items()}
            Cursor(self.cursor).write(known)
            self.log.info("First look: %d refs are known from now on", len(known))
        return {ref: commit for ref, (commit, _) in known.items()}


class MatchOperator(ChainOperator):
    """Turns ref changes into runs of chains: `[{trigger_dag_id, trigger_run_id, conf}, …]`."""

    def __init__(self, *, chains: Sequence[tuple[ChainSpec, str]], cursor: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chains = chains
        """Each chain with the repository that it builds from the source; twice if the source builds two."""
        self.cursor = cursor

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """Return one entry per run; the log says of each change why it makes none.

        Changes that would start more than `MOST_RUNS` wait for the next look.
        """
        changes = context["ti"].xcom_pull(task_ids="watch") or []
        known = Cursor(self.cursor).read()
        # Somebody removed the Variable while `watch` waited. The run's own time is new, and the same for a retry.
        begin = int(context["dag_run"].run_after.timestamp()) if known is None else 0
        now = datetime.now(UTC)
        runs: list[dict[str, Any]] = []
        for position, change in enumerate(changes):
            sequence = (known or {}).get(change["ref"], ("", begin))[1] + 1
            # Refs seen in one look are in natural order: the later one counts as the newer push.
            seen_at = now + timedelta(microseconds=position)
            started = [
                _run(spec, rule.name, repository, change, sequence, seen_at)
                for spec, repository in self.chains
                for rule in matching_rules(spec, change["ref"], repository)
            ]
            if runs and len(runs) + len(started) > MOST_RUNS:
                self.log.info("%d more changes wait for the next look", len(changes) - position)
                context["ti"].xcom_push(HANDLED, position)
                break
            names = ", ".join(run["trigger_run_id"] for run in started) or "no build rule matches, no run"
            self.log.info("%s is at %s: %s", change["ref"], change["commit"], names)
            runs += started
        return runs


def _run(
    spec: ChainSpec, rule: str, repository: str, change: Mapping[str, str], sequence: int, seen_at: datetime
) -> dict[str, Any]:
    run_id = push_run_id(ref=change["ref"], commit=change["commit"], rule=rule, sequence=sequence)
    event = Event(
        kind=Kind.SOURCE_PUSH,
        repository=repository,
        rule=rule,
        ref=change["ref"],
        commit=change["commit"],
        pushed_at=seen_at,
        sender="sensor",
        delivery_id=run_id,
    )
    return {"trigger_dag_id": spec.name, "trigger_run_id": run_id, "conf": event.to_conf()}


class RememberOperator(ChainOperator):
    """Moves the cursor on, after every run was started: a crash before it repeats, and repeats make no second run."""

    def __init__(self, *, cursor: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cursor = cursor

    def execute(self, context: Any) -> None:
        """Write what `watch` saw and `match` took."""
        changes = context["ti"].xcom_pull(task_ids="watch") or []
        changes = changes[: context["ti"].xcom_pull(task_ids="match", key=HANDLED, map_indexes=-1)]
        known = Cursor(self.cursor).read()
        if known is None:
            # A cursor of just these changes would make every other ref look new, and build all of history.
            self.log.warning("The Variable %s is gone: the next look is a first one", self.cursor)
            return
        moved = {
            change["ref"]: (change["commit"], known.get(change["ref"], ("", 0))[1] + 1) for change in changes
        }
        Cursor(self.cursor).write({**known, **moved})
