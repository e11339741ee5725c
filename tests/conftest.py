"""Set-up that every test run needs before Airflow can be imported: environment variables, nothing slow."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

TESTS = Path(__file__).resolve().parent
for folder in (TESTS, TESTS.parent / "plugins"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
# For the benchmarks that are tests, too; last, so that nothing of the checkout hides what is installed.
sys.path.append(str(TESTS.parent))

HOME = Path(tempfile.mkdtemp(prefix="delivery-chain-tests-"))
for stale in [name for name in os.environ if name.startswith(("AIRFLOW_", "AIRFLOW__"))]:
    # A developer's own Airflow must not change what the tests see.
    del os.environ[stale]
os.environ.update(
    AIRFLOW_HOME=str(HOME),
    # What the scheduler makes in a real Airflow.
    AIRFLOW_VAR_DELIVERY_CHAIN_SIGNING_SECRET="0123456789abcdef" * 4,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(HOME / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(HOME / "plugins"),
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=str(HOME / "passwords.json"),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME / 'airflow.db'}",
    AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER=str(HOME / "work"),
    # Trivy comes with the locked packages here, see scripts/setup.sh.
    AIRFLOW__DELIVERY_CHAIN__TRIVY_WHEEL="allow",
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(HOME / "logs"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Make SIGTERM end the tests like Ctrl-C, so that fixtures stop what they have started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove this run's Airflow home."""
    shutil.rmtree(HOME, ignore_errors=True)
