"""Build the request body of a webhook target: that of ACR's webhook, followed by this project's own keys.

Source: requests recorded from ACR EE's triggers; consumers such as Argo CD Image Updater and Rancher read them.
"""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delivery_chain.targets.order import Order

ACR_ZONE = timezone(timedelta(hours=8))
"""ACR writes times without a zone, in UTC+8."""


def delivery_body(order: Order) -> dict[str, Any]:
    """Return the body, its JSON keys in ACR's order."""
    namespace, _, repository = order.name.partition("/")
    pushed_at = order.pushed_at.astimezone(ACR_ZONE).strftime("%Y-%m-%d %H:%M:%S")
    return {
        "push_data": {
            "digest": order.digest,
            "pushed_at": pushed_at,
            "tag": order.tag,
        },
        "repository": {
            "date_created": pushed_at,
            "name": repository,
            "namespace": namespace,
            "region": order.region,
            "repo_authentication_type": "NO_CERTIFIED",
            "repo_full_name": order.name,
            "repo_origin_type": "NO_CERTIFIED",
            "repo_type": "PRIVATE",
        },
        "delivery_chain": {
            "chain": order.chain,
            "run_id": order.run_id,
            "image": f"{order.host}/{order.name}:{order.tag}@{order.digest}",
            "pushed_at": order.pushed_at.astimezone(UTC).isoformat(timespec="seconds"),
            "regions": dict(order.regions),
        },
    }
