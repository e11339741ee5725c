"""Sets up the schema of Airflow's database and its connections in one process: each `airflow` command takes seconds.

Run it as `python -m delivery_chain.airflow_db.first_setup` with Airflow's settings in the environment and the
connections on standard input: a JSON list of objects with `conn_id` and Connection's other arguments.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.models.connection import Connection
from airflow.utils import db
from airflow.utils.session import create_session
from sqlalchemy import select

MAX_INPUT = 1 << 20


def write_connections(wanted: list[dict[str, Any]]) -> None:
    """Create or reset each of the given connections; leave others unchanged."""
    with create_session() as session:
        for values in wanted:
            extra = json.dumps(values.pop("extra")) if "extra" in values else None
            known = session.scalar(select(Connection).where(Connection.conn_id == values["conn_id"]))
            if known is None:
                session.add(Connection(**values, extra=extra))
                continue
            for name, value in values.items():
                setattr(known, name, value)
            known.set_extra(extra or "")


def main() -> None:
    """Migrate the schema, then write the connections."""
    wanted = json.loads(sys.stdin.read(MAX_INPUT))
    db.upgradedb()
    write_connections(wanted)


if __name__ == "__main__":
    main()
