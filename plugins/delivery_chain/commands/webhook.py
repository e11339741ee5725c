"""`delivery-chain webhook`: creates the connection of a sender, and prints the settings for the sender."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from delivery_chain.commands.exit_codes import DONE, exit_code
from delivery_chain.core.spec.connections import GIT, REGISTRY, connect_command, nearest
from delivery_chain.core.web_paths import webhook_path
from delivery_chain.errors import ConfigurationError, ToolError, UsageError
from delivery_chain.senders.setup import IN_ADDRESS, OWN_SECRET, SETUP
from delivery_chain.tools.airflow_connections import NAME, URL, add_arguments, listed, make, server_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

SECRET = "DELIVERY_CHAIN_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
MOST_NAMED = 50
"""Maximum number of ids listed in a message."""
_FIT = re.compile(r"[!-~]{16,1000}")
"""Secrets that `delivery_chain.hooks.webhook_sender` accepts."""
_ABOUT = f"""\
Create the Airflow connection of a webhook sender, with a new secret, and print the settings for the sender.
Runs on any machine: the address is --url or {URL}, the login AIRFLOW_API_TOKEN, or AIRFLOW_API_USERNAME and
AIRFLOW_API_PASSWORD. A secret that the sender generated is read from {SECRET}.
Exit code: 0 the connection exists now; 2 wrong usage, nothing was sent; 3 Airflow can't be reached, or refused."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = _ABOUT
    parser.add_argument(
        "connection", metavar="CONNECTION", help="id of the new connection; part of the address"
    )
    parser.add_argument("--sender", required=True, choices=sorted(SETUP), help="kind of sender")
    parser.add_argument(
        "--speaks-for",
        required=True,
        metavar="CONNECTION[,…]",
        help="git or registry connections whose pushes it reports",
    )
    parser.add_argument(
        "--unlisted",
        action="store_true",
        help="accept ids that Airflow can't list: from environment variables or a secrets backend",
    )
    add_arguments(parser)
    parser.set_defaults(func=_webhook)


def _webhook(args: argparse.Namespace) -> int:
    try:
        lines = add(args, os.environ)
    except (UsageError, ConfigurationError, ToolError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return exit_code(error)
    print("\n".join(lines))  # noqa: T201
    return DONE


def add(args: argparse.Namespace, environment: Any) -> list[str]:
    """Create the connection; return the lines to print.

    Raises:
        UsageError, ConfigurationError: Nothing was sent.
        ToolError: Airflow did not respond, or refused.
    """
    if not NAME.fullmatch(args.connection):
        raise UsageError(f"{args.connection[:300]!r}: expected a connection's id such as github_hooks")
    speaks_for = args.speaks_for.replace(",", " ").split()
    if not speaks_for or not all(NAME.fullmatch(name) for name in speaks_for):
        raise UsageError(
            f"--speaks-for {args.speaks_for[:300]!r}: expected connections' ids such as git_shop"
        )
    with server_of(args, environment) as server:
        if not args.unlisted:
            check_spoken_for(speaks_for, listed(server))
        secret = _secret(args.sender, environment)
        # Pushes before this moment do not count as missed by this sender.
        since = datetime.now(UTC).isoformat(timespec="seconds")
        extra = {"sender": args.sender, "speaks_for": ", ".join(speaks_for), "since": since}
        body = {
            "connection_id": args.connection,
            "conn_type": "webhook_sender",
            "password": secret,
            "extra": json.dumps(extra),
        }
        if not make(server, body):
            raise ToolError(
                f"connection {args.connection!r} already exists: choose another id, or change its secret under "
                "Admin > Connections (a second secret may be valid during a rotation)",
                tool="airflow",
            )
        place = f"{server.address}{webhook_path(args.connection)}"
    shown = "SECRET" if environment.get(SECRET) else secret
    if args.sender in IN_ADDRESS:
        return [f"address  {place}?token={quote(shown, safe='')}", f"set it   {SETUP[args.sender]}"]
    known = [] if environment.get(SECRET) else [f"secret   {secret}"]
    return [f"address  {place}", *known, f"set it   {SETUP[args.sender]}"]


def _secret(sender: str, environment: Any) -> str:
    given = str(environment.get(SECRET, ""))
    if given and not _FIT.fullmatch(given):
        raise ConfigurationError(
            f"{SECRET}: expected 16 to 1000 printable ASCII characters, found a value of {len(given)} characters"
        )
    if given:
        return given
    if sender in OWN_SECRET:
        raise ConfigurationError(f"{sender} generates the secret itself: put it into {SECRET}")
    if sender == "standard":
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def check_spoken_for(speaks_for: Iterable[str], known: Mapping[str, str]) -> None:
    """Check that the connections whose pushes a sender reports exist.

    Args:
        speaks_for: Ids of the connections.
        known: Maps the ids that Airflow lists to their types.

    Raises:
        UsageError: A connection does not exist, or its type has no pushes. Nothing was created.
    """
    places = sorted(name for name, conn_type in known.items() if conn_type in {GIT, REGISTRY})
    for name in speaks_for:
        if name in places:
            continue
        found = f"type {known[name]}" if name in known else "no connection with this id"
        like = nearest(name, places)
        meant = f"; did you mean {like!r}?" if like else ""
        commands = " or ".join(connect_command(one, name) for one in (GIT, REGISTRY))
        adds = "" if name in known else f" To add it: {commands}."
        shown = ", ".join(places[:MOST_NAMED]) + (", …" if len(places) > MOST_NAMED else "")
        raise UsageError(
            f"--speaks-for {name!r}: expected a connection of type {GIT} or {REGISTRY}, found {found}{meant or '.'} "
            f"Existing ones: {shown or 'none yet'}.{adds} "
            "Connections in environment variables or a secrets backend are not listed: add --unlisted for those"
        )
