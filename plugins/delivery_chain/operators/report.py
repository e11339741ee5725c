"""The end of a run: one sentence for people, one value for programs, and no staging tag left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.blocked import note
from delivery_chain.core.gate import Verdict
from delivery_chain.core.reference import short_digest
from delivery_chain.core.results import Published, Quarantined, Record, RegionResult, Subject
from delivery_chain.core.slots import slot_names
from delivery_chain.errors import ConfigurationError, RegistryError, SealBroken
from delivery_chain.operators.base import ChainOperator, leave, planned, pull, pull_all, reason_of
from delivery_chain.operators.quarantine import staging_tags

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.spec import ChainSpec

GOOD = frozenset({"success", "skipped"})


class ReportOperator(ChainOperator):
    """Removes the run's staging tags and leaves a Record; its sentence becomes the run's note."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return a Record as JSON."""
        ti = context["ti"]
        states = _states(ti, context["dag_run"])
        try:
            plan, spec = planned(ti)
            record = _record(ti, plan, spec, states)
            record = record.model_copy(update={"removed_staging": self._clean(ti, plan)})
        except ConfigurationError:
            state = states.get("plan", "unknown")
            reason = reason_of(ti)
            sentence = (
                reason
                or (state == "skipped" and "superseded by a newer push, or not for this chain")
                or f"no plan was made: task plan is {state}, its log says why"
            )
            record = Record(chain=context["dag"].dag_id, image="", tags=(), sentence=sentence)
        except SealBroken as broken:
            # Nothing is removed either: what was changed has to be looked at.
            record = Record(chain=context["dag"].dag_id, image="", tags=(), sentence=str(broken))
        self.log.info("%s", record.sentence)
        return leave(context, record)

    def _clean(self, ti: Any, plan: Plan) -> tuple[str, ...]:
        """Remove the run's staging tags, unless a blocked image stays under them by its chain's wish."""
        verdict, kept = pull(ti, "gate", Verdict), pull(ti, "quarantine", Quarantined)
        blocked = verdict is not None and not verdict.passed
        # A quarantine that failed left nothing: it can be cleared while the image is there.
        if plan.build is None or (blocked and (kept is None or kept.kept)):
            return ()
        from delivery_chain.hooks.registry import OciRegistryHook

        removed = []
        with OciRegistryHook(plan.instance).client() as client:
            present = [tag for tag in staging_tags(plan) if client.head_digest(plan.name, tag)]
            try:
                for tag in present:
                    client.delete_tag(plan.name, tag)
                    removed.append(tag)
            except RegistryError as refused:
                if refused.retryable:
                    raise
                self.log.warning("%d staging tags of this run stay: %s", len(present) - len(removed), refused)
        return tuple(removed)


def _states(ti: Any, run: Any) -> dict[str, str]:
    """State per task; mapped instances as `task_3`."""
    found = ti.get_task_states(dag_id=run.dag_id, run_ids=[run.run_id])
    return {task: str(state) for task, state in found.get(run.run_id, {}).items()}


def _record(ti: Any, plan: Plan, spec: ChainSpec, states: dict[str, str]) -> Record:
    subject = pull(ti, "assemble", Subject)
    verdict = pull(ti, "gate", Verdict)
    regions = {rule.name: _state(states, "replicate", index) for index, rule in enumerate(spec.replicate)}
    triggers = {
        trigger.name: _state(states, "distribute", index) for index, trigger in enumerate(spec.distribute)
    }
    at = f" at {short_digest(subject.digest)}" if subject else ""
    return Record(
        chain=plan.chain,
        image=plan.name,
        tags=plan.tags,
        digest=subject.digest if subject else "",
        verdict=verdict.sentence if verdict else "",
        sentence=f"{plan.title}{at} {_outcome(ti, plan, verdict, _failed(states, spec), regions, triggers)}",
        commit=plan.build.commit if plan.build else "",
        ref=plan.build.ref if plan.build else "",
        regions=regions,
        triggers=triggers,
    )


def _state(states: dict[str, str], task: str, index: int) -> str:
    return states.get(f"{task}_{index}") or states.get(task) or "unknown"


def _failed(states: dict[str, str], spec: ChainSpec) -> list[str]:
    """The tasks that failed, mapped ones as `build [linux/arm64]`."""
    labels = slot_names(spec)
    named = {
        f"{task}_{index}": f"{task} [{label}]" for task in labels for index, label in enumerate(labels[task])
    }
    return sorted(named.get(task, task) for task, state in states.items() if state == "failed")


def _outcome(
    ti: Any,
    plan: Plan,
    verdict: Verdict | None,
    failed: list[str],
    regions: dict[str, str],
    triggers: dict[str, str],
) -> str:
    if verdict is not None and not verdict.passed:
        left = note(plan, pull(ti, "quarantine", Quarantined))
        return verdict.sentence + left + ("; task quarantine failed" if "quarantine" in failed else "")
    published = pull(ti, "publish", Published)
    if verdict is None or published is None:
        what = "its tags may be there in part" if "publish" in failed else "nothing was published"
        return f"failed in {', '.join(failed) or 'no task'}; {what}"
    wrong = [f"{name} {state}" for name, state in {**regions, **triggers}.items() if state not in GOOD]
    held = [result.region for result in pull_all(ti, "replicate", RegionResult)]
    told = sum(state == "success" for state in triggers.values())
    overtaken = bool(published.tags) and not published.held
    sentence = f"{verdict.sentence}, " + ("a newer push holds its tags" if overtaken else "published")
    sentence += f", copied to {' and '.join(held)}" if held else ""
    sentence += f", {told} trigger{'s' if told != 1 else ''} fired" if told else ""
    return sentence + (f"; NOT DONE: {', '.join(wrong)}" if wrong else "")
