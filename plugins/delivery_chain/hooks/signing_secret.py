"""Reads the installation's signing secret in tasks: an Airflow Variable, readable by role `op` and above.

The scheduler creates it before it starts a chain's first run, see `delivery_chain.airflow_db.listener`. Tasks never
create it: Airflow's API has no insert-if-absent for Variables, so concurrent tasks would each trust a secret of their
own.
"""

from __future__ import annotations

from functools import cache

from delivery_chain.core.seal import SHORTEST, SIGNING_SECRET
from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.absence import read_variable


@cache
def signing_secret() -> str:
    """Read the secret, once per process.

    Raises:
        ConfigurationError: The secret does not exist, or is too short. Not retryable.
        AirflowUnreachable: It is unknown whether the secret exists. Retryable.
    """
    found = read_variable(SIGNING_SECRET)
    if not isinstance(found, str) or len(found) < SHORTEST:
        what = "is too short" if found else "does not exist"
        raise ConfigurationError(
            f"Airflow's Variable {SIGNING_SECRET}, the key that signs the values passed between steps, {what}. "
            f"The scheduler creates it when it starts a run of a chain: delete the Variable if it exists, then clear "
            f"`plan` and everything downstream. Without a scheduler: airflow variables set {SIGNING_SECRET} "
            '"$(openssl rand -hex 32)"'
        )
    return found
