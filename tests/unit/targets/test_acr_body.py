from __future__ import annotations

import json
from datetime import UTC, datetime

from delivery_chain.targets.acr_body import delivery_body
from delivery_chain.targets.order import delivery_id
from support.orders import order

DIGEST = "sha256:" + "c" * 64
ACR_PART = (
    '{"push_data":{"digest":"' + DIGEST + '","pushed_at":"2016-11-29 12:25:46","tag":"latest"},'
    '"repository":{"date_created":"2016-11-29 12:25:46","name":"repoTest","namespace":"namespace",'
    '"region":"cn-hangzhou","repo_authentication_type":"NO_CERTIFIED","repo_full_name":"namespace/repoTest",'
    '"repo_origin_type":"NO_CERTIFIED","repo_type":"PRIVATE"}'
)


def test_body_is_acrs() -> None:
    """The body is ACR's, key by key in its order with times in UTC+8; our own keys come after."""
    body = delivery_body(
        order(
            name="namespace/repoTest",
            tag="latest",
            digest=DIGEST,
            pushed_at=datetime(2016, 11, 29, 4, 25, 46, tzinfo=UTC),
            host="registry.example.com",
            region="cn-hangzhou",
            chain="shop",
            run_id="r1",
            regions={"to-far": "far.example.com/namespace/repoTest:latest"},
        )
    )
    assert json.dumps(body, separators=(",", ":")) == (
        ACR_PART + ',"delivery_chain":{"chain":"shop","run_id":"r1",'
        f'"image":"registry.example.com/namespace/repoTest:latest@{DIGEST}",'
        '"pushed_at":"2016-11-29T04:25:46+00:00",'
        '"regions":{"to-far":"far.example.com/namespace/repoTest:latest"}}}'
    )


def test_delivery_id() -> None:
    """A delivery keeps its id over all attempts; another tag, digest, trigger, run or chain has another."""
    parts = {"chain": "c", "run_id": "r", "trigger": "t", "tag": "v", "digest": DIGEST}
    ids = [delivery_id(**parts), *(delivery_id(**(parts | {key: "other"})) for key in parts)]
    assert delivery_id(**parts) == ids[0]
    assert len(set(ids)) == 6
    assert all(made.startswith("dlv_") and len(made) == 36 for made in ids)
