"""The command `delivery-chain webhook`: make the connection of a sender, and say what to set at the sender."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from delivery_chain.airflow_rest import AirflowServer, Answer, Login, check_address
from delivery_chain.errors import ConfigurationError, ToolError, UsageError
from delivery_chain.senders.setup import IN_ADDRESS, OWN_SECRET, SETUP

if TYPE_CHECKING:
    import argparse

FINE, USAGE, UNREACHABLE = 0, 2, 3
URL = "AIRFLOW_API_URL"
SECRET = "DELIVERY_CHAIN_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
CONFLICT = 409
_FIT = re.compile(r"[!-~]{16,1000}")
"""As `delivery_chain.hooks.webhook_sender` takes it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}")
_ABOUT = f"""\
Make the Airflow connection of a sender of webhooks, with a new secret, and print what to set at the sender.
Runs on any machine: the address is --url or {URL}, the login AIRFLOW_API_TOKEN, or AIRFLOW_API_USERNAME and
AIRFLOW_API_PASSWORD. A secret that the sender made is taken from {SECRET}.
Exit code: 0 it is there now; 2 wrong usage, nothing was sent; 3 Airflow can't be reached, or refused."""


def register(commands: Any) -> None:
    """Add the command to `delivery-chain`."""
    parser = commands.add_parser(
        "webhook", help="let a forge or registry start chains by webhook", description=_ABOUT
    )
    parser.add_argument("connection", metavar="CONNECTION", help="a new connection's id; part of the address")
    parser.add_argument("--sender", required=True, choices=sorted(SETUP), help="who sends")
    parser.add_argument(
        "--speaks-for",
        required=True,
        metavar="CONNECTION[,…]",
        help="git or registry connections whose pushes it tells",
    )
    parser.add_argument("--url", default="", help=f"Airflow's address, as in a browser; else {URL}")
    parser.add_argument("--allow-http", action="store_true", help="send the login over plain http")
    parser.set_defaults(func=_webhook)


def _webhook(args: argparse.Namespace) -> int:
    try:
        lines = add(args, os.environ)
    except (UsageError, ConfigurationError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return USAGE
    except ToolError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return UNREACHABLE
    print("\n".join(lines))  # noqa: T201
    return FINE


def add(args: argparse.Namespace, environment: Any) -> list[str]:
    """Make the connection; what to tell the user.

    Raises:
        UsageError, ConfigurationError: Nothing was sent.
        ToolError: Airflow did not answer, or refused.
    """
    if not _NAME.fullmatch(args.connection):
        raise UsageError(f"{args.connection[:300]!r}: expected a connection's id such as github_hooks")
    speaks_for = args.speaks_for.replace(",", " ").split()
    if not speaks_for or not all(_NAME.fullmatch(name) for name in speaks_for):
        raise UsageError(
            f"--speaks-for {args.speaks_for[:300]!r}: expected connections' ids such as git_shop"
        )
    url = args.url or environment.get(URL, "")
    if not url:
        raise UsageError(f"Airflow's address is missing: give --url, or set {URL}")
    address = check_address(url, allow_http=args.allow_http)
    secret = _secret(args.sender, environment)
    body = {
        "connection_id": args.connection,
        "conn_type": "webhook_sender",
        "password": secret,
        "extra": json.dumps({"sender": args.sender, "speaks_for": ", ".join(speaks_for)}),
    }
    with AirflowServer(address, Login.from_environment(environment)) as server:
        _check(server.call("POST", "/connections", body=body), args.connection)
    place = f"{address}/delivery-chain/webhooks/{args.connection}"
    shown = "SECRET" if environment.get(SECRET) else secret
    if args.sender in IN_ADDRESS:
        return [f"address  {place}?token={quote(shown, safe='')}", f"set it   {SETUP[args.sender]}"]
    known = [] if environment.get(SECRET) else [f"secret   {secret}"]
    return [f"address  {place}", *known, f"set it   {SETUP[args.sender]}"]


def _secret(sender: str, environment: Any) -> str:
    given = str(environment.get(SECRET, ""))
    if given and not _FIT.fullmatch(given):
        raise ConfigurationError(
            f"{SECRET}: expected 16 to 1000 printable ASCII characters, found another text of {len(given)}"
        )
    if given:
        return given
    if sender in OWN_SECRET:
        raise ConfigurationError(f"{sender} makes its secret itself: put it into {SECRET}")
    if sender == "standard":
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def _check(answer: Answer, connection: str) -> None:
    if answer.status == CONFLICT:
        raise ToolError(
            f"connection {connection!r} is there already: choose another id, or change its secret under "
            "Admin > Connections (a second secret may be valid beside it for the time of the change)",
            tool="airflow",
        )
    if not answer.ok:
        raise ToolError(
            f"connection {connection!r}: expected that Airflow makes it, found status {answer.status}: "
            f"{answer.text}; a user of role op or admin may",
            tool="airflow",
        )
