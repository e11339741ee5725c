"""A server process with the plugin's receiver, which takes deliveries from a file on command.

    python tests/support/webhook_sender.py deliveries.json

The file contains `[[connection, body, headers], …]`. The process prints `ready`, waits for a line, takes all deliveries
at once, and prints `[[status, [run ids], [those started]], …]` as JSON. Airflow's settings and connections come from
the environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "plugins")]


def main() -> None:
    """Run the program; see the module."""
    from support.webhook_airflow import make_receiver  # noqa: PLC0415 - after the path is set

    deliveries = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    with make_receiver() as receiver:
        # Let everything be created that the first request creates: the race is about the rest.
        receiver.request("GET", "/delivery-chain/webhooks/hook")
        print("ready", flush=True)  # noqa: T201 - for who started it
        sys.stdin.readline()
        found = receiver.all((conn_id, body.encode(), headers) for conn_id, body, headers in deliveries)
    results = [
        [sent.status, sent.run_ids, sent.made] if sent.status == 200 else [sent.status, [], []]
        for sent in found
    ]
    print(json.dumps(results), flush=True)  # noqa: T201 - for who started it


if __name__ == "__main__":
    main()
