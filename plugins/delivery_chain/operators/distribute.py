"""Deliver to a trigger's target once its regions hold the image. Each delivery has one id; each attempt is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.results import Attempt, AttemptOutcome, DeliveryResult, Published, RegionResult
from delivery_chain.core.spec.filters import fires_for, waits_for
from delivery_chain.core.steps import Step
from delivery_chain.core.xcom_keys import ATTEMPTS
from delivery_chain.errors import ConfigurationError, DeliveryFailed, DeliveryUnavailable
from delivery_chain.operators.base import leave, planned, pull, pull_all, skip
from delivery_chain.operators.slots import SlotOperator
from delivery_chain.operators.task_memory import Memory
from delivery_chain.operators.verdict import passed
from delivery_chain.targets.order import Order, delivery_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.sdk import Context

    from delivery_chain.core.plan import Plan
    from delivery_chain.core.spec.delivery import Trigger
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.operators.task_instance import TaskInstance
    from delivery_chain.targets.interface import Target

MOST_ATTEMPTS = 200
"""Maximum number of attempts kept per trigger and run."""


class DistributeOperator(SlotOperator):
    """Fire one trigger, once for each tag it selects, after its regions hold the digest."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a DeliveryResult as JSON; the task is skipped if the trigger does not select this image.

        Raises:
            Unjudged: No gate of this run passed this digest. Not retryable.
            DeliveryFailed, DeliveryUnavailable: The target did not accept a delivery; the latter is retryable.
        """
        ti = context["ti"]
        published = pull(ti, Step.PUBLISH, Published)
        verdict = pull(ti, Step.GATE, Verdict)
        if published is None and (verdict is None or not verdict.passed):
            raise skip("nothing was published")
        self.item(planned(ti)[1])
        plan, spec, subject, _ = passed(ti)
        if published is None or published.digest != subject.digest:
            raise ConfigurationError("this run's image is not published: clear the task `publish`")
        if not plan.announce:
            raise skip("this run was started without triggers")
        trigger = spec.distribute[self.slot]
        tags = fires_for(trigger, published.held)
        if not tags:
            raise skip(f"trigger {trigger.name!r} selects no tag of this image")
        regions = _regions(ti, spec, trigger, subject.digest)
        orders = _orders(plan, trigger, tags, subject.digest, regions)
        return leave(context, self._deliver(context, trigger, orders))

    def _deliver(self, context: Context, trigger: Trigger, orders: Sequence[Order]) -> DeliveryResult:
        from delivery_chain.hooks.target import target_at

        target = target_at(trigger.kind, trigger.url_connection)
        log = _Attempts(context)
        for order in orders:
            if order.tag in log.arrived:
                continue
            attempt = target.deliver(order, log.of(order.tag))
            log.add(attempt)
            self.log.info("%s for %s: %s", target.shown_url, order.tag, attempt)
            _check(trigger.name, target.shown_url, attempt)
        _settle(target, orders)
        return DeliveryResult(
            trigger=trigger.name,
            url=target.shown_url,
            digest=orders[0].digest,
            delivered=tuple(order.tag for order in orders),
            attempts=tuple(log.attempts),
        )


class _Attempts:
    """Attempts of a trigger in this run. Only those since the last clear count as delivered: a clear sends again."""

    def __init__(self, context: Context) -> None:
        self._ti = context["ti"]
        self._memory = Memory(context, "attempts")
        here = self._memory.get()
        known = self._memory.ever() if here is None else here
        self.attempts = [Attempt.from_xcom(item) for item in known["attempts"]] if known else []
        self._before = len(self.attempts) if here is None else here["before"]

    @property
    def arrived(self) -> set[str]:
        """Tags that the target has accepted since the last clear."""
        return {one.tag for one in self.attempts[self._before :] if one.outcome is AttemptOutcome.DONE}

    def of(self, tag: str) -> tuple[Attempt, ...]:
        """Return the attempts for a tag since the last clear, oldest first."""
        return tuple(one for one in self.attempts[self._before :] if one.tag == tag)

    def add(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        dropped = max(0, len(self.attempts) - MOST_ATTEMPTS)
        # Drop the oldest attempts. Those since the last clear always stay: retries make far fewer than the limit.
        del self.attempts[:dropped]
        self._before = max(0, self._before - dropped)
        kept = [item.to_xcom() for item in self.attempts]
        self._memory.set({"attempts": kept, "before": self._before})
        self._ti.xcom_push(ATTEMPTS, kept)


def _orders(
    plan: Plan, trigger: Trigger, tags: Iterable[str], digest: str, regions: dict[str, str]
) -> list[Order]:
    """Return one order per tag."""
    from delivery_chain.hooks.registry import OciRegistryHook

    home = OciRegistryHook(plan.instance).registry()
    # A repeated push of the same image needs an id of its own: a target that deduplicates would drop it as delivered.
    run_id = f"{plan.run_id}+{plan.again}" if plan.again else plan.run_id
    return [
        Order(
            id=delivery_id(chain=plan.chain, run_id=run_id, trigger=trigger.name, tag=tag, digest=digest),
            trigger=trigger,
            tag=tag,
            digest=digest,
            name=plan.name,
            pushed_at=plan.pushed_at,
            host=home.host,
            region=home.region or plan.instance,
            chain=plan.chain,
            run_id=plan.run_id,
            regions=regions,
        )
        for tag in tags
    ]


def _regions(ti: TaskInstance, spec: ChainSpec, trigger: Trigger, digest: str) -> dict[str, str]:
    """Return the image's reference by rule, after checking its digest in every region that the trigger waits for."""
    from delivery_chain.hooks.registry import OciRegistryHook

    results = {result.rule: result for result in pull_all(ti, Step.REPLICATE, RegionResult)}
    skipped = _skipped_rules(ti, spec)
    for name in waits_for(trigger, spec):
        if name in skipped:
            continue
        result = results.get(name)
        if result is None:
            raise ConfigurationError(
                f"trigger {trigger.name!r} waits for {name!r}, which lacks the image: clear its task `replicate`"
            )
        connection = next(rule.to for rule in spec.replicate if rule.name == name)
        with OciRegistryHook(connection).client() as client:
            if client.head_manifest(result.name, digest) is None:
                raise DeliveryUnavailable(
                    f"{result.host}/{result.name} no longer holds {short_digest(digest)}"
                )
    return {
        name: f"{result.host}/{result.name}@{result.digest}"
        for name, result in results.items()
        if result.digest == digest
    }


def _skipped_rules(ti: TaskInstance, spec: ChainSpec) -> set[str]:
    """Return the rules that do not cover this image, so that the trigger does not wait for them.

    Decided from the results of steps, not from task states, which users can set.
    """
    from delivery_chain.core.spec.filters import NotCovered, destination
    from delivery_chain.operators.base import planned

    plan, _ = planned(ti)
    published = pull(ti, Step.PUBLISH, Published)
    held = published.held if published else ()
    return {
        rule.name
        for rule in spec.replicate
        if isinstance(destination(spec, rule, plan.repository, held), NotCovered)
    }


def _check(trigger: str, url: str, attempt: Attempt) -> None:
    if attempt.outcome is AttemptOutcome.DONE:
        return
    what = f"trigger {trigger!r}: {url} did not accept the delivery of {attempt.tag}: {attempt}"
    if attempt.outcome is AttemptOutcome.LATER:
        raise DeliveryUnavailable(what, retry_after=attempt.after)
    raise DeliveryFailed(f"{what}; {attempt.advice}" if attempt.advice else what)


def _settle(target: Target, orders: Iterable[Order]) -> None:
    """Check that the rollouts started by these orders have succeeded. A retry polls again, and redelivers nothing."""
    for order in orders:
        settled = target.settled(order)
        about = f"trigger {order.trigger.name!r}: {target.shown_url} accepted {order.tag}"
        if settled is None:
            raise DeliveryUnavailable(f"{about}, but has not finished it")
        if not settled.good:
            raise DeliveryFailed(f"{about}, but failed: {settled.sentence}")
