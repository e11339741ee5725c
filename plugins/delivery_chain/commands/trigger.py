"""`delivery-chain trigger`: starts a chain's run over Airflow's REST API, from any machine."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from delivery_chain.commands.exit_codes import DONE, FAILED, UNREACHABLE, exit_code
from delivery_chain.commands.run_wait import LONGEST_NOTE, SERVER_ERROR, TOO_MANY, run_path, wait
from delivery_chain.core.dags import CHAIN_TAG
from delivery_chain.core.events.event import event_of_options
from delivery_chain.core.names.git_ref import short_ref
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

URL = "AIRFLOW_API_URL"
"""The environment variable with Airflow's address."""
WAIT_SECONDS = 3600.0
CONFLICT = 409
_CHAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,249}")
_RUN_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.~:+-]{1,250}")
"""Ids that Airflow accepts: `[scheduler] allowed_run_id_pattern`."""
_ABOUT = f"""\
Start a run over Airflow's REST API, from any machine. The login comes only from the environment:
AIRFLOW_API_TOKEN, or AIRFLOW_API_USERNAME and AIRFLOW_API_PASSWORD. The address is --url or {URL}.
Exit codes. 0: the run was started or already exists; with --wait, its image was delivered. 1: the chain does not take
the event, and nothing was started; with --wait, the run ended in any other way (partly delivered, blocked, superseded
by a newer push, built before, not for this chain, refused, cancelled, failed), or its state was set by hand. 2: wrong
usage or no login; nothing was sent. 3: Airflow can't be reached or refused the request, or the run did not end in
time."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = _ABOUT
    parser.add_argument("chain", metavar="CHAIN")
    source = parser.add_argument_group("what to build")
    source.add_argument("--ref", default="", help="branch or tag: v1.2.0, refs/heads/main")
    source.add_argument("--rule", default="", help="build rule; by default the one that matches")
    source.add_argument(
        "--commit",
        default="",
        help="full commit id; an older one is rebuilt without moving tags away from newer images",
    )
    image = parser.add_argument_group("or the existing image to deliver")
    image.add_argument(
        "--repository", default="", help="repository in the chain's scope, without the namespace"
    )
    image.add_argument("--tag", default="", help="the image's tag")
    image.add_argument("--digest", default="", help="sha256:…; instead of the tag or in addition to it")
    parser.add_argument("--no-announce", action="store_true", help="fire no trigger at the end of the run")
    parser.add_argument(
        "--run-id",
        default="",
        metavar="ID",
        help="make the command idempotent: one id starts only one run",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait until the run finishes; print its state and note"
    )
    parser.add_argument(
        "--timeout", type=float, default=WAIT_SECONDS, metavar="SECONDS", help="for --wait (%(default)g)"
    )
    parser.add_argument("--url", default="", help=f"Airflow's address, as in a browser (default: {URL})")
    parser.add_argument("--allow-http", action="store_true", help="allow sending the login over plain HTTP")
    parser.set_defaults(func=_trigger)


def _trigger(args: argparse.Namespace) -> int:
    try:
        return _start(args)
    except (UsageError, ConfigurationError, ToolError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return exit_code(error)
    except KeyboardInterrupt:
        print("interrupted; a run already started continues", file=sys.stderr)  # noqa: T201
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
            print(f"{chain} does not take this event, nothing was started: {reason}", file=sys.stderr)  # noqa: T201
            return FAILED
        word = start(server, chain, run_id, conf)
        # Flushed at once, even into a pipe: the run continues whatever happens to the wait.
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


def conf_of(args: argparse.Namespace) -> dict[str, Any]:
    """The run's `conf`, checked as the chain's first step will check it.

    Raises:
        UsageError: Options are wrong; the message names all of them.
    """
    names = ("ref", "rule", "commit", "repository", "tag", "digest")
    said = {name: getattr(args, name).strip() for name in names} | {"announce": not args.no_announce}
    return event_of_options(said, {name: name for name in names}).to_conf()


def _checked(args: argparse.Namespace, conf: dict[str, Any]) -> tuple[str, str]:
    """Return the chain's name and the run's id."""
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
    """Generate the run id on the client, so that a request that got no response can be retried safely."""
    about = (
        short_ref(conf.get("ref", ""))[1]
        or conf.get("tag")
        or conf.get("digest", "")[:19]
        or conf.get("rule", "")
    )
    readable = re.sub(r"[^A-Za-z0-9_.-]+|\.{2,}", "-", about)[:80]
    return f"cli__{readable or 'any'}__{datetime.now(UTC):%Y%m%dT%H%M%S}__{secrets.token_hex(4)}"


def refusal(server: AirflowServer, chain: str, conf: dict[str, Any]) -> str:
    """Ask the plugin whether the chain would refuse the event.

    Returns:
        The reason; empty if the chain takes the event, or if the plugin can't be asked: then the run itself refuses.

    Raises:
        ToolError: The server does not respond, or rejects the login. Nothing was started.
    """
    path = f"/chains/{part(chain)}/takes"
    server.log_in()
    try:
        answer = server.call("GET", path, query={"conf": json.dumps(conf)}, below=PAGES)
    except AirflowUnreachable:
        raise
    except ToolError:
        # A proxy may allow only browsers to reach the pages.
        return ""
    if answer.data.get("detail") == f"no chain {chain}" and _is_other_dag(server, chain):
        raise ToolError(f"{server.address}: {_no_such(server, chain)}", tool="airflow")
    reason = answer.data.get("refused") if answer.ok else ""
    return clean(reason, LONGEST_NOTE) if isinstance(reason, str) else ""


def start(server: AirflowServer, chain: str, run_id: str, conf: dict[str, Any]) -> str:
    """Request the run.

    Returns:
        `started`, or `exists` if a run with this id exists.

    Raises:
        ToolError: Airflow refused it, or did not respond.
    """
    body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
    again = f"to retry without the risk of a second run, add --run-id {run_id}"
    try:
        answer = server.call("POST", f"/dags/{part(chain)}/dagRuns", body=body)
    except AirflowUnreachable as error:
        raise AirflowUnreachable(f"{error}\n{again}", tool="airflow") from error
    if answer.ok and answer.data.get("dag_run_id") == run_id:
        return "started"
    if answer.status == CONFLICT and server.call("GET", run_path(chain, run_id)).ok:
        return "exists"
    return _refused(server, chain, answer, again)


def _refused(server: AirflowServer, chain: str, answer: Answer, again: str) -> NoReturn:
    where = f"{server.address}: chain {chain!r}"
    if answer.status == FORBIDDEN:
        what = f"this login may not start runs (status 403: {answer.text}); it needs the right to create Dag runs"
    elif answer.status == NOT_FOUND:
        where, what = server.address, _no_such(server, chain)
    elif answer.status == TOO_MANY or answer.status >= SERVER_ERROR:
        what = f"Airflow failed or is busy (status {answer.status}: {answer.text}); {again}"
    elif answer.ok:
        what = "the response is not from Airflow's REST API; expected the address of the UI's first page"
    else:
        what = f"Airflow refused the run (status {answer.status}): {answer.text}"
    raise ToolError(f"{where}: {what}", tool="airflow")


def _is_other_dag(server: AirflowServer, chain: str) -> bool:
    """Whether a Dag of that name exists that is no chain; it would accept any `conf`."""
    answer = server.call("GET", f"/dags/{part(chain)}")
    tags = answer.data.get("tags")
    return (
        answer.ok
        and isinstance(tags, list)
        and CHAIN_TAG not in [tag.get("name") for tag in tags if isinstance(tag, dict)]
    )


def _no_such(server: AirflowServer, chain: str) -> str:
    """Explain a 404: list the existing chains, or say that this is not an Airflow."""
    answer = server.call("GET", "/dags", query={"tags": CHAIN_TAG, "limit": 100, "order_by": "dag_id"})
    dags = answer.data.get("dags")
    if not answer.ok or not isinstance(dags, list):
        return (
            f"no Airflow REST API at /api/v2 (status {answer.status}); expected the address of the UI's first page, "
            "including its path, if any"
        )
    names = [str(dag.get("dag_id")) for dag in dags if isinstance(dag, dict)]
    more = ", …" if answer.data.get("total_entries", 0) > len(names) else ""
    seen = (
        f"chains visible to this login: {', '.join(names)}{more}"
        if names
        else "no chains are visible to this login"
    )
    return f"no chain {chain!r}; {seen}"


def is_paused(server: AirflowServer, chain: str) -> bool:
    """Whether the chain's Dag is paused; False if unknown, because the run exists in any case."""
    try:
        return server.call("GET", f"/dags/{part(chain)}").data.get("is_paused") is True
    except ToolError:
        return False
