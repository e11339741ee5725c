"""`delivery-chain replicate`: lists the images that a chain's regions lack, and starts the runs that copy them."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.commands.exit_codes import DONE
from delivery_chain.core.dags import EXISTING
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.spec_store.folder import read_text
from delivery_chain.tools import process

if TYPE_CHECKING:
    import argparse

TRIGGER_SECONDS = 120.0
"""Timeout in seconds of Airflow's own command."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("spec", type=Path, metavar="SPEC")
    parser.add_argument(
        "--existing",
        action="store_true",
        required=True,
        help="copy images that are already in the home registry",
    )
    parser.add_argument("--rule", default="", help="only this replication rule; every rule by default")
    parser.add_argument("--tags", default=".*", metavar="REGEXP", help="only tags that fully match (RE2)")
    parser.add_argument("--dry-run", action="store_true", help="print the missing images, and start nothing")
    parser.set_defaults(func=_replicate)


def _replicate(args: argparse.Namespace) -> int:
    spec = parse_spec(read_text(args.spec), str(args.spec))
    # The connections are in Airflow's database, which server commands may read, but tasks may not.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # Airflow logs to standard output, which is reserved for the results.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    from delivery_chain.hooks.registry import OciRegistryHook  # noqa: PLC0415 - imports Airflow
    from delivery_chain.operators.backfill import missing  # noqa: PLC0415

    count = 0
    found = missing(
        spec, lambda connection: OciRegistryHook(connection).client(), rule=args.rule, tags=args.tags
    )
    for count, image in enumerate(found, 1):  # noqa: B007 - its last value is used
        name = f"{spec.scope.namespace}/{image.repository}:{image.tag}"
        print(f"{name}  {short_digest(image.digest)}  {', '.join(image.rules)}")  # noqa: T201
    if args.dry_run or not count:
        print(f"images that a region lacks: {count}")  # noqa: T201
        return DONE
    run_id = _trigger({"chain": spec.name, "rule": args.rule or None, "tags": args.tags})
    print(f"images that a region lacks: {count}; run {run_id} of {EXISTING} sends them")  # noqa: T201
    return DONE


def _trigger(conf: dict[str, Any]) -> str:
    program = Path(sys.executable).parent / "airflow"
    ours = {name: value for name, value in os.environ.items() if name.startswith(("AIRFLOW", "PYTHON"))}
    env = process.base_env() | ours | {"HOME": str(Path.home())}
    argv = [str(program), "dags", "trigger", "--output=json", f"--conf={json.dumps(conf)}", EXISTING]
    done = process.run(argv, tool="airflow", env=env, deadline=time.monotonic() + TRIGGER_SECONDS)
    # Log lines may precede the JSON.
    answer = json.loads(done.stdout[done.stdout.index(b"[{") :])
    return str(answer[0]["dag_run_id"])
