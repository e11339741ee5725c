"""A git source: its URL, the transports it may use, and its credentials. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import urlsplit

from delivery_chain.core.names.git_ref import check_full_ref
from delivery_chain.errors import SourceError

URL_LENGTH = 2_048
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:].*)"
)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9a-fA-F:]+")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Transport(StrEnum):
    """Transports for reaching a repository; all others (`git`, `ext`, remote helpers) are rejected."""

    HTTPS = "https"
    SSH = "ssh"
    FILE = "file"
    """A local folder; for tests and mirrors."""
    HTTP = "http"
    """Neither encrypted nor authenticated; for trusted networks."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed git URL."""

    transport: Transport
    host: str
    """Lowercase, without a port; empty for a folder."""
    netloc: str
    """Host with its port, without a user, as git shows it in prompts."""


@dataclass(frozen=True, slots=True)
class GitSource:
    """A repository, with transports and credentials. Validated on creation, never logged."""

    url: str
    """`https://…`, `ssh://…`, `user@host:path`, `file:///…` or an absolute path; without a password."""
    transports: frozenset[Transport] = frozenset({Transport.HTTPS, Transport.SSH})
    """The only transports that the repository and its submodules may use."""
    username: str = ""
    password: str = field(default="", repr=False)
    """Password or token for https and http. Sent only to the URL's own host."""
    private_key: str = field(default="", repr=False)
    """Text of an ssh key without a passphrase."""
    known_hosts: str = ""
    """Lines in the format of ssh's known_hosts file."""
    strict_host_keys: bool = True
    """Whether to reject ssh servers that `known_hosts` does not list."""
    submodule_hosts: frozenset[str] = frozenset()
    """Hosts besides the URL's own that submodules may come from; `*` for any."""

    def __post_init__(self) -> None:
        address = parse_url(self.url)
        if address.transport not in self.transports:
            allowed = ", ".join(sorted(self.transports)) or "none"
            raise SourceError(
                f"git source {self.url!r}: transport {address.transport} is not allowed "
                f"(allowed: {allowed}); use another URL, or allow it in the source's connection",
                tool="git",
            )

    @property
    def address(self) -> Address:
        """Parse `url`."""
        return parse_url(self.url)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings to mask in output."""
        return tuple(text for text in (self.password, self.private_key) if text)

    def submodule(self, url: str, path: str) -> GitSource:
        """Return the source of a submodule, under the same rules.

        Args:
            url: From `.gitmodules`; `./` and `../` are relative to this source's URL.
            path: The submodule's folder, for messages.

        Raises:
            SourceError: The URL is malformed, or its transport or host is not allowed. Not retryable.
        """
        source = replace(self, url=join_url(self.url, url))
        host = source.address.host
        if host != self.address.host and not {host, "*"} & self.submodule_hosts:
            raise SourceError(
                f"git submodule {path!r} of {self.url!r}: host {host or 'this machine'!r} is not allowed; "
                "expected the source's own host or one that its connection lists for submodules",
                tool="git",
            )
        if source.address.netloc != self.address.netloc:
            # A password is for its own server only. An ssh key may stay: a server sees only its public half.
            source = replace(source, username="", password="")
        return source


def parse_url(url: str) -> Address:
    """Parse a git URL.

    Raises:
        SourceError: The URL is malformed, contains a password, or has an unsupported transport. Not retryable.
    """
    if not url or len(url) > URL_LENGTH or url.startswith("-") or _UNPRINTABLE.search(url):
        raise _refused(url, "expected a URL without spaces that does not begin with '-'")
    if url.startswith("/"):
        return Address(Transport.FILE, "", "")
    if (scheme := _SCHEME.match(url)) is not None:
        return _parse_absolute(url, scheme[1].lower())
    if (scp := _SCP.fullmatch(url)) is not None and not scp["path"].startswith("-"):
        return Address(Transport.SSH, scp["host"].lower(), scp["host"].lower())
    raise _refused(url, "expected https://…, ssh://…, user@host:path, file:///… or an absolute path")


def _parse_absolute(url: str, scheme: str) -> Address:
    try:
        transport = Transport(scheme)
        parts = urlsplit(url)
        host, user, port = parts.hostname or "", parts.username, parts.port
    except ValueError:
        raise _refused(url, "expected one of https, ssh, file, http, a host and a numeric port") from None
    if parts.password is not None or (user is not None and transport is not Transport.SSH):
        # Do not repeat the URL in the error: it may hold a credential.
        raise SourceError(
            f"git source on {host!r}: expected no user name or password in the URL; "
            "put them into the source's connection",
            tool="git",
        )
    if transport is Transport.FILE:
        if host or not parts.path:
            raise _refused(url, "expected file:/// and an absolute path")
        return Address(transport, "", "")
    if not _HOST.fullmatch(host) or (user is not None and not _USER.fullmatch(user)):
        raise _refused(url, "expected a host name")
    shown = f"[{host}]" if ":" in host else host
    return Address(transport, host, f"{shown}:{port}" if port is not None else shown)


def join_url(base: str, url: str) -> str:
    """Resolve the URL of a submodule as git does: it is relative if it begins with `./` or `../`.

    Raises:
        SourceError: The URL climbs above the server's root. Not retryable.
    """
    if not url.startswith(("./", "../")):
        return url
    scheme = _SCHEME.match(base)
    if scheme is not None:
        slash = base.find("/", scheme.end())
        prefix, path = (base, "") if slash < 0 else (base[:slash], base[slash:])
    elif base.startswith("/"):
        prefix, path = "", base
    else:
        host, _, path = base.partition(":")
        prefix = f"{host}:"
    absolute = path.startswith("/")
    joined = posixpath.normpath(posixpath.join(path.strip("/"), url))
    if joined == ".." or joined.startswith("../"):
        raise _refused(url, f"expected a relative URL that stays on the server of {base!r}")
    return f"{prefix}{'/' if absolute else ''}{joined}"


def check_ref(ref: str) -> str:
    """Return a full ref name (`refs/heads/…` or `refs/tags/…`) unchanged.

    Raises:
        SourceError: The name breaks git's rules for refs. Not retryable.
    """
    try:
        return check_full_ref(ref)
    except ValueError as error:
        raise SourceError(f"git ref: {error}", tool="git") from None


def check_commit(commit: str) -> str:
    """Return a commit id unchanged.

    Raises:
        SourceError: The id is not 40 or 64 lowercase hex digits. Not retryable.
    """
    if not _COMMIT.fullmatch(commit):
        raise SourceError(f"git commit {commit[:100]!r}: expected 40 or 64 lowercase hex digits", tool="git")
    return commit


def _refused(url: str, expected: str) -> SourceError:
    return SourceError(f"git source {url[:200]!r}: {expected}", tool="git")
