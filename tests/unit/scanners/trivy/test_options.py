from __future__ import annotations

from pathlib import Path

import pytest

from delivery_chain.errors import ConfigurationError
from delivery_chain.scanners.trivy.databases import is_loopback
from delivery_chain.scanners.trivy.options import TrivyOptions, cache_folder
from support.sections import section


def test_defaults_need_no_configuration() -> None:
    """Trivy's own repositories, databases of three days and two weeks, no wheel."""
    assert TrivyOptions.read(section()) == TrivyOptions()
    assert cache_folder(section()) == Path.home() / ".cache" / "delivery-chain" / "trivy"


def test_values_are_read() -> None:
    """Each option reaches its field."""
    found = TrivyOptions.read(
        section(
            trivy_db_repository="registry.example.com/mirror/trivy-db:2",
            trivy_db_max_age_hours="24",
            trivy_java_db_repository="registry.example.com/mirror/trivy-java-db:1",
            trivy_java_db_max_age_hours="48",
            trivy_wheel="ALLOW",
        )
    )
    assert found == TrivyOptions(
        db_repository="registry.example.com/mirror/trivy-db:2",
        db_max_age_hours=24,
        java_db_repository="registry.example.com/mirror/trivy-java-db:1",
        java_db_max_age_hours=48,
        wheel=True,
    )
    assert cache_folder(section(trivy_cache_dir="/var/cache/trivy")) == Path("/var/cache/trivy")


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("trivy_db_repository", "https://mirror/db", "host[:port]/name[:tag]"),
        ("trivy_db_repository", "--insecure/x", "host[:port]/name[:tag]"),
        ("trivy_wheel", "yes", "one of refuse, allow"),
        ("trivy_db_max_age_hours", "-1", "a whole number from 1 to 8760"),
        ("trivy_db_max_age_hours", "72.5", "a whole number from 1 to 8760"),
    ],
)
def test_wrong_values_are_refused(option: str, text: str, expected: str) -> None:
    """The error names the option, what it takes and what was found."""
    with pytest.raises(ConfigurationError) as caught:
        TrivyOptions.read(section(**{option: text}))
    assert str(caught.value) == (
        f"[delivery_chain] {option}: expected {expected}, found {text!r}; "
        f"correct it in airflow.cfg or in AIRFLOW__DELIVERY_CHAIN__{option.upper()}"
    )


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("127.0.0.1:5000", True),
        ("localhost:5000", True),
        ("localhost", True),
        ("[::1]:5000", True),
        ("registry.example.com", False),
        ("10.0.0.1:5000", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_only_this_machine_speaks_plain_http(host: str, plain: bool) -> None:  # noqa: FBT001
    """A mirror elsewhere is asked by https."""
    assert is_loopback(host) is plain
