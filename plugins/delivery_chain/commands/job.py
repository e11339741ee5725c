"""`delivery-chain job`: runs one job from standard input, for runners that run jobs in other places."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.commands.exit_codes import DONE, FAILED
from delivery_chain.errors import DeliveryChainError, UsageError
from delivery_chain.jobs.failure import failure_of
from delivery_chain.jobs.job import LARGEST, job_from_json
from delivery_chain.jobs.logins import Logins
from delivery_chain.jobs.run import Machine, run
from delivery_chain.settings import Settings
from delivery_chain.tools.job_folder import job_folder
from delivery_chain.tools.stopping import stop, stoppable

if TYPE_CHECKING:
    import argparse

    from delivery_chain.jobs.failure import Failure
    from delivery_chain.jobs.job import Done


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = (
        "Runs one job. Its log goes to standard error, its result to standard output as one line of JSON."
    )
    parser.add_argument(
        "--logins",
        type=Path,
        metavar="FILE",
        help="file with the job's logins as JSON, such as /dev/fd/3 or a mounted secret; none if omitted",
    )
    parser.set_defaults(func=_job)


def _job(args: argparse.Namespace) -> int:
    result = _result(args.logins)
    print(result.model_dump_json(), flush=True)  # noqa: T201 - the result
    return FAILED if result.kind == "failed" else DONE


def _result(logins_file: Path | None) -> Done | Failure:
    # A runner stops a container or pod with SIGTERM, and Airflow's own handler is not installed here.
    signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        # All of it: a signal that arrives while the job is read or leftovers are swept must not go unheard.
        with stoppable():
            data = sys.stdin.buffer.read(LARGEST + 1)
            job = job_from_json(data)
            logins = Logins() if logins_file is None else Logins.from_json(_read(logins_file, LARGEST + 1))
            folder = Settings.read(_option).work_folder
            with job_folder(folder, f"job-{hashlib.sha256(data).hexdigest()[:12]}", log=_say) as own:
                return run(job, logins, Machine(own, _option), _say)
    except DeliveryChainError as error:
        return failure_of(error)


def _read(file: Path, most: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise UsageError(f"--logins {file}: expected a readable file, found {error.strerror}") from error


def _option(section: str, option: str) -> str | None:
    """Read an Airflow option from the environment, because a job's image need not contain Airflow."""
    return os.environ.get(f"AIRFLOW__{section}__{option}".upper())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the log
