"""The receiver conforms to its OpenAPI, whatever is sent: schemathesis sends requests with and without a proof."""

from __future__ import annotations

import json
import time
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from support.airflow_database import SQLITE, airflow_database
from support.webhook_airflow import SECRET, connect, connect_git, images, spec
from support.webhook_samples import standard_of
from support.webhook_store import Stored

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
ROUTE = "/{connection}"
HARMLESS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
SETTINGS = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=HARMLESS,
    phases=[Phase.explicit, Phase.generate],
    database=None,
)
TEXT = st.text(max_size=30)
REFS = (
    st.sampled_from(["refs/heads/main", "refs/tags/v1", "refs/tags/v1^{}", "refs/heads/x", "main", ""]) | TEXT
)
COMMITS = st.sampled_from(["a" * 40, "b" * 40, "c" * 64, "0" * 40, ""]) | TEXT
PAYLOADS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["source.push", "image.push", "ping"]) | TEXT,
    },
    optional={
        "repository": st.sampled_from(["shop/api", "api.git", "https://git.example.com/shop/api"]) | TEXT,
        "actor": TEXT,
        "pushed_at": st.sampled_from(["2024-05-31T16:48:37Z", "9999-12-31T23:59:59-23:00"]) | TEXT,
        "pushes": st.lists(
            st.fixed_dictionaries({"ref": REFS, "after": COMMITS}, optional={"before": COMMITS}), max_size=4
        ),
        "images": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["base/a", "shop/api", "other/x"]) | TEXT},
                optional={
                    "tag": st.sampled_from(["v1", "_staging-0123456789ab"]) | TEXT,
                    "digest": st.sampled_from([f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"]) | TEXT,
                },
            ),
            max_size=4,
        ),
    },
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The receiver on a database with chains, and the connections `hook` and `token`."""
    with (
        pytest.MonkeyPatch.context() as patch,
        airflow_database(SQLITE, tmp_path_factory.mktemp("db")) as url,
    ):
        from delivery_chain.web.receiver import make_app  # noqa: PLC0415 - needs Airflow's API server

        stored = Stored(SQLITE, url)
        stored.add(spec(), images())
        connect(patch)
        connect(patch, "token", extra={"sender": "distribution"})
        connect_git(patch)
        yield make_app()


@pytest.fixture(scope="module")
def operation(app: Any) -> Any:
    """The only operation of its OpenAPI, as an outside tool reads it."""
    raw = app.openapi()
    assert list(raw["paths"]) == [ROUTE]
    assert list(raw["paths"][ROUTE]) == ["post"]
    schema = schemathesis.openapi.from_dict(raw, config=SchemathesisConfig())
    schema.app = app
    return schema[ROUTE]["POST"]


def validated(case: Any) -> Any:
    """The response, after all checks of schemathesis. Formats of bodies depend on the sender, not on the OpenAPI."""
    return case.call_and_validate(excluded_checks=[positive_data_acceptance])


def test_what_the_schema_says(app: Any) -> None:
    """The statuses that occur, and a schema for each."""
    post = app.openapi()["paths"][ROUTE]["post"]
    assert sorted(post["responses"]) == ["200", "400", "401", "408", "413", "422", "429", "503"]
    assert all("content" in one for one in post["responses"].values())


def test_anything_of_a_stranger(operation: Any) -> None:
    """No failure, no undeclared status, no response with another schema."""

    @SETTINGS
    @given(
        operation.as_strategy(), st.sampled_from([None, "hook", "token", "nobody"]), st.binary(max_size=80)
    )
    def check(case: Any, conn_id: str | None, body: bytes) -> None:
        if conn_id is not None:
            case.path_parameters = {"connection": conn_id}
        case.body, case.media_type = body, "application/json"
        answer = validated(case)
        assert answer.status_code in {401, 404, 429}

    check()


def test_anything_of_who_knows_the_secret(operation: Any) -> None:
    """The same for signed requests: random bytes, and bodies that resemble deliveries."""

    @SETTINGS
    @given(operation.as_strategy(), st.binary(max_size=80) | PAYLOADS.map(json.dumps).map(str.encode), TEXT)
    def check(case: Any, body: bytes, event_id: str) -> None:
        name, stamp = (
            event_id.encode("ascii", "ignore").decode().strip() or token_hex(4),
            str(int(time.time())),
        )
        name = "".join(letter for letter in name if letter.isprintable()) or "e"
        case.path_parameters = {"connection": "hook"}
        case.headers = {
            "webhook-id": name,
            "webhook-timestamp": stamp,
            "webhook-signature": standard_of(name, body, key=SECRET.encode(), stamp=stamp),
        }
        case.body, case.media_type = body, "application/json"
        answer = validated(case)
        assert answer.status_code in {200, 400, 401, 429, 503}

    check()


def test_anything_of_who_knows_a_token(operation: Any) -> None:
    """The same for a sender with a token, and for each media type."""

    @SETTINGS
    @given(
        operation.as_strategy(),
        st.binary(max_size=80),
        st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain"]),
    )
    def check(case: Any, body: bytes, media_type: str) -> None:
        case.path_parameters = {"connection": "token"}
        case.headers = {"authorization": f"Bearer {SECRET}", "content-type": media_type}
        case.body, case.media_type = body, media_type
        answer = validated(case)
        assert answer.status_code in {200, 400}

    check()
