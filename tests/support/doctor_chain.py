# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run it pay for that
"""An installation with everything that its chain needs, for tests of the doctor."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from support.webhook_airflow import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry
    from support.oci_memory import MemoryRegistry
    from support.webhook_store import Stored

SPEC: dict[str, Any] = {
    "version": 1,
    "name": "shop",
    "scope": {"instance": "cn-hangzhou", "namespace": "shop", "repositories": ["api"]},
    "sources": {"api": {"connection": "git_shop", "url": "api.git"}},
    "build": {
        "rules": [{"name": "release", "tag": r"v(?<n>\d+)", "tags": [{"tag": "v${n}"}]}],
    },
    "scan": {"block": {"severity": "high", "on_block": {"backup": True, "delete": True}}},
    "replicate": [{"name": "to-eu", "to": "eu", "as": {"namespace": "mirror"}}],
    "distribute": [{"name": "tell-prod", "url_connection": "prod"}],
}
Lines = dict[tuple[str, str], tuple[str, str, str]]


class Doctor:
    """An installation with everything that its chain needs, until a test removes something."""

    def __init__(self, folder: Path, stored: Stored, home: Registry, eu: MemoryRegistry) -> None:
        self.folder = folder
        self.stored = stored
        self.home = home
        self.eu = eu
        self.specs = folder / "chain_specs"
        self.specs.mkdir()
        self.write(SPEC)

    def write(self, spec: dict[str, Any], name: str = "shop.yaml") -> None:
        (self.specs / name).write_text(yaml.safe_dump(spec))

    def connect(self, name: str, conn_type: str, **fields: Any) -> None:
        """Create a connection in Airflow's database, replacing an existing one."""
        from airflow.models.connection import Connection
        from airflow.utils.session import create_session

        self.disconnect(name)
        extra = fields.pop("extra", {})
        with create_session() as session:
            session.add(Connection(conn_id=name, conn_type=conn_type, extra=json.dumps(extra), **fields))

    def disconnect(self, name: str) -> None:
        from airflow.models.connection import Connection
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        with create_session() as session:
            session.execute(delete(Connection).where(Connection.conn_id == name))

    def registry(self, name: str, registry: Registry, **more: Any) -> None:
        host, _, port = registry.host.partition(":")
        login = {"login": registry.username or None, "password": registry.password or None}
        fields = {"host": host, "port": int(port), **login, "extra": {"plain_http": True}}
        self.connect(name, "oci_registry", **fields | more)

    def everything(self) -> None:
        """Create everything that the chain needs."""
        self.registry("cn-hangzhou", self.home)
        self.registry("eu", self.eu.registry)
        self.connect("git_shop", "git", host=(self.folder / "git").as_uri())
        # Anything that accepts connections will do, because no request is sent.
        self.connect("prod", "delivery_webhook", host=self.home.base_url)
        extra = {"sender": "standard", "speaks_for": "git_shop"}
        self.connect("hook", "webhook_sender", password=SECRET, extra=extra)
        git = [
            "git",
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.com",
            "-C",
            str(self.folder / "git/api.git"),
        ]
        subprocess.run(["git", "init", "-q", str(self.folder / "git/api.git")], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
        subprocess.run([*git, "tag", "-f", "v1"], check=True, capture_output=True)
        self.dags()
        self.processes(datetime.now(UTC))

    def dags(self) -> None:
        from delivery_chain.core.spec.model import ChainSpec
        from delivery_chain.dag_files.factory import make_source_dags

        spec = ChainSpec.model_validate(SPEC)
        self.stored.add(spec)
        self.stored.add_dags(*make_source_dags([spec]).values())

    def processes(self, heard: datetime, *kinds: str) -> None:
        """Record Airflow's own processes, with the time of their last heartbeat."""
        from airflow.jobs.job import Job
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        from delivery_chain.doctor.airflow_side import PROCESSES

        with create_session() as session:
            session.execute(delete(Job).where(Job.job_type.in_(kinds or tuple(PROCESSES))))
            for kind in kinds or tuple(PROCESSES):
                job = Job(job_type=kind, state="running", latest_heartbeat=heard)
                job.hostname = "scheduler-1"
                session.add(job)

    def look(self, *words: str) -> tuple[int, Lines]:
        """Run the doctor; return its lines by topic and subject: level, message, remedy."""
        from delivery_chain.commands.doctor import examine

        lines = examine(words)
        code = int(any(line.level == "problem" for line in lines))
        found: Lines = {}
        for one in lines:
            # A program's known flaws are reported in a second line.
            found.setdefault((one.topic, one.about), (str(one.level), one.said, one.remedy))
        return code, found

    def line(self, topic: str, about: str) -> tuple[str, str, str]:
        return self.look()[1][topic, about]
