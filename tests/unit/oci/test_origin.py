"""A registry may send us to some addresses and not to others."""

from __future__ import annotations

import pytest

from delivery_chain.errors import ProtocolViolation
from delivery_chain.oci.origin import Origin, check_target, refused_address

SECURE = "https://reg.test"
PLAIN = "http://10.0.0.5:5000"
LOCAL = "http://127.0.0.1:5000"

ALLOWED = {
    "same": (SECURE, "https://reg.test/token"),
    "another host": (SECURE, "https://auth.test/token"),
    "another port": (SECURE, "https://reg.test:8443/token"),
    "https from plain": (PLAIN, "https://auth.test/token"),
    "plain on the same host": (PLAIN, "http://10.0.0.5:5001/token"),
    "own loopback": (LOCAL, "http://127.0.0.1:5001/token"),
    "https loopback of a local one": (LOCAL, "https://localhost:5001/token"),
    "own host though link-local": ("http://169.254.1.1:5000", "http://169.254.1.1:5001/"),
}
REFUSED = {
    "plain from https": (SECURE, "http://reg.test/token"),
    "plain elsewhere": (PLAIN, "http://10.0.0.6:5000/token"),
    "metadata": (SECURE, "https://169.254.169.254/latest"),
    "metadata of Alibaba Cloud": (SECURE, "https://100.100.100.200/latest"),
    "metadata over IPv6": (SECURE, "https://[fd00:ec2::254]/latest"),
    "link-local IPv6": (SECURE, "https://[fe80::1]/"),
    "mapped metadata": (SECURE, "https://[::ffff:169.254.169.254]/"),
    "loopback": (SECURE, "https://127.0.0.1/"),
    "loopback by name": (SECURE, "https://localhost/"),
    "unspecified": (SECURE, "https://0.0.0.0/"),
}
NO_URLS = [
    "",
    "/relative",
    "ftp://x/",
    "https://",
    "https://u:p@x/",
    "https://x:99999/",
    "https://x/a b",
    "https://x/\n",
    "https://x/é",
    "file:///etc/passwd",
    "https://[x/",
    "https://x/" + "a" * 9000,
]


@pytest.mark.parametrize(("registry", "target"), ALLOWED.values(), ids=ALLOWED)
def test_good_addresses_pass(registry: str, target: str) -> None:
    """Token servers and blob stores are where they usually are."""
    check_target(Origin.parse(registry), Origin.parse(target), "token realm")


@pytest.mark.parametrize(("registry", "target"), REFUSED.values(), ids=REFUSED)
def test_bad_addresses_are_refused(registry: str, target: str) -> None:
    """No credentials in the clear, and no request to what only this machine may reach."""
    with pytest.raises(ProtocolViolation, match="token realm"):
        check_target(Origin.parse(registry), Origin.parse(target), "token realm")


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_is_refused(url: str) -> None:
    """Only absolute http and https URLs of printable ASCII, without a user, are taken."""
    with pytest.raises(ProtocolViolation, match="expected an absolute"):
        Origin.parse(url)


def test_a_refused_url_is_shown_without_its_secrets() -> None:
    """The message names the URL, but neither its password nor its query."""
    with pytest.raises(ProtocolViolation) as caught:
        Origin.parse("https://user:hunter2@x.test/a?sig=abc")

    assert "x.test" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_name_that_leads_to_metadata_is_refused_after_it_was_resolved() -> None:
    """What counts is the address that was connected to, not the name."""
    home = Origin.parse(SECURE)

    assert refused_address(home, "harmless.test", "169.254.169.254")
    assert not refused_address(home, "harmless.test", "203.0.113.7")


@pytest.mark.parametrize("url", ["https://reg.test", "http://127.0.0.1:5000", "https://[::1]:5000"])
def test_an_origin_prints_back(url: str) -> None:
    """Printing what was parsed gives the same, default ports left out."""
    assert str(Origin.parse(f"{url}/path?x=y")) == url
