"""Every address is classified by who can reach it, however it is encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.oci.http.reachability import Reach, named_reach, reach

if TYPE_CHECKING:
    import ipaddress

REACHES = {
    "8.8.8.8": Reach.PUBLIC,
    "2606:4700::1": Reach.PUBLIC,
    "203.0.113.9": Reach.PUBLIC,
    "64:ff9b::808:808": Reach.PUBLIC,
    "10.1.2.3": Reach.PRIVATE,
    "100.64.0.1": Reach.PRIVATE,
    "fd00::1": Reach.PRIVATE,
    "fec0::1": Reach.PRIVATE,
    "64:ff9b:1::a00:1": Reach.PRIVATE,
    "2001:4860::200:5efe:a00:1": Reach.PRIVATE,
    "127.9.9.9": Reach.MACHINE,
    "::1": Reach.MACHINE,
    "2002:7f00:1::": Reach.MACHINE,
    "169.254.169.254": Reach.NOBODY,
    "fe80::1%eth0": Reach.NOBODY,
    "100.100.100.200": Reach.NOBODY,
    "168.63.129.16": Reach.NOBODY,
    "0.0.0.0": Reach.NOBODY,  # noqa: S104 - an address to refuse
    "::": Reach.NOBODY,
    "240.0.0.1": Reach.NOBODY,
    "ff02::1": Reach.NOBODY,
}


@pytest.mark.parametrize(("address", "expected"), REACHES.items(), ids=REACHES)
def test_an_address_has_a_reach(address: str, expected: Reach) -> None:
    """The internet, a private network, this machine, or nothing that a registry could be."""
    assert reach(address) is expected


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_brings_it_no_farther_away(address: ipaddress.IPv4Address) -> None:
    """IPv4 inside IPv6 is as close as the IPv4 itself, by whichever of the six ways."""
    high, low = int(address) >> 16, int(address) & 0xFFFF
    wrapped = [
        f"::ffff:{address}",
        f"::ffff:0:{address}",
        f"64:ff9b::{address}",
        f"64:ff9b:1::{address}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}::",
        f"2001:4860::5efe:{address}",
    ]

    assert all(reach(one) >= reach(str(address)) for one in wrapped)


@given(st.ip_addresses(v=4), st.sampled_from(["{:d}", "{:#x}", "0{:o}"]))
def test_an_address_as_a_number_is_no_name(address: ipaddress.IPv4Address, spelling: str) -> None:
    """What `inet_aton` reads as an address is not looked up as a name."""
    parts = [int(part) for part in str(address).split(".")]
    for count in (1, 2, 3):
        head, tail = parts[: count - 1], parts[count - 1 :]
        last = int.from_bytes(bytes(tail), "big")
        text = ".".join(spelling.format(part) for part in (*head, last))
        with pytest.raises(ValueError, match="usual spelling"):
            named_reach(text)
