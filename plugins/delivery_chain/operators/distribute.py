"""Telling targets that an image is where it should be: signed, with one id per delivery, every attempt kept."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit

from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.results import Attempt, DeliveryResult, Published, RegionResult
from delivery_chain.core.spec.filters import fires_for, waits_for
from delivery_chain.core.steps import Step
from delivery_chain.errors import ConfigurationError, DeliveryFailed, DeliveryUnavailable
from delivery_chain.operators.base import leave, planned, pull, pull_all, skip
from delivery_chain.operators.slots import SlotOperator
from delivery_chain.operators.task_memory import Memory
from delivery_chain.operators.verdict import passed
from delivery_chain.targets.acr_body import delivery_body, delivery_id

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.spec.delivery import Trigger
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.hooks.webhook import WebhookTarget

ANSWER_BYTES = 512
"""Of a target's answer that is read and kept."""
MOST_ATTEMPTS = 200
"""Attempts of one trigger in one run that are kept."""
SHORTEST_HIDDEN = 4
"""Characters of a value that is taken out of an answer; shorter ones are no secrets."""
TOO_MANY = 429
SERVER_ERROR = 500
DELIVERED = range(200, 300)
REDIRECTS = range(300, 400)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that has to arrive."""

    id: str
    tag: str
    method: str
    body: bytes


class DistributeOperator(SlotOperator):
    """Fires one trigger, once for each tag it is for, after its regions hold the digest."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return a DeliveryResult as JSON; skipped where the trigger is not for this image.

        Raises:
            Unjudged: No gate of this run passed this digest. Not retryable.
            DeliveryFailed, DeliveryUnavailable: The target did not take it; the latter is retryable.
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
            raise skip(f"no tag of this image is one that trigger {trigger.name!r} is for")
        regions = _regions(ti, spec, trigger, subject.digest)
        return leave(context, self._deliver(context, plan, trigger, tags, subject.digest, regions))

    def _deliver(
        self,
        context: Any,
        plan: Plan,
        trigger: Trigger,
        tags: tuple[str, ...],
        digest: str,
        regions: dict[str, str],
    ) -> DeliveryResult:
        from delivery_chain.hooks.registry import OciRegistryHook
        from delivery_chain.hooks.webhook import WebhookHook

        target = WebhookHook(trigger.url_connection).target()
        home = OciRegistryHook(plan.instance).registry()
        log = _Attempts(context)
        for tag in tags:
            if tag in log.arrived:
                continue
            body = delivery_body(
                name=plan.name,
                tag=tag,
                digest=digest,
                pushed_at=plan.pushed_at,
                host=home.host,
                region=home.region or plan.instance,
                chain=plan.chain,
                run_id=plan.run_id,
                regions=regions,
            )
            # A target that knows the id would take another push for one that it has.
            run_id = f"{plan.run_id}+{plan.again}" if plan.again else plan.run_id
            key = delivery_id(chain=plan.chain, run_id=run_id, trigger=trigger.name, tag=tag, digest=digest)
            raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            attempt, retry_after = send(target, Delivery(key, tag, trigger.method, raw))
            log.add(attempt)
            self.log.info("%s %s for %s: %s", trigger.method, target.shown_url, tag, _told(attempt))
            _check(trigger.name, target.shown_url, attempt, retry_after)
        return DeliveryResult(
            trigger=trigger.name,
            url=target.shown_url,
            digest=digest,
            delivered=tags,
            attempts=tuple(log.attempts),
        )


class _Attempts:
    """Every attempt of a trigger in this run, and what arrived since it was last cleared: a clear sends again."""

    def __init__(self, context: Any) -> None:
        self._ti = context["ti"]
        self._memory = Memory(context, "attempts")
        here = self._memory.get()
        known = self._memory.ever() if here is None else here
        self.attempts = [Attempt.from_xcom(item) for item in known["attempts"]] if known else []
        self._before = len(self.attempts) if here is None else here["before"]

    @property
    def arrived(self) -> set[str]:
        """Tags that the target took since the last clear."""
        return {one.tag for one in self.attempts[self._before :] if one.status in DELIVERED}

    def add(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        dropped = max(0, len(self.attempts) - MOST_ATTEMPTS)
        # The oldest go. What arrived since the last clear stays: its retries make far fewer attempts.
        del self.attempts[:dropped]
        self._before = max(0, self._before - dropped)
        kept = [item.to_xcom() for item in self.attempts]
        self._memory.set({"attempts": kept, "before": self._before})
        self._ti.xcom_push("attempts", kept)


def _regions(ti: Any, spec: ChainSpec, trigger: Trigger, digest: str) -> dict[str, str]:
    """Where the image is, per rule; every region that the trigger waits for is asked for the digest itself."""
    from delivery_chain.hooks.registry import OciRegistryHook

    results = {result.rule: result for result in pull_all(ti, Step.REPLICATE, RegionResult)}
    skipped = _skipped_rules(ti, spec)
    for name in waits_for(trigger, spec):
        if name in skipped:
            continue
        result = results.get(name)
        if result is None:
            raise ConfigurationError(
                f"trigger {trigger.name!r} waits for {name!r}, which does not hold the image: clear `replicate` there"
            )
        connection = next(rule.to for rule in spec.replicate if rule.name == name)
        with OciRegistryHook(connection).client() as client:
            if client.head_manifest(result.name, digest) is None:
                raise DeliveryUnavailable(
                    f"{result.host}/{result.name} does not hold {short_digest(digest)} any more"
                )
    return {
        name: f"{result.host}/{result.name}@{result.digest}"
        for name, result in results.items()
        if result.digest == digest
    }


def _skipped_rules(ti: Any, spec: ChainSpec) -> set[str]:
    """Rules that are not for this image: their regions are not waited for. Decided from data, not from states."""
    from delivery_chain.core.spec.filters import destination
    from delivery_chain.operators.base import planned

    plan, _ = planned(ti)
    published = pull(ti, Step.PUBLISH, Published)
    held = published.held if published else ()
    return {
        rule.name
        for rule in spec.replicate
        if isinstance(destination(spec, rule, plan.repository, held), str)
    }


def headers_for(target: WebhookTarget, delivery: Delivery, now: datetime) -> dict[str, str]:
    """Headers of one delivery; signed where the connection has a secret.

    Source: Standard Webhooks specification, "Webhook headers (sending metadata to consumers)".
    """
    headers = {
        "User-Agent": "airflow-delivery-chain",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(now.timestamp())),
    }
    if delivery.method == "POST":
        headers["Content-Type"] = "application/json"
    if target.secret:
        from standardwebhooks import Webhook

        signed = delivery.body.decode() if delivery.method == "POST" else ""
        headers["webhook-signature"] = Webhook(target.secret).sign(delivery.id, now, signed)
    return headers


def send(target: WebhookTarget, delivery: Delivery) -> tuple[Attempt, float | None]:
    """Send once; redirects are not followed, for they would take the secret to another host.

    Returns:
        What came of it, and the seconds the target asked to wait, if it did.
    """
    import requests
    from urllib3.exceptions import HTTPError

    now = datetime.now(UTC)
    began = time.monotonic()
    status, answer, wait = 0, "", None
    try:
        with (
            verified_session(target) as session,
            session.request(
                delivery.method,
                target.url,
                data=delivery.body if delivery.method == "POST" else None,
                headers=headers_for(target, delivery, now),
                timeout=target.timeout,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            status = response.status_code
            answer = _first_bytes(response, began + target.timeout, ANSWER_BYTES + len(target.url))
            after = response.headers.get("Retry-After", "")
            wait = min(float(after), 3600.0) if after.isascii() and after.isdecimal() else None
    except requests.Timeout:
        answer = f"no answer within {target.timeout:g} s"
    except requests.RequestException as error:
        answer = f"no connection: {type(error).__name__}"
    except HTTPError as error:
        answer = f"the answer broke off: {type(error).__name__}"
    attempt = Attempt(
        at=now,
        tag=delivery.tag,
        seconds=round(time.monotonic() - began, 3),
        status=status,
        answer=_without_secrets(answer, target)[:ANSWER_BYTES],
    )
    return attempt, wait


def _first_bytes(response: Any, until: float, most: int) -> str:
    """At most `most` bytes of an answer, and not longer than `until`: a target may drip for ever."""
    got = b""
    # `read1` gives what has come; `iter_content` would wait for a whole chunk, a timeout for each byte of it.
    while len(got) < most and time.monotonic() < until:
        chunk = response.raw.read1(most, decode_content=True)
        if not chunk:
            break
        got += chunk
    return got[:most].decode("utf-8", "replace")


def _without_secrets(answer: str, target: WebhookTarget) -> str:
    """The answer without the values of the URL's query: many a server's error page repeats the address."""
    pairs = urlsplit(target.url).query.split("&")
    values = [pair.partition("=")[2] or pair for pair in pairs]
    hidden = {*values, *map(unquote_plus, values), target.secret, target.secret.removeprefix("whsec_")}
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) >= SHORTEST_HIDDEN:
            answer = answer.replace(value, "***")
    return answer


def verified_session(target: WebhookTarget) -> Any:
    """A session that trusts the connection's own CA, where it has one."""
    import requests

    session = requests.Session()
    # The proxies of the environment, but no credentials from ~/.netrc: those are the connection's alone.
    session.trust_env = True
    session.auth = lambda request: request
    if target.ca_certificate:
        import ssl

        from requests.adapters import HTTPAdapter

        tls = ssl.create_default_context(cadata=target.ca_certificate)

        class OwnCa(HTTPAdapter):
            def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
                super().init_poolmanager(*args, ssl_context=tls, **kwargs)

        session.mount("https://", OwnCa())
    return session


def _told(attempt: Attempt) -> str:
    return f"{attempt.status or 'no answer'} in {attempt.seconds} s: {attempt.answer[:200]!r}"


def _check(trigger: str, url: str, attempt: Attempt, retry_after: float | None) -> None:
    if attempt.status in DELIVERED:
        return
    what = f"trigger {trigger!r}: {url} did not take the delivery of {attempt.tag}: {_told(attempt)}"
    if attempt.status in (0, TOO_MANY) or attempt.status >= SERVER_ERROR:
        raise DeliveryUnavailable(what, retry_after=retry_after)
    hint = "look at the connection's address and secret"
    if attempt.status in REDIRECTS:
        hint = "redirects are not followed: put the final address into the connection"
    raise DeliveryFailed(f"{what}; {hint}")
