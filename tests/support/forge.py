"""A real forge for tests: Pagure as processes of our own, with a user, a repository and its webhook.

Pagure is available from package registries: Debian's package, in a Python environment that `install_pagure.sh`
creates. Nothing is installed here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from support.oci_registry import free_port
from support.processes import await_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLACE = Path(os.environ.get("DELIVERY_CHAIN_PAGURE", "/opt/pagure"))
"""The folder that `install_pagure.sh` installs into."""
REDIS = "redis-server"
USER = "robot"
PASSWORD = "s3cret-pass"
REPOSITORY = "shop"
BRANCH = "main"
"""The default branch; Pagure requires one, because it compares a push with it."""
READY_S = 60
HERE = Path(__file__).resolve().parent
WEB = """
import os, pagure.flask_app
pagure.flask_app.create_app().run(host="127.0.0.1", port=int(os.environ["PORT"]), threaded=True)
"""
WORKERS = {
    "worker": ("pagure.lib.tasks", "celery"),
    "webhook": ("pagure.lib.tasks_services", "pagure_webhook,pagure_logcom"),
}
"""Program and queues, as in the units of Debian's packages."""
CONFIG = """
SECRET_KEY = SALT_EMAIL = "for-tests"
DB_URL = "sqlite:///{folder}/pagure.sqlite?timeout=30"
GIT_FOLDER = "{folder}/repositories"
REMOTE_GIT_FOLDER = "{folder}/remotes"
ATTACHMENTS_FOLDER = "{folder}/attachments"
BROKER_URL = "redis://127.0.0.1:{redis}/0"
REDIS_HOST = "127.0.0.1"
REDIS_PORT = {redis}
APP_URL = "{address}"
GIT_AUTH_BACKEND = "pagure"
HTTP_REPO_ACCESS_GITOLITE = None
ALLOW_HTTP_PUSH = True
PAGURE_AUTH = "local"
EMAIL_SEND = False
SESSION_COOKIE_SECURE = False
LOGGING = {{"version": 1, "disable_existing_loggers": False}}
"""


@dataclass(frozen=True, slots=True)
class Forge:
    """A running forge."""

    url: str
    """URL of its pages and its API."""
    clone_url: str = field(repr=False)
    """URL of the repository, including the login."""
    secret: str = field(repr=False)
    """Secret that signs its webhooks. Pagure generates one for each repository; it can't be chosen."""
    folder: Path
    """Folder with its data and logs."""


def missing() -> str:
    """The reason why it can't run here; empty if it can."""
    if not (PLACE / "bin" / "pagure-admin").exists():
        return f"no Pagure in {PLACE}: run tests/support/install_pagure.sh, or set DELIVERY_CHAIN_PAGURE"
    if not shutil.which(REDIS):
        return f"no {REDIS}, which Pagure's queues need: install Debian's package"
    return ""


@contextmanager
def forge(folder: Path, target: str, *, address: str = "") -> Iterator[Forge]:
    """Run a forge until the block ends.

    Args:
        folder: Empty; for configuration, data and logs.
        target: Where it sends its webhooks.
        address: The address that it reports as its own; the real one by default.

    Raises:
        AssertionError: A part of it does not start; with the end of that part's log.
    """
    port, redis = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    for name in ("repositories", "remotes", "attachments"):
        (folder / name).mkdir()
    config = folder / "pagure.cfg"
    config.write_text(CONFIG.format(folder=folder, redis=redis, address=address or f"{url}/"))
    environment = {
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "PAGURE_CONFIG": str(config),
        "PATH": f"{PLACE / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "PORT": str(port),
        "PYTHONWARNINGS": "ignore",
    }
    with ExitStack() as stack:

        def start(name: str, *command: str, port: int = 0) -> None:
            log = folder / f"{name}.log"
            process = stack.enter_context(running(command, log, cwd=folder, env=environment))
            if port:
                await_port(process, port, log, name=f"Pagure's {name}", seconds=READY_S)

        python = str(PLACE / "bin" / "python")
        options = ("--bind", "127.0.0.1", "--port", str(redis), "--save", "", "--dir", ".")
        start("redis", REDIS, *options, port=redis)
        token = _prepare([python, str(HERE / "pagure_user.py"), USER, PASSWORD], folder, environment)
        for name, (program, queues) in WORKERS.items():
            start(name, python, "-m", "celery", "-A", program, "worker", "--pool=solo", "-Q", queues)
        start("web", python, "-c", WEB, port=port)
        _call(url, token, "new", name=REPOSITORY, description="For tests.", default_branch=BRANCH, wait="1")
        _call(url, token, f"{REPOSITORY}/options/update", **{"Web-hooks": target})
        secret = _call(url, token, f"{REPOSITORY}/webhook/token")["webhook"]["token"]
        login = f"{USER}:{PASSWORD}@"
        yield Forge(url, f"{url.replace('//', '//' + login)}/{REPOSITORY}.git", secret, folder)


def _prepare(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Create the tables and the user; return the user's API token."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=READY_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"Pagure's database could not be prepared:\n{done.stderr[-2000:]}")
    return done.stdout.split()[-1]


def _call(url: str, token: str, path: str, **fields: str) -> Any:
    """Call Pagure's API: a POST if there are fields."""
    request = urllib.request.Request(  # noqa: S310 - always http to 127.0.0.1
        f"{url}/api/0/{path}",
        data=urlencode(fields).encode() if fields else None,
        headers={"Authorization": f"token {token}"},
    )
    with urllib.request.urlopen(request, timeout=READY_S) as answer:  # noqa: S310
        return json.load(answer)
