"""Defines a sandbox's files, the state it keeps between commands, and its secrets."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shlex
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from delivery_chain.errors import ConfigurationError, UsageError
from delivery_chain.sandbox.processes import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_VERSION = 1
SECRET_NAMES = (
    "admin",
    "api",
    "database",
    "jwt",
    "registry",
    "prod",
    "staging",
    "git_hooks",
    "registry_hooks",
)
SIGNING = ("prod", "staging", "git_hooks")
"""Names of the signing secrets, which have the format of Standard Webhooks."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below a sandbox's state folder. Creating a layout touches no file."""

    root: Path
    """Absolute path of the state folder."""

    def command(self, words: str) -> str:
        """A command line for this sandbox, such as `delivery-chain sandbox up`, to run in the current folder."""
        usual = self.root == Path(".sandbox").absolute()
        return f"delivery-chain sandbox {words}{'' if usual else f' --state {shlex.quote(str(self.root))}'}"

    @property
    def state_file(self) -> Path:
        return self.root / "state.json"

    @property
    def secrets_file(self) -> Path:
        return self.root / "secrets.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def airflow_home(self) -> Path:
        return self.root / "airflow"

    @property
    def airflow_env(self) -> Path:
        """A file to `source` before using the `airflow` command on this sandbox."""
        return self.root / "airflow.env"

    @property
    def passwords_file(self) -> Path:
        return self.airflow_home / "passwords.json"

    @property
    def git(self) -> Path:
        """The bare repositories, `<namespace>/<repository>.git`."""
        return self.root / "git"

    @property
    def hook_secret(self) -> Path:
        """The file with the secret of the repositories' post-receive hooks."""
        return self.root / "git-hooks.secret"

    @property
    def clones(self) -> Path:
        """The working clones that `push` commits in."""
        return self.root / "clones"

    @property
    def deliveries(self) -> Path:
        """The deliveries that the webhook receiver stored, one JSON object per line."""
        return self.root / "deliveries.jsonl"

    def log(self, service: str) -> Path:
        """The log file of one process."""
        return self.logs / f"{service}.log"

    def registry(self, region: str) -> Path:
        """The data folder of one registry."""
        return self.root / "registries" / region


@dataclass(slots=True)
class State:
    """A sandbox's state between commands; stored in `state.json`."""

    settings: dict[str, Any] = field(default_factory=dict)
    """The options of `up`: database, specs, dags, registries, real_vulnerability_database."""
    ports: dict[str, int] = field(default_factory=dict)
    """TCP port by service name. A port survives `down` and `up` unless another program takes it."""
    processes: dict[str, Mark] = field(default_factory=dict)
    """The process of each service that was started and not stopped."""
    database_folder: str = ""
    """The folder of the PostgreSQL cluster; empty for SQLite."""

    @classmethod
    def load(cls, layout: Layout) -> Self:
        """Read `state.json`; return an empty state if the file is absent.

        Raises:
            ConfigurationError: The file is unreadable, or of another version.
        """
        try:
            raw = json.loads(layout.state_file.read_text("utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{layout.state_file}: expected the sandbox's state as JSON, found {error}; "
                "stop the processes listed in it by hand and remove the folder"
            ) from error
        if not isinstance(raw, dict) or raw.pop("version", None) != STATE_VERSION:
            raise ConfigurationError(
                f"{layout.state_file}: expected version {STATE_VERSION}; this folder was created by another "
                "version of delivery-chain: stop the sandbox with that version, or remove the folder"
            )
        processes = {name: Mark(**mark) for name, mark in raw.pop("processes").items()}
        return cls(processes=processes, **raw)

    def save(self, layout: Layout) -> None:
        """Write `state.json` atomically, readable by its owner only."""
        write_private(layout.state_file, json.dumps({"version": STATE_VERSION, **asdict(self)}, indent=2))


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 atomically: a reader sees either the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def load_secrets(layout: Layout) -> dict[str, str]:
    """Read the sandbox's secrets by name, generating missing ones.

    Returns:
        `admin`, `api`, `database`, `jwt`, `registry`, `registry_hooks` (URL-safe text), `fernet` (a Fernet key),
        `prod`, `staging` and `git_hooks` (signing secrets, `whsec_...` as Standard Webhooks writes them).
    """
    known: dict[str, str] = {}
    if layout.secrets_file.exists():
        known = json.loads(layout.secrets_file.read_text("utf-8"))
    made = {name: secrets.token_urlsafe(12 if name == "admin" else 32) for name in SECRET_NAMES}
    made |= {name: "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode() for name in SIGNING}
    made["fernet"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    if known.keys() != made.keys():
        known = made | known
        write_private(layout.secrets_file, json.dumps(known, indent=2))
    return known


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Lock the sandbox for a command that changes it.

    Raises:
        UsageError: Another command holds the lock, or the folder can't be used.
    """
    try:
        layout.root.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise UsageError(
            f"--state {layout.root}: expected a folder, or a path where one can be created, found {error.strerror}"
        ) from error
    with (layout.root / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{layout.root}: another delivery-chain sandbox command is changing this sandbox; "
                "wait for it to finish, or stop it with Ctrl-C or SIGTERM"
            ) from error
        yield
