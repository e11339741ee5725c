"""Run git for one source, isolated from the configuration of this machine and of the repository."""

from __future__ import annotations

import contextlib
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.errors import (
    DiskFull,
    SourceError,
    SourceUnreachable,
    ToolError,
    ToolMissing,
    ToolTimeout,
)
from delivery_chain.tools import process
from delivery_chain.tools.git.source import Transport
from delivery_chain.tools.secret_files import memory_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from delivery_chain.tools.git.source import GitSource

MAX_PACK = 8 * 1024 * process.MEBIBYTE
"""Maximum size of any one file that git writes, in bytes; a repository's pack is one file."""

_LOGIN = """\
[credential "%s"]
    helper = "!f() { if test \\"$1\\" = get; then printf 'username=%%s\\\\npassword=%%s\\\\n' \\
\\"$DELIVERY_CHAIN_GIT_USERNAME\\" \\"$DELIVERY_CHAIN_GIT_PASSWORD\\"; fi; }; f"
"""
"""Passes the login to one server only, so that no redirect or submodule gets it."""

_CONFIG = """\
[core]
    hooksPath = /dev/null
    fsmonitor = false
    askPass = false
    autocrlf = false
    protectHFS = true
    protectNTFS = true
[credential]
    helper =
[protocol]
    allow = never
[fetch]
    recurseSubmodules = false
[submodule]
    recurse = false
[gc]
    auto = 0
[maintenance]
    auto = false
[advice]
    detachedHead = false
[http]
    lowSpeedLimit = 100
    lowSpeedTime = 60
"""
"""Settings for every git command, passed as the global configuration, so that git's child processes get them, too."""

_NOWHERE = "/nonexistent"
"""Nonexistent folder, by Debian's convention."""
_REFUSED = "the server rejected the credentials; check user name, password or key of the source's connection"
_PERMANENT: tuple[tuple[str, str], ...] = (
    (r"transport '.*' not allowed", "the transport is not allowed; allow it in the source's connection"),
    (
        r"host key verification failed|no .* host key is known",
        "the ssh server's key is not known; add its line to known_hosts of the source's connection",
    ),
    (
        r"permission denied|authentication failed|prompts disabled|could not read (?:username|password)",
        _REFUSED,
    ),
    (r"invalid username or|returned error: 40[13]|access denied|unable to read askpass", _REFUSED),
    (
        r"error in libcrypto|invalid format|load key",
        "the ssh key can't be read; expected the text of a private key without a passphrase",
    ),
    (
        r"certificate|ssl peer",
        "the server's certificate is not trusted; set SSL_CERT_FILE on the worker to its CA",
    ),
    (
        r"repository .*not found|returned error: 404|does not appear to be a git repository|does not exist",
        "no such repository, or the credentials may not read it; check the URL",
    ),
    (r"couldn't find remote ref", "the ref no longer exists; push it again, or start another run"),
)
_UNREACHABLE = re.compile(
    r"could not resolve|connection (?:refused|timed out|reset|closed)|failed to connect|couldn't connect"
    r"|timed out|network is unreachable|no route to host|\beof\b|hung up|broken pipe|transfer closed"
    r"|returned error: (?:429|5\d\d)|rpc failed|unexpected disconnect|too slow|temporary failure"
    r"|empty reply|gnutls_handshake|ssl_connect|curl \d+",
    re.IGNORECASE,
)


CHECKOUT_UMASK = 0o022
"""Umask that gives the files of a checkout the two modes that git knows, 644 and 755, whatever the worker's umask."""


@dataclass(frozen=True, slots=True)
class Git:
    """Git, configured for one source."""

    source: GitSource
    env: dict[str, str]
    deadline: float
    on_line: Callable[[str], None] | None = None

    def run(self, *arguments: str, cwd: Path | None = None, max_stdout: int = process.MAX_STDOUT) -> bytes:
        """Run one git command and return what it printed.

        Raises:
            SourceUnreachable: The server did not answer in time, or failed. Retryable.
            SourceError: Any other failure of git. Not retryable.
            DiskFull: The disk is full. Retryable.
            ToolMissing: git or ssh is not installed. Not retryable.
        """
        if self.source.address.transport is Transport.SSH:
            process.require("ssh", self.env)
        try:
            return process.run(
                _limited(["git", *arguments], self.env),
                tool="git",
                env=self.env,
                deadline=self.deadline,
                cwd=cwd,
                on_line=self.on_line,
                secrets=self.source.secrets,
                max_stdout=max_stdout,
                umask=CHECKOUT_UMASK,
            ).stdout
        except (DiskFull, ToolMissing):
            raise
        except ToolTimeout as error:
            raise SourceUnreachable(
                f"git source {self.source.url!r}: no complete answer before the deadline; a retry may work",
                tool="git",
                output=error.output,
            ) from error
        except ToolError as error:
            raise translated(error, self.source) from error


def translated(error: ToolError, source: GitSource) -> SourceError:
    """Translate git's output into an error that says what is wrong and what to do."""
    text = "\n".join(error.output)
    name = f"git source {source.url!r}"
    for pattern, meaning in _PERMANENT:
        if re.search(pattern, text, re.IGNORECASE):
            return SourceError(
                f"{name}: {meaning}", tool="git", exit_code=error.exit_code, output=error.output
            )
    if _UNREACHABLE.search(text):
        return SourceUnreachable(
            f"{name}: the server did not answer as expected; a retry may work",
            tool="git",
            exit_code=error.exit_code,
            output=error.output,
        )
    if error.exit_code is None:
        return SourceError(f"{name}: {error}", tool="git")
    return SourceError(
        f"{name}: git failed with exit code {error.exit_code}; its last lines:",
        tool="git",
        exit_code=error.exit_code,
        output=error.output,
    )


@contextlib.contextmanager
def session(
    source: GitSource, *, deadline: float, on_line: Callable[[str], None] | None = None
) -> Iterator[Git]:
    """Yield git with the source's credentials, which exist only during the session.

    The password is only in git's environment; the key and git's configuration are only in memory. None of them is ever
    in an argument, a URL, a file on disk or the repository's configuration, and a killed process leaves none behind.
    """
    address = source.address
    config = _CONFIG + f'[protocol "{address.transport}"]\n    allow = always\n'
    env = process.base_env() | {
        # Git finds no configuration there, and creates nothing.
        "HOME": _NOWHERE,
        "XDG_CONFIG_HOME": _NOWHERE,
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": address.transport.value,
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_SSH_VARIANT": "ssh",
    }
    if address.transport is Transport.FILE:
        # Git rejects other users' folders by default, but the connection names this one.
        config += "[safe]\n    directory = *\n"
    elif address.transport is not Transport.SSH and source.password:
        config += _LOGIN % f"{address.transport}://{address.netloc}"
        # Tokens are often configured without a user name, but servers want some text there.
        env["DELIVERY_CHAIN_GIT_USERNAME"] = _first_line(source.username) or "git"
        env["DELIVERY_CHAIN_GIT_PASSWORD"] = _first_line(source.password)
    with contextlib.ExitStack() as stack:
        env["GIT_CONFIG_GLOBAL"] = str(stack.enter_context(memory_file(config)))
        if address.transport is Transport.SSH:
            env["GIT_SSH_COMMAND"] = shlex.join(_ssh(source, stack))
        yield Git(source, env, deadline, on_line)


def _first_line(text: str) -> str:
    """Return only the first line, because git's credential protocol has one field per line."""
    return text.partition("\n")[0].rstrip("\r")


def _ssh(source: GitSource, stack: contextlib.ExitStack) -> list[str]:
    known_hosts = str(stack.enter_context(memory_file(source.known_hosts + "\n")))
    lenient = "accept-new" if source.known_hosts else "no"
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "ForwardAgent": "no",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "GlobalKnownHostsFile": "/dev/null",
        "UserKnownHostsFile": known_hosts,
        "StrictHostKeyChecking": "yes" if source.strict_host_keys else lenient,
        "UpdateHostKeys": "no",
        "LogLevel": "ERROR",
    }
    argv = ["ssh", "-F", "/dev/null"]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    if source.private_key:
        key = source.private_key.replace("\r\n", "\n").strip() + "\n"
        argv += ["-i", str(stack.enter_context(memory_file(key)))]
    else:
        argv += ["-o", "IdentityFile=none", "-o", "PubkeyAuthentication=no"]
    return argv


def _limited(argv: list[str], env: dict[str, str]) -> list[str]:
    """Limit the size of files that git writes, if util-linux is installed."""
    try:
        process.require("prlimit", env)
    except ToolMissing:
        return argv
    return ["prlimit", f"--fsize={MAX_PACK}", "--core=0", "--", *argv]
