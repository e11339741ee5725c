"""Messages of the registry client about connections and workers, as reworded by `delivery-chain copy`."""

from __future__ import annotations

import pytest

from delivery_chain.commands.copy_messages import in_options


@pytest.mark.parametrize(
    ("said", "own"),
    [
        (
            "GET https://a/v2/: refused. Check login and password of the connection for host a:443",
            (
                "GET https://a/v2/: refused. Log in with `docker login` or `skopeo login`, or name a file of "
                "logins with "
                "--authfile"
            ),
        ),
        (
            "token: HTTP 403. The login of the connection for host a:443 lacks this right. Ask the registry's owner",
            "token: HTTP 403. The login for a:443 lacks this right. Ask the registry's owner",
        ),
        (
            (
                "GET https://a/v2/: its certificate can't be trusted (self-signed certificate). Put its CA into the "
                "connection. Check that the registry runs and can be reached from this worker"
            ),
            (
                "GET https://a/v2/: its certificate can't be trusted (self-signed certificate). Name its CA with "
                "--ca-file "
                "HOST=FILE. Check that the registry runs and can be reached from this machine"
            ),
        ),
        (
            "it does not speak TLS. If it is a plain-http registry, say so in the connection.",
            "it does not speak TLS. If it is a plain-http registry, say so with --plain-http HOST.",
        ),
        (
            (
                "CA certificate of the connection for a: expected PEM text, found something else. Paste the CA's "
                "certificate again"
            ),
            (
                "CA certificate for a: expected PEM text, found something else. Name a file with the CA's "
                "certificate with "
                "--ca-file"
            ),
        ),
        (
            (
                "a: it points to b, which is 10.0.0.1: not allowed. It is in a private network, and the registry is "
                "not; if that is intended, list b under private_hosts in the registry's connection"
            ),
            "a: it points to b, which is 10.0.0.1: not allowed. It is in a private network, and the registry is not",
        ),
        ("blob: the connection ended after 3 bytes", "blob: the connection ended after 3 bytes"),
    ],
)
def test_advice_is_of_this_command(said: str, own: str) -> None:
    """It names options, and what is no advice stays as it is."""
    assert in_options(said) == own
