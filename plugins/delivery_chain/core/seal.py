"""Seals: what a step leaves in Airflow is believed only with a proof that a step of this installation left it there.

Whoever may edit a Dag in Airflow may write its XComs, the state of its tasks and a run's `conf` over REST. So each
value that decides something carries an HMAC-SHA256 over itself and the place that it was left at. The key is known to
tasks and to Airflow's servers, see `delivery_chain.hooks.signing_secret`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery_chain.core.xcom_keys import RETURNED
from delivery_chain.errors import SealBroken

if TYPE_CHECKING:
    from collections.abc import Mapping

SEAL = "seal"
"""Key of a sealed value under which its proof is; no value of ours has a field of this name."""
PURPOSE = "delivery-chain seal 1"
"""Part of what is signed: a signature made for something else is none of these."""
CONF = "conf"
"""The key that stands for a run's `conf`."""
SIGNING_SECRET = "delivery_chain_signing_secret"  # noqa: S105 - its name
"""The Airflow Variable with the key: by its name Airflow takes it for a secret, and masks it in pages and logs."""
LONGEST_INDEX = 9
"""Digits: Airflow maps a task over some thousands at most."""
SHORTEST = 32
"""Characters of a secret: what is shorter was not made by us, and could be guessed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is left. A copy of it at another place is refused."""

    dag_id: str
    run_id: str
    task_id: str = ""
    """Empty for what belongs to the run as a whole: its `conf`."""
    map_index: int = -1
    key: str = RETURNED

    def __str__(self) -> str:
        """`gate`, or `scan[1]` for an instance of a mapped task."""
        return f"{self.task_id}[{self.map_index}]" if self.map_index >= 0 else self.task_id


def sealed(value: Mapping[str, Any], place: Place, secret: str) -> dict[str, Any]:
    """The value with its proof added.

    Args:
        value: JSON types only, without the key `seal`.
        place: Where it is going to be.
        secret: The installation's signing secret.
    """
    return {**value, SEAL: f"{place.map_index}:{_proof(value, place, secret)}"}


def opened(value: Any, place: Place, secret: str) -> dict[str, Any]:
    """The value without its proof, which was checked.

    Raises:
        SealBroken: It is not what was sealed at this place with this secret. Not retryable.
    """
    if is_sealed(value, place, secret):
        return unproven(value)
    advice = f"Clear the task `{place.task_id}` and all that follow it, so that it is made again"
    raise SealBroken(
        f"what the task `{place}` left in run {place.run_id!r} (XCom {place.key!r}) was changed after the task left "
        "it, over Airflow's REST API or in its database, or was left by another installation or by an older version "
        f"of this package. {advice}"
    )


def is_sealed(value: Any, place: Place, secret: str) -> bool:
    """Whether the value is what was sealed at this place with this secret."""
    if not isinstance(value, dict) or not isinstance(value.get(SEAL), str):
        return False
    try:
        expected = _proof(unproven(value), place, secret)
    except (TypeError, ValueError, RecursionError):
        # From outside: no JSON, or nested without end.
        return False
    written = f"{place.map_index}:{expected}"
    return hmac.compare_digest(written.encode(), value[SEAL].encode("utf-8", "surrogatepass"))


def claimed_index(value: Any) -> int:
    """The map index that a value says it was left at; -1 where it says none. Airflow gives mapped values without it."""
    said = value.get(SEAL) if isinstance(value, dict) else None
    index = said.partition(":")[0] if isinstance(said, str) else ""
    return int(index) if len(index) < LONGEST_INDEX and index.isascii() and index.isdecimal() else -1


def unproven(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value without its proof, unchecked: for showing alone."""
    return {key: part for key, part in value.items() if key != SEAL}


def fingerprint(*values: Any) -> str:
    """64 hex digits that stand for JSON values: equal for equal ones."""
    return hashlib.sha256(_canonical(values)).hexdigest()


def _proof(value: Mapping[str, Any], place: Place, secret: str) -> str:
    where = [place.dag_id, place.run_id, place.task_id, place.map_index, place.key]
    return hmac.new(secret.encode(), _canonical([PURPOSE, where, value]), hashlib.sha256).hexdigest()


def _canonical(value: Any) -> bytes:
    """One text for equal JSON values: keys sorted, and numbers as every database gives them back."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    # PostgreSQL gives 1e16 back as 10000000000000000, and -0.0 as 0.0.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("expected texts as the keys of JSON")
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
