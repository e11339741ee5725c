"""Reads a connection of Airflow's own type `git` as a git source. Its fields are those of the git provider."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote

from airflow.sdk import BaseHook

from delivery_chain.errors import ConfigurationError, SourceError
from delivery_chain.hooks.connection import mask, read_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from delivery_chain.core.connection_fields import ConnectionFields
    from delivery_chain.tools.git.source import GitSource

MAX_FILE = 1024 * 1024
"""Maximum size in bytes of a key or known_hosts file."""
_ABSOLUTE = re.compile(r"[^/]*:.*|/.*", re.DOTALL)
_CHECKING = {"yes": True, "": True, "ask": True, "accept-new": False, "no": False, "off": False}
"""Maps `strict_host_key_checking` to whether known_hosts must list the server. Tasks keep no host keys that they
have seen, so `accept-new` accepts any unlisted server, as `no` does."""
_UNSUPPORTED = (
    "private_key_passphrase",
    "ssh_config_file",
    "host_proxy_cmd",
    "ssh_port",
    "github_app_id",
    "github_installation_id",
)


class GitSourceHook(BaseHook):
    """Airflow's connection to a git server, or to one repository on it."""

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "git_default"
    conn_type: ClassVar[str] = "git"
    hook_name: ClassVar[str] = "Git source of a delivery chain"

    def __init__(
        self, conn_id: str = default_conn_name, transports: Iterable[str] = ("https", "ssh")
    ) -> None:
        """Create the hook; reads nothing yet.

        Args:
            conn_id: Airflow's connection id.
            transports: Allowed transports: any of https, ssh, file, http.
        """
        super().__init__()
        self.conn_id = conn_id
        self.transports = frozenset(transports)

    def source(self, url: str = "") -> GitSource:
        """Return the repository with its credentials.

        Args:
            url: Empty for the connection's own URL; relative to it (`shop/api.git`); or absolute, on the
                connection's own server.

        Raises:
            ConfigurationError: The connection is missing or invalid, or `url` is not on its server.
            SourceError: The URL is malformed, or its transport is not allowed. Not retryable.
        """
        return source_of(read_connection(self.conn_id, self.conn_type), url, self.transports)


def source_of(fields: ConnectionFields, url: str, transports: Iterable[str]) -> GitSource:
    """Build the source of one repository from a connection's fields; see `GitSourceHook.source`."""
    from delivery_chain.tools.git.source import GitSource, Transport  # noqa: PLC0415 - only in a task

    _refuse_unsupported(fields)
    source = GitSource(
        url=_resolve(fields, url),
        transports=frozenset(Transport(name) for name in transports),
        username=fields.login,
        password=fields.password,
        private_key=_private_key(fields),
        known_hosts=_known_hosts(fields),
        strict_host_keys=_strict(fields),
        submodule_hosts=frozenset(fields.text("submodule_hosts").replace(",", " ").split()),
    )
    if source.address.transport is Transport.SSH and source.strict_host_keys and not source.known_hosts:
        raise fields.wrong(
            "known_hosts_file",
            "a file that lists the server's host key (`ssh-keyscan` prints it), or "
            "strict_host_key_checking 'no' on a trusted network",
            "nothing",
        )
    return source


def addresses(conn_id: str) -> Callable[[str], str]:
    """Return a function that resolves a repository's `url` as `GitSourceHook.source` does, but without credentials.

    The connection is read only once.

    Args:
        conn_id: Airflow's connection id.

    Raises:
        ConfigurationError: The connection is missing or invalid. The returned function raises the errors of
            `GitSourceHook.source`.
    """
    return partial(_resolve, read_connection(conn_id, GitSourceHook.conn_type))


def _resolve(fields: ConnectionFields, url: str) -> str:
    """Resolve a URL on the connection's own server. Credentials are sent to no other server."""
    from delivery_chain.tools.git.source import Transport, parse_url  # noqa: PLC0415 - only in a task

    base = fields.host
    if not base:
        raise fields.wrong("host", "the URL of the repository or of the folder that holds it", "nothing")
    try:
        there = parse_url(base)
    except SourceError as error:
        raise ConfigurationError(f"connection {fields.conn_id!r}, field host: {error}") from None
    if not url:
        return base
    if not _ABSOLUTE.fullmatch(url):
        return f"{base.rstrip('/')}/{_relative(fields, url)}"
    found = parse_url(url)
    if found != there or (found.transport is Transport.FILE and not _beneath(url, base)):
        place = there.netloc or base
        raise ConfigurationError(
            f"git source {url[:200]!r}: expected a URL on {there.transport}://{place}, the server of "
            f"connection {fields.conn_id!r}, whose credentials are sent to no other server; "
            "name another connection, or correct the URL"
        )
    return url


def _relative(fields: ConnectionFields, url: str) -> str:
    segments = [unquote(segment) for segment in url.split("/")]
    hidden = any("/" in segment or "\\" in segment for segment in segments)
    if (
        hidden
        or {"..", ".", ""} & set(segments)
        or re.search(r"[\x00-\x20\x7f?#]", url)
        or url.startswith("-")
    ):
        raise ConfigurationError(
            f"git source {url[:200]!r}: expected a path below the URL of connection {fields.conn_id!r}, "
            "such as shop/api.git, without '.', '..', '?' and '#'"
        )
    return url


def _beneath(url: str, base: str) -> bool:
    path, folder = (unquote(text.removeprefix("file://")).rstrip("/") for text in (url, base))
    return ".." not in path.split("/") and (path == folder or path.startswith(f"{folder}/"))


def _private_key(fields: ConnectionFields) -> str:
    key, file = fields.secret("private_key"), fields.text("key_file")
    if key and file:
        raise fields.wrong("key_file", "key_file or private_key", "both")
    if file:
        key = _read(fields, "key_file", file)
        mask(key)
    return key


def _known_hosts(fields: ConnectionFields) -> str:
    file = fields.text("known_hosts_file")
    return _read(fields, "known_hosts_file", file) if file else fields.text("known_hosts")


def _strict(fields: ConnectionFields) -> bool:
    said = fields.text("strict_host_key_checking").strip().lower()
    if said not in _CHECKING:
        raise fields.wrong("strict_host_key_checking", "yes, accept-new, no, off or ask", repr(said[:40]))
    return _CHECKING[said]


def _read(fields: ConnectionFields, name: str, file: str) -> str:
    try:
        with Path(file).expanduser().open("rb") as opened:
            content = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise fields.wrong(name, "a file that this worker can read", f"{file!r}: {error.strerror}") from None
    if len(content) > MAX_FILE:
        raise fields.wrong(name, f"at most {MAX_FILE} bytes", "more")
    return content.decode(errors="replace")


def _refuse_unsupported(fields: ConnectionFields) -> None:
    found = [name for name in _UNSUPPORTED if fields.extra.get(name)]
    if found:
        raise fields.wrong(
            found[0],
            "nothing: delivery chains take a token, or an ssh key without a passphrase and ssh://host:port/…",
            "a value",
        )
