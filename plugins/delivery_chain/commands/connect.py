"""`delivery-chain connect`: creates the Airflow connection of a registry, a git source or a trigger's target.

Before anything is sent, the fields are validated by the code that tasks read them with. Secrets come from a prompt,
standard input or the environment, never from the command line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.commands.connection_fields import (
    KEPT,
    SECRET,
    Connection,
    git_given,
    registry_given,
    trigger_given,
)
from delivery_chain.commands.exit_codes import DONE, FAILED, exit_code
from delivery_chain.core.spec.connections import GIT, REGISTRY, TRIGGER
from delivery_chain.errors import ConfigurationError, DeliveryChainError, ToolError, UsageError
from delivery_chain.tools.airflow_connections import NAME, add_arguments, change, look, make, server_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping


LONGEST_SECRET = 64 * 1024
TEST_SECONDS = 30.0
TRANSPORTS = ("https", "ssh", "file", "http")
USUAL_TRANSPORTS = {"https", "ssh"}
_ADVICE = "; correct it under Admin > Connections"
_ABOUT = f"""\
Create an Airflow connection for use in chain specs, validated before it is sent. Runs on any machine: the address is
--url or AIRFLOW_API_URL, the login AIRFLOW_API_TOKEN, or AIRFLOW_API_USERNAME and AIRFLOW_API_PASSWORD.
The connection's own secret is prompted for, or read from {SECRET}, or with --secret-stdin from standard input.
Exit code: 0 the connection exists now; 1 --test failed, nothing was created; 2 wrong usage, nothing was sent;
3 Airflow can't be reached, or refused."""


class TestFailed(DeliveryChainError):
    """The `--test` of a connection failed. Nothing was created."""

    __test__ = False


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = _ABOUT
    kinds = parser.add_subparsers(required=True, metavar="registry|git|trigger")
    registry = _kind(kinds, "registry", "HOST", "host or host:port, without https://", registry_given)
    registry.add_argument("--username", default="", help="user name; anonymous access if omitted")
    registry.add_argument("--region", default="", help="shown in pages and records, such as ap-southeast-1")
    registry.add_argument(
        "--plain-http", action="store_true", help="use plain HTTP; for trusted networks only"
    )
    registry.add_argument("--ca-certificate", type=Path, metavar="FILE", help="PEM file of the registry's CA")
    registry.add_argument(
        "--ui-url", default="", metavar="TEMPLATE", help="URL template of an image's web page"
    )
    registry.add_argument(
        "--private-hosts",
        default="",
        metavar="HOST[,…]",
        help="private hosts that the registry may redirect to",
    )
    git = _kind(kinds, "git", "URL", "a repository's URL, or the URL above several repositories", git_given)
    git.add_argument(
        "--username", default="", help="user name for https; the secret is its password or token"
    )
    git.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="file with an ssh key without a passphrase; its text is sent",
    )
    git.add_argument(
        "--known-hosts",
        type=Path,
        metavar="FILE",
        help="file with host keys, as `ssh-keyscan HOST` prints them",
    )
    git.add_argument("--any-host-key", action="store_true", help="don't check the ssh server's key")
    git.add_argument(
        "--submodule-hosts", default="", metavar="HOST[,…]", help="other hosts that submodules may use"
    )
    git.add_argument(
        "--repository", default="", metavar="PATH", help="repository below URL to try with --test"
    )
    trigger = _kind(kinds, "trigger", "URL", "the URL that deliveries are sent to", trigger_given)
    trigger.add_argument(
        "--unsigned", action="store_true", help="no signing secret; by default a new one is generated"
    )
    trigger.add_argument("--timeout", type=int, metavar="SECONDS", help="time for the target to respond (10)")
    trigger.add_argument("--ca-certificate", type=Path, metavar="FILE", help="PEM file of the target's CA")


def _kind(
    kinds: Any, word: str, address: str, about: str, read: Callable[..., Connection]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(word, description=_ABOUT)
    parser.add_argument("name", metavar="NAME", help="the connection's id, as used in chain specs")
    parser.add_argument("address", metavar=address, help=about)
    parser.add_argument("--secret-stdin", action="store_true", help="read the secret from standard input")
    parser.add_argument(
        "--update",
        action="store_true",
        help="change the existing connection; keeps its secret unless a new one is given",
    )
    parser.add_argument("--test", action="store_true", help="first try the connection from this machine")
    add_arguments(parser)
    parser.set_defaults(func=_connect, read=read)
    return parser


def _connect(args: argparse.Namespace) -> int:
    try:
        lines = connect(args, os.environ)
    except TestFailed as error:
        print(f"{error}\nnothing was created", file=sys.stderr)  # noqa: T201
        return FAILED
    except (UsageError, ConfigurationError, ToolError) as error:
        print(str(error).replace(_ADVICE, "; nothing was sent"), file=sys.stderr)  # noqa: T201
        return exit_code(error)
    print("\n".join(lines))  # noqa: T201
    return DONE


def connect(args: argparse.Namespace, environment: Mapping[str, str]) -> list[str]:
    """Create or change the connection; return the lines to print.

    Raises:
        UsageError, ConfigurationError: Nothing was created.
        TestFailed: The connection does not work. Nothing was created.
        ToolError: Airflow did not respond, or refused.
    """
    # Airflow's log would clutter this command's output.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    if not NAME.fullmatch(args.name):
        raise UsageError(f"{args.name[:300]!r}: expected a connection's id such as cn-hangzhou")
    with server_of(args, environment) as server:
        secret = _secret(args, environment)
        connection = args.read(args, environment, secret)
        new = connection.secret if connection.conn_type == TRIGGER and not secret else ""
        shown = _checked(connection)
        tested = [f"tested  {_tried(args, connection)}"] if args.test else []
        if args.update:
            connection = _kept(connection, look(server, args.name, connection.conn_type))
            change(server, connection.body())
        elif not make(server, connection.body()):
            raise ToolError(
                f"connection {args.name!r} already exists and was not changed; use --update to change it",
                tool="airflow",
            )
    word = "changed" if args.update else "created"
    lines = [f"{word} connection {args.name} ({connection.conn_type}): {shown}", *tested]
    return (
        [*lines, f"secret  {new}  (configure it at the target, which verifies signatures with it)"]
        if new
        else lines
    )


def _secret(args: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """Return the given secret, or prompt for it if a login lacks one; empty if none is needed."""
    if args.secret_stdin:
        text = sys.stdin.read(LONGEST_SECRET + 1).removesuffix("\n").removesuffix("\r")
        if not text or len(text) > LONGEST_SECRET:
            raise UsageError(
                f"--secret-stdin: expected a secret of 1 to {LONGEST_SECRET} characters on standard input, "
                f"found {'more' if text else 'none'}"
            )
        return text
    if given := environment.get(SECRET, ""):
        return given
    if not getattr(args, "username", "") or (args.update and not args.test):
        return ""
    if not sys.stdin.isatty():
        raise UsageError(
            f"--username {args.username[:100]!r} needs a password: pipe it in with --secret-stdin, or set {SECRET}"
        )
    return getpass(f"Password or token of {args.username!r} (not shown): ")


def _checked(connection: Connection) -> str:
    """Check that a task can use the connection, and describe it.

    Raises:
        ConfigurationError: A task could not use the connection.
    """
    fields = connection.fields()
    who = f"as {connection.login}" if connection.login else "without a login"
    if connection.conn_type == REGISTRY:
        from delivery_chain.hooks.registry import checked_template, registry_of  # noqa: PLC0415

        if template := fields.text("ui_url").strip():
            checked_template(fields, template)
        return f"{registry_of(fields).base_url} {who}"
    if connection.conn_type == GIT:
        from delivery_chain.hooks.git import source_of  # noqa: PLC0415

        transport = str(source_of(fields, "", TRANSPORTS).address.transport)
        shown = f"{connection.host} {'with a key' if connection.extra.get('private_key') else who}"
        unusual = transport not in USUAL_TRANSPORTS
        return f"{shown}; [delivery_chain] git_transports must include {transport}" if unusual else shown
    from delivery_chain.targets.webhook import WebhookTarget  # noqa: PLC0415

    return f"{WebhookTarget.of(fields).shown_url}, {'not signed' if connection.secret == '' else 'signed'}"


def _tried(args: argparse.Namespace, connection: Connection) -> str:
    """Try the connection from this machine; return a sentence about the result.

    Raises:
        TestFailed: The connection does not work.
    """
    if connection.secret is None:
        raise UsageError(
            "--test: expected the secret as well, because the stored one can't be read from Airflow"
        )
    fields = connection.fields()
    try:
        if connection.conn_type == REGISTRY:
            from delivery_chain.hooks.registry import registry_of, try_registry  # noqa: PLC0415

            return try_registry(registry_of(fields))
        if connection.conn_type == GIT:
            from delivery_chain.core.names.git_ref import counted  # noqa: PLC0415
            from delivery_chain.hooks.git import source_of  # noqa: PLC0415
            from delivery_chain.tools.git.refs import list_refs  # noqa: PLC0415

            source = source_of(fields, args.repository, TRANSPORTS)
            refs = list_refs(source, deadline=time.monotonic() + TEST_SECONDS)
            return f"{source.url} has {counted(refs)}"
        from delivery_chain.targets.webhook import WebhookTarget  # noqa: PLC0415

        good, said = WebhookTarget.of(fields).probe()
    except DeliveryChainError as error:
        raise TestFailed(str(error)) from error
    if not good:
        raise TestFailed(said)
    return said


def _kept(connection: Connection, there: Mapping[str, Any]) -> Connection:
    """Carry over the stored secrets for which no new one was given.

    Raises:
        UsageError: No secret is stored.
    """
    if connection.secret is None and connection.login and not there.get("password"):
        raise UsageError(
            f"connection {connection.name!r} has no password yet: pipe it in with --secret-stdin, or set {SECRET}"
        )
    try:
        old = json.loads(there.get("extra") or "{}")
    except (ValueError, RecursionError):
        old = {}
    kept = {name: KEPT for name in ("private_key", "secret_query") if isinstance(old, dict) and old.get(name)}
    return Connection(
        name=connection.name,
        conn_type=connection.conn_type,
        host=connection.host,
        port=connection.port,
        login=connection.login,
        secret=connection.secret,
        extra=kept | connection.extra,
    )
