"""The command `delivery-chain trigger`: start a chain's run over Airflow's REST API, from any machine."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from delivery_chain.commands.exit_codes import DONE, FAILED, UNREACHABLE, USAGE
from delivery_chain.core.dags import CHAIN_TAG
from delivery_chain.core.events.event import event_of_options
from delivery_chain.core.names.git_ref import short_ref
from delivery_chain.core.run.state import WARNING, End
from delivery_chain.core.web_paths import PAGES
from delivery_chain.errors import AirflowUnreachable, ConfigurationError, ToolError, UsageError
from delivery_chain.tools.airflow_rest import (
    FORBIDDEN,
    NOT_FOUND,
    AirflowServer,
    Answer,
    Login,
    check_address,
    clean,
    part,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

"""Where the plugin's own pages are on Airflow's server."""
URL = "AIRFLOW_API_URL"
"""Tag of every chain's Dag."""
WAIT_SECONDS = 3600.0
FIRST_POLL, SLOWEST_POLL = 0.5, 5.0
"""Seconds between two looks at a run: they get longer."""
SUCCESS = "success"
ENDED = (SUCCESS, "failed")
"""States of a run that has ended."""
DELIVERED = "delivered"
"""First word of the outcome that alone is exit code 0."""
LONGEST_NOTE = 1000
"""Characters; Airflow takes no longer one."""
ENDS = (*(str(end) for end in End), WARNING)
"""What notes of ours begin with."""
CONFLICT, TOO_MANY, SERVER_ERROR = 409, 429, 500
_CHAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,249}")
_RUN_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.~:+-]{1,250}")
"""What Airflow takes: `[scheduler] allowed_run_id_pattern`."""
_ABOUT = f"""\
Start a run over Airflow's REST API, from any machine. The login comes from the environment only:
AIRFLOW_API_TOKEN, or AIRFLOW_API_USERNAME and AIRFLOW_API_PASSWORD. The address is --url or {URL}.
Exit code: 0 the run was started, is there already, or (--wait) delivered its image; 1 it ended in any other way:
partly delivered, blocked, superseded by a newer push, not for this chain, refused, cancelled, failed, or marked by
hand as what it was not; or the chain takes no such event and nothing was started;
2 wrong usage, nothing was sent; 3 Airflow can't be reached, refused, or the run did not end in time."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = _ABOUT
    parser.add_argument("chain", metavar="CHAIN")
    source = parser.add_argument_group("what to build, in place of a push")
    source.add_argument("--ref", default="", help="branch or tag: v1.2.0, refs/heads/main")
    source.add_argument("--rule", default="", help="build rule; the one that matches if left out")
    source.add_argument(
        "--commit",
        default="",
        help="full commit id; an older one of the ref is rebuilt without moving tags of others",
    )
    image = parser.add_argument_group("or an image that is there already")
    image.add_argument("--repository", default="", help="of the chain's scope, without the namespace")
    image.add_argument("--tag", default="", help="the image's tag")
    image.add_argument("--digest", default="", help="sha256:…; instead of the tag, or together with it")
    parser.add_argument("--no-announce", action="store_true", help="fire no trigger at the run's end")
    parser.add_argument("--run-id", default="", metavar="ID", help="the same id twice makes one run")
    parser.add_argument(
        "--wait", action="store_true", help="until the run has ended; prints its state and note"
    )
    parser.add_argument(
        "--timeout", type=float, default=WAIT_SECONDS, metavar="SECONDS", help="of --wait (%(default)g)"
    )
    parser.add_argument("--url", default="", help=f"Airflow's address, as in a browser; else {URL}")
    parser.add_argument("--allow-http", action="store_true", help="send the login over plain http")
    parser.set_defaults(func=_trigger)


def _trigger(args: argparse.Namespace) -> int:
    try:
        return _start(args)
    except (UsageError, ConfigurationError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return USAGE
    except ToolError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return UNREACHABLE
    except KeyboardInterrupt:
        print("interrupted; a run that was started goes on", file=sys.stderr)  # noqa: T201
        return UNREACHABLE


def _start(args: argparse.Namespace) -> int:
    conf = conf_of(args)
    chain, run_id = _checked(args, conf)
    url = args.url or os.environ.get(URL, "")
    if not url:
        raise UsageError(f"Airflow's address is missing: give --url, or set {URL}")
    address = check_address(url, allow_http=args.allow_http)
    with AirflowServer(address, Login.from_environment(os.environ)) as server:
        if reason := refusal(server, chain, conf):
            print(f"{chain} takes no such event, nothing was started: {reason}", file=sys.stderr)  # noqa: T201
            return FAILED
        word = start(server, chain, run_id, conf)
        # Said at once, also into a pipe: the run goes on whatever becomes of the wait.
        print(f"{word}  {run_id}  {address}/dags/{part(chain)}/runs/{part(run_id)}", flush=True)  # noqa: T201
        if is_paused(server, chain):
            print(  # noqa: T201
                f"{chain} is paused: its run stays queued until the Dag is unpaused in the UI",
                file=sys.stderr,
            )
        if not args.wait:
            return DONE
        ended = wait(server, chain, run_id, until=time.monotonic() + args.timeout)
    print(f"{ended.state}  {ended.sentence}".rstrip())  # noqa: T201
    return DONE if ended.delivered else FAILED


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    state: str
    """Airflow's: `success` or `failed`."""
    sentence: str
    delivered: bool
    """Whether its image is proven to be where it should be, and told to all that should know."""


def conf_of(args: argparse.Namespace) -> dict[str, Any]:
    """The run's `conf`, checked as the chain's first step will check it.

    Raises:
        UsageError: With every wrong option.
    """
    names = ("ref", "rule", "commit", "repository", "tag", "digest")
    said = {name: getattr(args, name).strip() for name in names} | {"announce": not args.no_announce}
    return event_of_options(said, {name: name for name in names}).to_conf()


def _checked(args: argparse.Namespace, conf: dict[str, Any]) -> tuple[str, str]:
    """The chain's name and the run's id."""
    if not _CHAIN.fullmatch(args.chain):
        raise UsageError(f"chain {args.chain[:300]!r}: expected a chain's name such as shop-api")
    if args.run_id and not _RUN_ID.fullmatch(args.run_id):
        raise UsageError(
            f"--run-id {args.run_id[:300]!r}: expected at most 250 characters of [A-Za-z0-9_.~:+-], and no '..'"
        )
    if not args.timeout > 0:
        raise UsageError(f"--timeout {args.timeout:g}: expected seconds above 0")
    return args.chain, args.run_id or _new_run_id(conf)


def _new_run_id(conf: dict[str, Any]) -> str:
    """An id of our own: whoever gets no answer can send the same again."""
    about = (
        short_ref(conf.get("ref", ""))[1]
        or conf.get("tag")
        or conf.get("digest", "")[:19]
        or conf.get("rule", "")
    )
    readable = re.sub(r"[^A-Za-z0-9_.-]+|\.{2,}", "-", about)[:80]
    return f"cli__{readable or 'any'}__{datetime.now(UTC):%Y%m%dT%H%M%S}__{secrets.token_hex(4)}"


def refusal(server: AirflowServer, chain: str, conf: dict[str, Any]) -> str:
    """Why the chain would refuse the event.

    Returns:
        Empty where it takes it, and where that can't be asked: then the run itself says so.

    Raises:
        ToolError: The server does not answer, or not to this login. Nothing was started.
    """
    path = f"/chains/{part(chain)}/takes"
    server.log_in()
    try:
        answer = server.call("GET", path, query={"conf": json.dumps(conf)}, below=PAGES)
    except AirflowUnreachable:
        raise
    except ToolError:
        # A proxy may let nobody but browsers to the pages.
        return ""
    reason = answer.data.get("refused") if answer.ok else ""
    return clean(reason, LONGEST_NOTE) if isinstance(reason, str) else ""


def start(server: AirflowServer, chain: str, run_id: str, conf: dict[str, Any]) -> str:
    """Ask for the run.

    Returns:
        `started`, or `exists` where a run of this id is there.

    Raises:
        ToolError: Airflow did not take it, or did not answer.
    """
    body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
    again = f"to try again without the risk of a second run, add --run-id {run_id}"
    try:
        answer = server.call("POST", f"/dags/{part(chain)}/dagRuns", body=body)
    except AirflowUnreachable as error:
        raise AirflowUnreachable(f"{error}\n{again}", tool="airflow") from error
    if answer.ok and answer.data.get("dag_run_id") == run_id:
        return "started"
    if answer.status == CONFLICT and server.call("GET", _path(chain, run_id)).ok:
        return "exists"
    return _refused(server, chain, answer, again)


def _refused(server: AirflowServer, chain: str, answer: Answer, again: str) -> NoReturn:
    where = f"{server.address}: chain {chain!r}"
    if answer.status == FORBIDDEN:
        what = f"this login may not start runs (status 403: {answer.text}); it needs the right to create Dag runs"
    elif answer.status == NOT_FOUND:
        where, what = server.address, _no_such(server, chain)
    elif answer.status == TOO_MANY or answer.status >= SERVER_ERROR:
        what = f"Airflow fails or is busy (status {answer.status}: {answer.text}); {again}"
    elif answer.ok:
        what = "the answer is none of Airflow's REST API; the address is that of the UI's first page"
    else:
        what = f"Airflow refuses the run (status {answer.status}): {answer.text}"
    raise ToolError(f"{where}: {what}", tool="airflow")


def _no_such(server: AirflowServer, chain: str) -> str:
    """Why there was a 404: the chains that are there, or that this is no Airflow."""
    answer = server.call("GET", "/dags", query={"tags": CHAIN_TAG, "limit": 100, "order_by": "dag_id"})
    dags = answer.data.get("dags")
    if not answer.ok or not isinstance(dags, list):
        return (
            f"no Airflow REST API at /api/v2 (status {answer.status}); the address is that of the UI's first page, "
            "with its path if it has one"
        )
    names = [str(dag.get("dag_id")) for dag in dags if isinstance(dag, dict)]
    more = ", …" if answer.data.get("total_entries", 0) > len(names) else ""
    seen = (
        f"chains that this login sees: {', '.join(names)}{more}"
        if names
        else "this login sees no chain at all"
    )
    return f"no chain {chain!r}; {seen}"


def is_paused(server: AirflowServer, chain: str) -> bool:
    """Whether the chain's Dag is paused; False where that can't be found out, for the run is there all the same."""
    try:
        return server.call("GET", f"/dags/{part(chain)}").data.get("is_paused") is True
    except ToolError:
        return False


def wait(
    server: AirflowServer,
    chain: str,
    run_id: str,
    *,
    until: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Ended:
    """Wait until the run has ended. A server that is away or failing for a while is asked again.

    Args:
        server: Where the run is.
        chain: Its chain.
        run_id: Its id.
        until: Point on the clock of `time.monotonic()`, seconds.
        sleep: Seconds in.

    Returns:
        How it ended: its outcome, or where the plugin's pages are not to be reached, its state and note.

    Raises:
        ToolError: The time is over, the run is gone, or Airflow refuses to tell.
    """
    pause = FIRST_POLL
    while True:
        state, note = _look(server, chain, run_id)
        if state in ENDED:
            return _outcome(server, chain, run_id) or _by_note(state, note)
        left = until - time.monotonic()
        if left <= 0:
            said = _told(server, chain, run_id).get("sentence")
            why = f" ({clean(said, LONGEST_NOTE)})" if isinstance(said, str) and said else ""
            raise ToolError(
                f"{chain}: run {run_id} has not ended in time, last seen {state}{why}; it goes on",
                tool="airflow",
            )
        sleep(min(pause, left))
        pause = min(pause * 1.5, SLOWEST_POLL)


def _outcome(server: AirflowServer, chain: str, run_id: str) -> Ended | None:
    """What the plugin says of a run that ended; None where it is not there, does not answer, or says something else."""
    told = _told(server, chain, run_id)
    said, state = told.get("sentence"), told.get("state")
    if not isinstance(said, str) or state not in ENDED:
        return None
    whole = told.get("end") == DELIVERED and told.get("good") is True
    return Ended(str(state), clean(said, LONGEST_NOTE), whole)


def _told(server: AirflowServer, chain: str, run_id: str) -> dict[str, Any]:
    """What the plugin says of a run; empty where it is not there, or does not answer."""
    try:
        answer = server.call("GET", f"/runs/{part(chain)}/{part(run_id)}/outcome", below=PAGES)
    except ToolError:
        return {}
    return answer.data if answer.ok else {}


def _by_note(state: str, note: str) -> Ended:
    """The same from what Airflow alone says: a note of ours begins with the end, and one that people wrote does not."""
    ours = note.startswith(ENDS)
    return Ended(state, note, state == SUCCESS and (not ours or note.startswith(DELIVERED)))


def _look(server: AirflowServer, chain: str, run_id: str) -> tuple[str, str]:
    try:
        answer = server.call("GET", _path(chain, run_id))
    except AirflowUnreachable as error:
        return f"nowhere: {error}", ""
    if answer.ok and isinstance(answer.data.get("state"), str):
        return answer.data["state"], clean(str(answer.data.get("note") or ""), LONGEST_NOTE)
    if answer.ok or answer.status == TOO_MANY or answer.status >= SERVER_ERROR:
        return f"nowhere: status {answer.status} {answer.text}", ""
    raise ToolError(
        f"{server.address}: run {run_id} of {chain!r} can't be seen (status {answer.status}): {answer.text}",
        tool="airflow",
    )


def _path(chain: str, run_id: str) -> str:
    return f"/dags/{part(chain)}/dagRuns/{part(run_id)}"
