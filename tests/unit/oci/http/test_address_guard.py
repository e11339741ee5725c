"""A registry may send us to some addresses and not to others."""

from __future__ import annotations

import pytest

from delivery_chain.errors import ProtocolViolation
from delivery_chain.oci.http.address_guard import Origin, check_target

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
    "loopback with a dot at its end": (SECURE, "https://localhost./"),
    "loopback in capitals": (SECURE, "https://LOCALHOST/"),
    "loopback below localhost": (SECURE, "https://a.localhost/"),
    "loopback of hosts files": (SECURE, "https://ip6-loopback/"),
    "loopback as one number": (SECURE, "https://2130706433/"),
    "loopback in two numbers": (SECURE, "https://127.1/"),
    "loopback as one hex number": (SECURE, "https://0x7f000001/"),
    "loopback in hex numbers": (SECURE, "https://0x7f.0.0x0.1/"),
    "loopback in octal numbers": (SECURE, "https://0177.0.0.01/"),
    "loopback, mapped": (SECURE, "https://[::ffff:127.0.0.1]/"),
    "loopback, mapped, in hex": (SECURE, "https://[::ffff:7f00:1]/"),
    "loopback, compatible": (SECURE, "https://[::127.0.0.1]/"),
    "loopback, translated": (SECURE, "https://[::ffff:0:127.0.0.1]/"),
    "loopback by NAT64": (SECURE, "https://[64:ff9b::127.0.0.1]/"),
    "loopback by 6to4": (SECURE, "https://[2002:7f00:1::]/"),
    "loopback with a zone": (SECURE, "https://[::1%25lo]/"),
    "loopback, percent-encoded": (SECURE, "https://%31%32%37.0.0.1/"),
    "loopback with a dot after the number": (SECURE, "https://127.0.0.1./"),
    "more numbers than four": (SECURE, "https://1.127.0.0.1/"),
    "this network": (SECURE, "https://0.1.2.3/"),
    "broadcast": (SECURE, "https://255.255.255.255/"),
    "metadata by name": (SECURE, "https://metadata.google.internal/"),
    "metadata by NAT64": (SECURE, "https://[64:ff9b::a9fe:a9fe]/"),
    "a backslash in the host": (SECURE, "https://127.0.0.1\\.reg.test/"),
    "a label that is too long": (SECURE, f"https://{'a' * 64}.test/"),
    "an empty label": (SECURE, "https://reg..test/"),
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
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://reg.test\\@127.0.0.1/",
    "https://@127.0.0.1/",
    "https://reg.test:443@127.0.0.1/",
    "https:127.0.0.1/",
    "https:///127.0.0.1/",
    "https://reg.test:0/",
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


@pytest.mark.parametrize("url", ["https://reg.test", "http://127.0.0.1:5000", "https://[::1]:5000"])
def test_an_origin_prints_back(url: str) -> None:
    """Printing what was parsed gives the same, default ports left out."""
    assert str(Origin.parse(f"{url}/path?x=y")) == url
