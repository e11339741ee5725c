"""Builds the connection of a registry, a git source or a trigger's target from `delivery-chain connect`'s arguments."""

from __future__ import annotations

import base64
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from delivery_chain.core.connection_fields import ConnectionFields
from delivery_chain.core.spec.connections import GIT, REGISTRY, TRIGGER
from delivery_chain.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path


SECRET, SECRET_QUERY = "DELIVERY_CHAIN_SECRET", "DELIVERY_CHAIN_SECRET_QUERY"
LARGEST_FILE = 64 * 1024
"""Maximum size in bytes of a certificate, a key or a list of host keys."""
KEPT = "***"
"""Value for a secret of the extra that makes Airflow keep the stored one."""
PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(.*?)(?::([0-9]{1,5}))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection to be sent to Airflow."""

    name: str
    conn_type: str
    host: str
    port: int | None = None
    login: str = ""
    secret: str | None = field(default="", repr=False)
    """Password; empty for none, None to keep the stored one."""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def body(self) -> dict[str, Any]:
        """The JSON body of the request to Airflow's REST API."""
        found: dict[str, Any] = {
            "connection_id": self.name,
            "conn_type": self.conn_type,
            "host": self.host,
            "port": self.port,
            "login": self.login or None,
            "extra": json.dumps(self.extra),
        }
        return found if self.secret is None else found | {"password": self.secret or None}

    def fields(self) -> ConnectionFields:
        """The fields as a task reads them."""
        from delivery_chain.hooks.connection import mask  # noqa: PLC0415 - Airflow, seconds

        secret = KEPT if self.secret is None and self.login else self.secret or ""
        extra = {key: value for key, value in self.extra.items() if value != KEPT}
        return ConnectionFields(
            self.name, self.conn_type, self.host, self.login, secret, self.port, extra, mask
        )


def registry_given(args: argparse.Namespace, environment: Mapping[str, str], secret: str) -> Connection:
    del environment
    found = _HOST.fullmatch(args.address)
    host, port = (found[1], found[2]) if found else (args.address, None)
    extra: dict[str, Any] = {"plain_http": True} if args.plain_http else {}
    extra |= _given(region=args.region, ui_url=args.ui_url, private_hosts=args.private_hosts)
    extra |= _given(ca_certificate=_text(args.ca_certificate, "--ca-certificate"))
    return Connection(
        name=args.name,
        conn_type=REGISTRY,
        host=host,
        # Airflow 3.3.2 refuses to test a connection without a port.
        port=int(port) if port else PORTS["http" if args.plain_http else "https"],
        login=args.username,
        secret=_of_login(args, secret),
        extra=extra,
    )


def git_given(args: argparse.Namespace, environment: Mapping[str, str], secret: str) -> Connection:
    del environment
    extra = _given(
        private_key=_text(args.key_file, "--key-file"),
        known_hosts=_text(args.known_hosts, "--known-hosts"),
        submodule_hosts=args.submodule_hosts,
        strict_host_key_checking="no" if args.any_host_key else "",
    )
    return Connection(
        name=args.name,
        conn_type=GIT,
        host=args.address,
        login=args.username,
        secret=_of_login(args, secret),
        extra=extra,
    )


def trigger_given(args: argparse.Namespace, environment: Mapping[str, str], secret: str) -> Connection:
    if args.unsigned and secret:
        raise UsageError("--unsigned: expected no secret, found one")
    made = None if args.update else "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    extra: dict[str, Any] = _given(
        secret_query=environment.get(SECRET_QUERY, ""),
        ca_certificate=_text(args.ca_certificate, "--ca-certificate"),
    )
    extra |= {} if args.timeout is None else {"timeout_seconds": args.timeout}
    return Connection(
        name=args.name,
        conn_type=TRIGGER,
        host=args.address,
        port=_port(args.address),
        secret="" if args.unsigned else secret or made,
        extra=extra,
    )


def _of_login(args: argparse.Namespace, secret: str) -> str | None:
    if secret and not args.username:
        raise UsageError(f"--username is missing: a secret was given ({SECRET} or --secret-stdin)")
    return None if args.update and args.username and not secret else secret


def _given(**texts: str) -> dict[str, Any]:
    return {key: text for key, text in texts.items() if text}


def _text(file: Path | None, option: str) -> str:
    if file is None:
        return ""
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"{option} {file}: can't be read: {error.strerror}") from None
    if not content or len(content) > LARGEST_FILE:
        raise UsageError(f"{option} {file}: expected 1 to {LARGEST_FILE} bytes, found {len(content)} or more")
    return content.decode(errors="replace")


def _port(url: str) -> int | None:
    try:
        parts = urlsplit(url)
        return parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return None  # The hook reports the error.
