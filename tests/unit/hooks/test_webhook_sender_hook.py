from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.webhook_sender import PER_MINUTE, WebhookSender, WebhookSenderHook

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET, OLD = "s3cret-of-at-least-16", "an-older-s3cret-of-16"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WebhookSenderHook]:
    def make(extra: Any = None, **fields: Any) -> WebhookSenderHook:
        said = {"sender": "github", "speaks_for": "git_shop"} | (extra or {})
        whole = {"conn_type": "webhook_sender", "password": SECRET, "extra": said} | fields
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(whole))
        return WebhookSenderHook("hook")

    return make


def test_a_sender(connect: Callable[..., WebhookSenderHook]) -> None:
    """All fields; what is not said has its default."""
    assert connect().sender() == WebhookSender(
        conn_id="hook", kind="github", secrets=(SECRET,), speaks_for=("git_shop",), per_minute=PER_MINUTE
    )
    extra = {
        "sender": " GitHub ",
        "speaks_for": "git_shop, home\ngit_shop",
        "second_secret": OLD,
        "per_minute": "30",
    }
    assert connect(extra).sender() == WebhookSender(
        conn_id="hook",
        kind="github",
        secrets=(SECRET, OLD),
        speaks_for=("git_shop", "home"),
        per_minute=30,
    )


def test_a_sender_shows_no_secret(connect: Callable[..., WebhookSenderHook]) -> None:
    """Its repr may be logged."""
    assert repr(connect({"second_secret": OLD}).sender()) == (
        "WebhookSender(conn_id='hook', kind='github', speaks_for=('git_shop',), per_minute=600)"
    )


@pytest.mark.parametrize(
    ("password", "previous", "secrets"),
    [
        ("", "", ()),
        ("", OLD, (OLD,)),
        (SECRET, SECRET, (SECRET,)),
        ("x" * 16, "", ("x" * 16,)),
        ("x" * 1000, "", ("x" * 1000,)),
        (" with blanks & all! ", "", (" with blanks & all! ",)),
    ],
)
def test_secrets_that_count(
    connect: Callable[..., WebhookSenderHook], password: str, previous: str, secrets: tuple[str, ...]
) -> None:
    """None, one or two; an empty one is none."""
    assert connect({"second_secret": previous}, password=password).sender().secrets == secrets


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": "x" * 15}, "password"),
        ({"password": "x" * 1001}, "password"),
        ({"password": "ключ" * 8}, "password"),
        ({"password": "Schlüssel-" * 3}, "password"),
        ({"password": "line\nbreak-in-a-secret"}, "password"),
        ({"password": "a\ttabulator-in-a-secret"}, "password"),
        ({"password": "\x7fdelete-in-a-secret"}, "password"),
        ({"extra": {"second_secret": "short"}}, "second_secret"),
        ({"extra": {"second_secret": "ключ" * 8}}, "second_secret"),
        ({"extra": {"second_secret": 1234567890123456}}, "second_secret"),
        ({"extra": {"speaks_for": ""}}, "speaks_for"),
        ({"extra": {"speaks_for": " , "}}, "speaks_for"),
        ({"extra": {"speaks_for": "git_shop ../etc"}}, "speaks_for"),
        ({"extra": {"speaks_for": ["git_shop"]}}, "speaks_for"),
        ({"extra": {"sender": 7}}, "sender"),
        ({"extra": {"per_minute": 0}}, "per_minute"),
        ({"extra": {"per_minute": -1}}, "per_minute"),
        ({"extra": {"per_minute": "many"}}, "per_minute"),
        ({"extra": {"per_minute": 1_000_001}}, "per_minute"),
        ({"conn_type": "http"}, "conn_type"),
    ],
)
def test_wrong_connections_are_refused(
    connect: Callable[..., WebhookSenderHook], fields: dict[str, Any], field: str
) -> None:
    """The message names connection and field and shows no secret."""
    with pytest.raises(ConfigurationError, match=f"connection 'hook', field {field}: expected") as caught:
        connect(**fields).sender()
    assert fields.get("password", SECRET) not in str(caught.value)
    assert not caught.value.retryable


def test_a_missing_connection() -> None:
    """It says where to add it, and with which type."""
    with pytest.raises(ConfigurationError, match="add it under Admin > Connections with type webhook_sender"):
        WebhookSenderHook("nobody").sender()


def test_no_text_of_the_extra_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no JSON may hold a secret."""
    connection = {"conn_type": "webhook_sender", "password": SECRET, "extra": f"second_secret={OLD}"}
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(connection))
    with pytest.raises(ConfigurationError) as caught:
        WebhookSenderHook("hook").sender()
    assert OLD not in str(caught.value)
