"""The body of a trigger's request, byte-compatible with ACR's webhook; our own keys come after ACR's.

Source: facts of ACR EE's triggers, "Exact request": consumers such as Argo CD Image Updater and Rancher read it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

ACR_ZONE = timezone(timedelta(hours=8))
"""ACR writes times without a zone, in UTC+8."""


def delivery_id(*, chain: str, run_id: str, trigger: str, tag: str, digest: str) -> str:
    """The id of one delivery: the same for every attempt and every retry of it."""
    parts = f"{chain}\x00{run_id}\x00{trigger}\x00{tag}\x00{digest}"
    return f"dlv_{hashlib.sha256(parts.encode()).hexdigest()[:32]}"


def delivery_body(
    *,
    name: str,
    tag: str,
    digest: str,
    pushed_at: datetime,
    host: str,
    region: str,
    chain: str,
    run_id: str,
    regions: dict[str, str],
) -> dict[str, Any]:
    """The body as JSON keys in ACR's order.

    Args:
        name: `namespace/repository`.
        tag: One tag; a delivery tells of one.
        digest: Of the manifest or index.
        pushed_at: When the source was pushed.
        host: Home registry.
        region: Home region.
        chain: Chain's name.
        run_id: Airflow's run id.
        regions: Image reference per replication rule, for receivers that pull near by.
    """
    namespace, _, repository = name.partition("/")
    return {
        "push_data": {
            "digest": digest,
            "pushed_at": pushed_at.astimezone(ACR_ZONE).strftime("%Y-%m-%d %H:%M:%S"),
            "tag": tag,
        },
        "repository": {
            "date_created": pushed_at.astimezone(ACR_ZONE).strftime("%Y-%m-%d %H:%M:%S"),
            "name": repository,
            "namespace": namespace,
            "region": region,
            "repo_authentication_type": "NO_CERTIFIED",
            "repo_full_name": name,
            "repo_origin_type": "NO_CERTIFIED",
            "repo_type": "PRIVATE",
        },
        "delivery_chain": {
            "chain": chain,
            "run_id": run_id,
            "image": f"{host}/{name}:{tag}@{digest}",
            "pushed_at": pushed_at.astimezone(UTC).isoformat(timespec="seconds"),
            "regions": regions,
        },
    }
