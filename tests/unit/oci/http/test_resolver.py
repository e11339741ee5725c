"""A name is resolved once; its addresses are checked before anything is sent to them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import ProtocolViolation
from delivery_chain.oci.http.address_guard import Origin
from delivery_chain.oci.http.connector import Connector
from delivery_chain.oci.http.resolver import MOST_ADDRESSES, Found, dial

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLIC, PRIVATE = "203.0.113.7", "10.0.0.7"
Names = dict[str, list[str]]


class Dialled(Exception):
    """Raised instead of a connection."""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What names stand for; connections tell their address instead of being made."""
    known: Names = {"reg.test": [PUBLIC]}

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        host.encode("idna")  # As the real one does.
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    def dial(found: list[Any], _: float) -> socket.socket:
        raise Dialled(*[one[4][0] for one in found])

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("delivery_chain.oci.http.connector.dial", dial)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    return known


@pytest.fixture
def going(names: Names) -> Callable[..., tuple[Any, ...]]:
    """The addresses that a URL would be connected to, for a registry."""

    def go(url: str, home: str = "reg.test", **registry: Any) -> tuple[Any, ...]:
        connector = Connector(Registry(home, **registry), timeout=1)
        with pytest.raises(Dialled) as caught:
            connector.open(Origin.parse(url))
        return caught.value.args

    del names
    return go


def test_what_was_judged_is_what_is_connected_to(names: Names, going: Callable[..., Any]) -> None:
    """No name is looked up a second time, when it may say something else."""
    names["auth.test"] = [PUBLIC, "203.0.113.8"]

    assert going("https://auth.test/") == (PUBLIC, "203.0.113.8")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["0.0.0.0"],  # noqa: S104 - an address to refuse
        ["169.254.169.254"],
        ["64:ff9b::7f00:1"],
        [PRIVATE],
        ["fd00::7"],
        [PUBLIC, "127.0.0.1"],
    ],
    ids=str,
)
def test_a_name_that_leads_inside_is_refused_before_it_is_connected_to(
    names: Names, addresses: list[str]
) -> None:
    """A registry on the internet can't make us knock at this machine or its network; one bad address is enough."""
    names["trap.test"] = addresses

    with pytest.raises(ProtocolViolation, match="not allowed"):
        Connector(Registry("reg.test"), timeout=1).open(Origin.parse("https://trap.test:6379/"))


def test_a_registry_in_a_private_network_may_send_us_into_it(names: Names, going: Callable[..., Any]) -> None:
    """Its token server and its blob store are where it is."""
    names |= {"harbor.corp": [PRIVATE], "auth.corp": ["10.0.0.8"]}

    assert going("https://auth.corp/", home="harbor.corp") == ("10.0.0.8",)


def test_a_registry_in_a_private_network_may_not_send_us_to_this_machine(names: Names) -> None:
    """Services on loopback trust who reaches them."""
    names |= {"harbor.corp": [PRIVATE], "trap.corp": ["127.0.0.1"]}

    with pytest.raises(ProtocolViolation, match="not allowed"):
        Connector(Registry("harbor.corp"), timeout=1).open(Origin.parse("https://trap.corp/"))


@pytest.mark.parametrize("listed", [("blobs.corp",), ("*",)])
def test_private_hosts_that_the_connection_lists_are_allowed(
    names: Names, going: Callable[..., Any], listed: tuple[str, ...]
) -> None:
    """A registry on the internet may keep its blobs behind a private link."""
    names["blobs.corp"] = [PRIVATE]

    assert going("https://blobs.corp/", private_hosts=listed) == (PRIVATE,)


def test_no_list_opens_this_machine(names: Names) -> None:
    """`*` is about private networks."""
    names["trap.test"] = ["127.0.0.1"]

    with pytest.raises(ProtocolViolation, match="not allowed"):
        Connector(Registry("reg.test", private_hosts=("*",)), timeout=1).open(
            Origin.parse("https://trap.test/")
        )


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.1.1", PUBLIC])
def test_the_registrys_own_name_may_lead_anywhere(
    names: Names, going: Callable[..., Any], address: str
) -> None:
    """The user named it."""
    names["reg.test"] = [address]

    assert going("https://reg.test/v2/") == (address,)
    assert going("https://reg.test:8443/token") == (address,)


def test_the_registrys_own_name_leads_no_closer_later(names: Names) -> None:
    """DNS that changes its mind does not open this machine's ports to a registry's realm on its own name."""
    connector = Connector(Registry("reg.test"), timeout=1)
    with pytest.raises(Dialled):
        connector.open(Origin.parse("https://reg.test/"))
    names["reg.test"] = ["127.0.0.1"]

    with pytest.raises(ProtocolViolation, match="closer to this machine"):
        connector.open(Origin.parse("https://reg.test:6379/"))


def test_a_registry_that_moves_farther_away_is_followed(names: Names) -> None:
    """Any address as far away as the first is as good."""
    names["reg.test"] = [PRIVATE]
    connector = Connector(Registry("reg.test"), timeout=1)
    for addresses in ([PRIVATE], ["10.0.0.9"], [PUBLIC]):
        names["reg.test"] = addresses
        with pytest.raises(Dialled) as caught:
            connector.open(Origin.parse("https://reg.test/"))
        assert list(caught.value.args) == addresses


def test_an_address_goes_through_no_proxy_either(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy looks names up itself, but an address can be judged without it."""
    del names
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")

    with pytest.raises(ProtocolViolation, match="not allowed"):
        Connector(Registry("reg.test"), timeout=1).open(Origin.parse("https://10.0.0.7/"))


def test_a_name_with_a_label_that_is_too_long_is_unknown(names: Names) -> None:
    """Python's own error for it is none of the network."""
    del names

    with pytest.raises(OSError, match="not known"):
        Connector(Registry(f"{'a' * 64}.test"), timeout=1).open(Origin.parse(f"https://{'a' * 64}.test/"))


def _at(port: int) -> Found:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))


def test_the_next_address_is_tried_where_one_takes_no_connection() -> None:
    """A name's first address may be dead."""
    with socket.create_server(("127.0.0.1", 0)) as dead:
        closed = dead.getsockname()[1]
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        dial([_at(closed), _at(server.getsockname()[1])], 5) as connection,
    ):
        assert (connection.getpeername(), connection.gettimeout()) == (server.getsockname(), 5)


def test_a_name_with_very_many_addresses_ends() -> None:
    """Whoever holds a name may give it thousands of addresses; few of them are tried."""
    with socket.create_server(("127.0.0.1", 0)) as dead:
        closed = dead.getsockname()[1]
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ConnectionRefusedError),
    ):
        dial([_at(closed)] * MOST_ADDRESSES + [_at(server.getsockname()[1])], 5)
