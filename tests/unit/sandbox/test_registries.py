"""Existing registries that are given on the command line."""

from __future__ import annotations

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import UsageError
from delivery_chain.sandbox.registries import Given, addresses, parse_given

PORTS = {"registry-cn-hangzhou": 1, "registry-ap-southeast-1": 2, "registry-eu-central-1": 3}


def test_given_registries_are_read() -> None:
    """A host alone, and a host with a user and the variable that holds the password."""
    found = parse_given(["eu-central-1=r.example.com:5000", "cn-hangzhou=r.example.com,ci,CI_PASSWORD"])
    assert found == {
        "eu-central-1": Given("eu-central-1", "r.example.com:5000"),
        "cn-hangzhou": Given("cn-hangzhou", "r.example.com", "ci", "CI_PASSWORD"),
    }


@pytest.mark.parametrize(
    "texts",
    [
        ["eu-central-1"],
        ["eu-central-1="],
        ["mars=r.example.com"],
        ["eu-central-1=https://r.example.com"],
        ["eu-central-1=r.example.com,user"],
        ["eu-central-1=a.example.com", "eu-central-1=b.example.com"],
    ],
)
def test_other_forms_are_refused(texts: list[str]) -> None:
    """No host, an unknown region, a URL, a user without a password, a region twice."""
    with pytest.raises(UsageError, match="REGION=HOST"):
        parse_given(texts)


def test_a_password_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is read from the environment, and a missing variable is named."""
    given = Given("cn-hangzhou", "r.example.com", "ci", "CI_PASSWORD")
    monkeypatch.setenv("CI_PASSWORD", "hidden")
    assert given.password == "hidden"
    monkeypatch.delenv("CI_PASSWORD")
    with pytest.raises(UsageError, match="CI_PASSWORD"):
        _ = given.password


def test_only_this_machine_is_spoken_to_in_the_clear() -> None:
    """The sandbox's own registries are reached by http, a given one elsewhere by https."""
    found = addresses(PORTS, parse_given(["eu-central-1=registry.example.com"]))
    assert found == {
        "cn-hangzhou": Registry("127.0.0.1:1", plain_http=True, region="cn-hangzhou"),
        "ap-southeast-1": Registry("127.0.0.1:2", plain_http=True, region="ap-southeast-1"),
        "eu-central-1": Registry("registry.example.com", region="eu-central-1"),
    }
