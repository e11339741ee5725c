from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.builders.buildah.isolation import Isolation, Network
from delivery_chain.core.section import SECTION, Section
from delivery_chain.errors import ConfigurationError
from delivery_chain.provider_info import get_provider_info
from delivery_chain.scanners.table import SCANNERS
from delivery_chain.settings import BUILD_ISOLATIONS, BUILD_NETWORKS, GIT_TRANSPORTS, Settings
from delivery_chain.tools.git.source import Transport

if TYPE_CHECKING:
    from collections.abc import Callable


def options(**found: str) -> Callable[[str, str], str | None]:
    values = {("core", "dags_folder"): "/airflow/dags"} | {
        (SECTION, key): text for key, text in found.items()
    }
    return lambda section, option: values.get((section, option))


def test_defaults_need_no_configuration() -> None:
    """Without a section the settings are the documented ones."""
    found = Settings.read(options())
    assert (found.specs_folder, found.git_transports, found.git_poll_seconds) == (
        Path("/airflow/chain_specs"),
        frozenset({"https", "ssh"}),
        30.0,
    )
    assert (found.build_isolation, found.build_network) == ("auto", "auto")
    assert (found.staging_keep_hours, found.image_poll_seconds) == (24, 60.0)
    assert (found.registry_requests, found.registry_megabytes_per_second, found.replicate_pool) == (
        8,
        0.0,
        "default_pool",
    )


def test_declared_defaults_are_the_real_ones() -> None:
    """What Airflow shows as default is what an empty section gives, to scan engines too."""
    declared = get_provider_info()["config"][SECTION]["options"]
    shown = options(**{key: value["default"] for key, value in declared.items()})
    assert Settings.read(shown) == Settings.read(options())
    for name in SCANNERS:
        read = SCANNERS.load(name)().options.read
        assert read(Section(shown)) == read(Section(options()))


def test_every_declared_option_is_read() -> None:
    """And no other: by the settings, and by the scan engines on the machine that scans."""
    asked: set[str] = set()

    def watch(section: str, option: str) -> None:
        asked.update({option} if section == SECTION else ())

    Settings.read(watch)
    for name in SCANNERS:
        SCANNERS.load(name)().options.read(Section(watch))
        for check in SCANNERS.load(name)().checks(Section(watch)):
            tuple(check.ask())
    assert asked == set(get_provider_info()["config"][SECTION]["options"])


def test_choices_are_those_of_the_tools() -> None:
    """The settings accept exactly what builds and git sources understand."""
    assert set(GIT_TRANSPORTS) == {str(name) for name in Transport}
    assert set(BUILD_ISOLATIONS) == {str(name) for name in Isolation}
    assert set(BUILD_NETWORKS) == {str(name) for name in Network}


def test_values_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's environment variables reach the settings."""
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__GIT_TRANSPORTS", "https, FILE")
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__GIT_POLL_SECONDS", "2.5")
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER", "/etc/chains")
    found = Settings.load()
    assert (found.git_transports, found.git_poll_seconds, found.specs_folder) == (
        frozenset({"https", "file"}),
        2.5,
        Path("/etc/chains"),
    )


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("specs_folder", "chains", "an absolute path"),
        ("work_folder", "./x", "an absolute path"),
        ("git_transports", "https,ext", "a comma-separated list of https, ssh, file, http"),
        ("git_transports", ",", "a comma-separated list of https, ssh, file, http"),
        ("git_poll_seconds", "0.1", "a number from 1 to 3600"),
        ("git_poll_seconds", "nan", "a number from 1 to 3600"),
        ("git_poll_seconds", "often", "a number from 1 to 3600"),
        ("image_poll_seconds", "4.9", "a number from 5 to 3600"),
        ("image_poll_seconds", "3601", "a number from 5 to 3600"),
        ("build_isolation", "none", "one of auto, container, namespaces, chroot"),
        ("build_network", "public", "one of auto, private, host, none"),
        ("staging_keep_hours", "9" * 5000, "a whole number from 1 to 8760"),
        ("registry_requests", "0", "a whole number from 1 to 256"),
        ("registry_megabytes_per_second", "-1", "a number from 0 to 1e+06"),
    ],
)
def test_wrong_values_are_refused(option: str, text: str, expected: str) -> None:
    """The error names the option, what it takes and what was found."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.read(options(**{option: text}))
    assert str(caught.value) == (
        f"[delivery_chain] {option}: expected {expected}, found {text[:200]!r}; "
        f"correct it in airflow.cfg or in AIRFLOW__DELIVERY_CHAIN__{option.upper()}"
    )
