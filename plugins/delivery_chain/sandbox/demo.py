"""Runs `sandbox demo`: pushes one release that passes the gate and one that does not, and shows both outcomes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery_chain.core.dags import SOURCE_TAG
from delivery_chain.core.steps import STEPS, Step
from delivery_chain.errors import AirflowUnreachable, ToolError
from delivery_chain.sandbox import outcome, processes, record, runs, source, stack
from delivery_chain.sandbox.console import seconds
from delivery_chain.sandbox.layout import load_secrets
from delivery_chain.sandbox.progress import Waiting
from delivery_chain.sandbox.receiver import read_deliveries
from delivery_chain.sandbox.registries import HOME
from delivery_chain.sandbox.status import login

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from delivery_chain.sandbox.api import AirflowApi
    from delivery_chain.sandbox.console import Console
    from delivery_chain.sandbox.layout import Layout
    from delivery_chain.sandbox.runs import Instance
    from delivery_chain.sandbox.source import Push

CHAIN = "shop-api"
APPLICATION = "api"
IMAGE = f"{source.NAMESPACE}/{APPLICATION}"
QUARANTINE = f"{source.NAMESPACE}-quarantine/{APPLICATION}"
POLL_SECONDS = 0.5


@dataclass(slots=True)
class Watched:
    """One push and the run that it started."""

    push: Push
    run_id: str = ""
    """Id of the run; empty until the run exists."""
    state: str = ""
    instances: list[Instance] = field(default_factory=list)
    values: dict[tuple[str, int], Any] = field(default_factory=dict)
    """The tasks' XComs by task and map index, once the run has finished."""

    @property
    def title(self) -> str:
        """`v1.1.0 vulnerable`."""
        return f"{self.push.name} {'vulnerable' if self.push.vulnerable else 'clean'}"

    @property
    def doing(self) -> str:
        """`v1.1.0 vulnerable (build, scan)`."""
        open_ = [step.task for step in runs.fold(self.instances) if step.state not in runs.FINISHED | {""}]
        where = ", ".join(open_) or "between two steps"
        return f"{self.title} ({where if self.run_id else 'no run yet'})"

    @property
    def is_over(self) -> bool:
        """Whether the run and each of its tasks have ended."""
        return self.state in runs.RUN_FINISHED and all(one.state in runs.FINISHED for one in self.instances)


@dataclass(frozen=True, slots=True)
class Seen:
    """The outcome of one push, read back from the registries."""

    title: str
    state: str
    """State of the run."""
    ended_at: str
    """The first step that failed; empty if none did."""
    digests: Mapping[str, str]
    """Digest of the tag by region; empty in a region without the tag."""
    quarantined: tuple[str, ...] = ()
    """Tags in the quarantine repository."""


def run_demo(layout: Layout, options: stack.Options, console: Console) -> bool:
    """Bring the sandbox up, push both releases, follow their runs, and print the outcomes.

    Returns:
        Whether the clean release is in every region, and the vulnerable one in none.

    Raises:
        DeliveryChainError: The sandbox did not start, or a push started no run.
    """
    sandbox = stack.up(layout, options, console)
    known = len(read_deliveries(layout.deliveries))
    minor = source.next_minor(source.tags(layout, APPLICATION))
    console.line()
    watched = []
    for number, vulnerable in ((minor, False), (minor + 1, True)):
        with Waiting(console, "git and its hook"):
            made = source.push(layout, APPLICATION, tag=f"v1.{number}.0", vulnerable=vulnerable)
        watched.append(Watched(made))
        console.line(f"pushed {IMAGE} {watched[-1].title}, commit {watched[-1].push.commit[:12]}")
    secrets = load_secrets(layout)
    with sandbox.api(patient=False) as api:
        watch(api, watched, sandbox, options.timeout)
    with sandbox.api() as api:
        for one in watched:
            read_values(api, one)
            print_record(one, console)
    clean, blocked = (read_back(sandbox, one) for one in watched)
    print_outcome(clean, blocked, console)
    print_deliveries(outcome.deliveries(read_deliveries(layout.deliveries)[known:], secrets), console)
    problems = judge(clean, blocked)
    for problem in problems:
        console.line(console.paint(f"WRONG: {problem}", "red"))
    if not problems:
        console.line(
            console.paint(
                f"{clean.title} is in all {len(clean.digests)} regions under one digest; "
                f"{blocked.title} is under its tag in none.",
                "green",
            )
        )
    console.line()
    login(sandbox)
    console.line(f"Stop        {layout.command('down')}")
    return not problems


def watch(api: AirflowApi, watched: Sequence[Watched], sandbox: stack.Stack, patience: float) -> None:
    """Follow the runs until they finish: on a terminal, redraw a table; elsewhere, print a line per change.

    Requests that Airflow does not answer are retried while every service of the sandbox runs.

    Args:
        api: Airflow's API, which is polled.
        watched: The pushes; their runs are filled in.
        sandbox: The sandbox, for its processes and console.
        patience: Timeout in seconds.

    Raises:
        ToolError: A service exited, or a run did not start or finish in time; the message says where to look.
    """
    console, begin = sandbox.console, time.monotonic()
    with Waiting(console, "") as waiting:
        while True:
            passed = time.monotonic() - begin
            with contextlib.suppress(AirflowUnreachable):
                _refresh(api, watched, console, passed)
            titles = [f"{one.title} {one.state}" for one in watched]
            console.redraw(runs.board(titles, [runs.fold(one.instances) for one in watched]))
            if all(one.is_over for one in watched):
                return
            waiting.what = "" if console.live else "; ".join(one.doing for one in watched if not one.is_over)
            _check_alive(sandbox)
            if passed > patience:
                raise _late(api, watched, patience)
            time.sleep(POLL_SECONDS)


def _refresh(api: AirflowApi, watched: Sequence[Watched], console: Console, passed: float) -> None:
    found = {run["conf"].get("commit"): run for run in api.runs(CHAIN) if run.get("conf")}
    for one in watched:
        run = found.get(one.push.commit)
        if run is None or one.is_over:
            continue
        instances = runs.read_instances(api.task_instances(CHAIN, run["dag_run_id"]))
        if not console.live:
            for change in runs.changes(one.instances, instances):
                console.line(f"{passed:6.1f} s  {one.push.name}  {change}")
        one.run_id, one.state, one.instances = run["dag_run_id"], run["state"], instances


def _check_alive(sandbox: stack.Stack) -> None:
    if ended := sandbox.ended:
        raise ToolError(
            f"{', '.join(ended)}: exited; `{sandbox.layout.command('up')}` restarts it, and the runs resume",
            tool="sandbox",
            output=processes.tail(sandbox.layout.log(ended[0])),
        )


def _late(api: AirflowApi, watched: Sequence[Watched], patience: float) -> ToolError:
    longer = "`--timeout SECONDS` waits longer"
    if unseen := [one.title for one in watched if not one.run_id]:
        errors = api.import_errors()
        return ToolError(
            f"{', '.join(unseen)}: {seconds(patience)} after the push, {CHAIN} has no run for it; {longer}; check "
            f"the runs of the Dags with the tag {SOURCE_TAG}. "
            f"{'Dag files that Airflow could not parse:' if errors else 'All Dag files were parsed.'}",
            tool="airflow",
            output=errors,
        )
    late = [one.doing for one in watched if not one.is_over]
    return ToolError(
        f"{'; '.join(late)}: not done after {seconds(patience)}; {longer}; see its run in Airflow",
        tool="airflow",
    )


def read_values(api: AirflowApi, one: Watched) -> None:
    """Read the XComs of a finished run's tasks."""
    for instance in one.instances:
        value = api.xcom(CHAIN, one.run_id, instance.task, map_index=instance.index)
        if value is not None:
            one.values[instance.task, instance.index] = value


def print_record(one: Watched, console: Console) -> None:
    """Print each step of a run, mapped instances separately, and the findings that blocked it."""
    console.line()
    console.line(console.paint(f"{one.title}: run {one.state}", "bold"))
    console.table(record.rows(one.instances, one.values))
    for line in record.deciding(one.values):
        console.line(f"  {line}")


def read_back(sandbox: stack.Stack, one: Watched) -> Seen:
    """Read the outcome of a push from the registries."""
    registries = sandbox.registries()
    states = {instance.task: instance.state for instance in one.instances}
    failed = [task for task in STEPS if states.get(task) == "failed"]
    kept = outcome.tags(registries[HOME], QUARANTINE)
    return Seen(
        title=one.push.name,
        state=one.state,
        ended_at=next(iter(failed), ""),
        digests=outcome.digests(registries, IMAGE, one.push.name),
        quarantined=tuple(tag for tag in kept if tag.startswith(f"{one.push.name}.")),
    )


def judge(clean: Seen, blocked: Seen) -> list[str]:
    """List the ways in which the outcomes differ from what is expected; empty if none."""
    problems = []
    if clean.state != "success":
        problems.append(
            f"{clean.title}: expected a run that succeeds, found {clean.state} at {clean.ended_at}"
        )
    if "" in clean.digests.values() or len(set(clean.digests.values())) != 1:
        problems.append(f"{clean.title}: expected one digest in every region, found {dict(clean.digests)}")
    if (blocked.state, blocked.ended_at) != ("failed", Step.DENIED):
        at = f" at {blocked.ended_at}" if blocked.ended_at else ""
        problems.append(f"{blocked.title}: expected a run that fails at denied, found {blocked.state}{at}")
    if there := [region for region, digest in blocked.digests.items() if digest]:
        problems.append(f"{blocked.title}: expected its tag nowhere, found it in {', '.join(there)}")
    return problems


def print_outcome(clean: Seen, blocked: Seen, console: Console) -> None:
    """Print the digests read from the registries, by region."""
    console.line()
    console.line(console.paint("Read back from the registries", "bold"))
    rows = [("region", f"{IMAGE}:{clean.title}", f"{IMAGE}:{blocked.title}")]
    for region, digest in clean.digests.items():
        rows.append((region, digest or "absent", blocked.digests[region] or "absent"))
    console.table(rows)
    for tag in blocked.quarantined:
        console.line(f"  quarantined as {QUARANTINE}:{tag} in {HOME}")


def print_deliveries(deliveries: Sequence[outcome.Delivery], console: Console) -> None:
    """Print the deliveries that the webhook receiver got."""
    console.line()
    console.line(console.paint("Deliveries that arrived", "bold"))
    rows = [("time (UTC)", "to", "image", "signature")]
    rows += [
        (one.received[11:19], one.stage, one.image, "right" if one.signed else "WRONG") for one in deliveries
    ]
    if deliveries:
        console.table(rows)
    else:
        console.line("  none")
    console.line()
