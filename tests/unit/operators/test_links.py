from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom

from delivery_chain.operators.links import RegistryLink
from delivery_chain.operators.publish import PublishOperator

KEY = SimpleNamespace(dag_id="shop", run_id="r 1")
PAGE = "/delivery-chain/shop/r%201#image"


@pytest.mark.parametrize(
    ("left", "link"),
    [
        ("https://hub.example.com/shop/api?tag=v1", "https://hub.example.com/shop/api?tag=v1"),
        ("http://localhost:5000/v2/shop/api/manifests/sha256:1", PAGE),
        ("javascript:alert(1)", PAGE),
        ("data:text/html,x", PAGE),
        ("//evil.example.com", PAGE),
        (None, PAGE),
        ({"x": 1}, PAGE),
    ],
)
def test_a_button_leads_to_a_page_that_a_browser_may_open(
    monkeypatch: pytest.MonkeyPatch, left: Any, link: str
) -> None:
    """The registry's own page, else ours; the XCom that it is read from can be edited by people."""
    monkeypatch.setattr(XCom, "get_value", lambda **_: left)
    assert RegistryLink().get_link(PublishOperator(task_id="publish"), ti_key=KEY).endswith(link)
