# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""The ledger's page, with Airflow's own login, and its command."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from delivery_chain.core.events.ledger import LedgerLine
from delivery_chain.core.run.facts import Facts
from support.push_records import CHAIN, PLACE, QUIET, Records, entry, run_of

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = [
    pytest.mark.integration,
    # Imported by Airflow's own web server.
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]


class Reader:
    """Requests the page as a user of Airflow."""

    def __init__(self) -> None:
        from airflow.api_fastapi.app import create_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        from delivery_chain.web.pages.app import app

        self.manager: Any = create_auth_manager()
        self.token = self.manager.generate_jwt(SimpleAuthManagerUser(username="bob", role="viewer"))
        self.app = app

    def get(self, *, login: bool = True, path: str = "/events", **query: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}"} if login else {}
        answer = anyio.run(self._get, path, headers, query)
        return answer.status_code, answer.text

    async def _get(self, path: str, headers: dict[str, str], query: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            return await client.get(path, params=query, headers=headers)


@pytest.fixture
def reader(records: Records, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """With three pushes to see."""
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "x" * 64)
    records.told(PLACE, entry("refs/tags/v1", outcomes=run_of("v1", made=True)))
    records.told(QUIET, entry("refs/tags/v2", why="no build rule matches"))
    records.told(None, entry("refs/tags/v3"))
    records.session.commit()
    return Reader()


def shown(text: str) -> list[str]:
    return [name for name in ("v1", "v2", "v3") if f"tag {name} " in text]


def test_the_page_asks_for_a_login(reader: Reader) -> None:
    """It can't be read without a login, even with a Dag named in the address."""
    assert reader.get(login=False)[0] == 401
    assert reader.get(login=False, dag_id=PLACE)[0] == 401


def test_the_first_page(reader: Reader) -> None:
    """It requires a login, too, and links to the push events."""
    assert reader.get(path="/", login=False)[0] == 401
    status, text = reader.get(path="/")
    assert (status, '<a href="events">Push events</a>' in text) == (200, True)


def test_a_run_that_is_not_there_has_a_page(reader: Reader) -> None:
    """It links to the other pages, for logged-in users."""
    path = f"/{CHAIN}/nope"
    assert reader.get(path=path, login=False)[0] == 401
    status, text = reader.get(path=path)
    assert (status, f"{CHAIN}/nope: no such run of a chain." in text, 'href="../"' in text) == (
        404,
        True,
        True,
    )


@pytest.mark.parametrize(
    ("deleted", "status"),
    [((), 200), (("report",), 200), (("assemble",), 200), (("assemble", "report"), 404)],
)
def test_a_run_whose_task_was_deleted_has_its_page(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, deleted: tuple[str, ...], status: int
) -> None:
    """A run without the tasks that every chain has gets no page."""
    facts = Facts(state="success", deleted=deleted)
    monkeypatch.setattr("delivery_chain.web.pages.app.facts_of", lambda *_, **__: facts)
    assert reader.get(path=f"/{CHAIN}/some")[0] == status


def test_the_page_shows_what_is_asked_for(reader: Reader) -> None:
    """Everything, or what the form's filters leave."""
    status, text = reader.get()
    assert (status, shown(text)) == (200, ["v1", "v2", "v3"])
    assert shown(reader.get(ref="v2")[1]) == ["v2"]
    assert shown(reader.get(source="git_shop")[1]) == ["v1"]
    assert shown(reader.get(chain=CHAIN)[1]) == ["v1"]
    assert shown(reader.get(gaps="1")[1]) == ["v1"]
    assert shown(reader.get(since="5m")[1]) == []
    status, text = reader.get(since="1x")
    assert (status, shown(text), "expected 30m, 12h, 1d" in text) == (400, [], True)


def test_the_page_honours_airflow_s_rights(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users who may read some Dags see their part; without access to the audit log, they see nothing."""
    monkeypatch.setattr(type(reader.manager), "get_authorized_dag_ids", lambda *_args, **_named: {QUIET})
    status, text = reader.get()
    assert (status, shown(text)) == (200, ["v2"])
    may: Callable[..., bool] = lambda *_args, details=None, **_named: bool(details and details.id)  # noqa: E731
    monkeypatch.setattr(type(reader.manager), "is_authorized_dag", may)
    assert [reader.get()[0], reader.get(dag_id=QUIET)[0]] == [403, 403]


def test_the_command_reads_the_same(reader: Reader) -> None:
    """In a process of its own, as run by a user: JSON on standard output, and nothing else."""
    del reader
    code = (
        "import sys; from delivery_chain.commands.main import main;"
        " sys.exit(main(['events', '--json', '--since', '1h']))"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    found = [LedgerLine.model_validate_json(line) for line in done.stdout.splitlines()]
    assert sorted(change.name for change in found) == ["tag v1", "tag v2", "tag v3"]


def test_the_command_says_which_database_it_needs(tmp_path: Any) -> None:
    """Without Airflow's configuration: exit code 1, and what is missing."""
    code = "import sys; from delivery_chain.commands.main import main; sys.exit(main(['events']))"
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'none.db'}",
    }
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Airflow's database can't be read: no such table" in done.stderr
    assert "AIRFLOW_HOME" in done.stderr
