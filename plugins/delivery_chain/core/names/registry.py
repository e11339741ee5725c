"""A registry's address and credentials, from a connection of type `oci_registry`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry's address and credentials. Never written to a log or an XCom."""

    host: str
    """`registry.example.com` or `127.0.0.1:5000`."""
    username: str = ""
    """Empty for anonymous access."""
    password: str = field(default="", repr=False)
    plain_http: bool = False
    """Use http instead of https. For registries on the same machine or a trusted network."""
    ca_certificate: str = field(default="", repr=False)
    """PEM text of the CA that signed the registry's certificate; empty for the system's CAs."""
    region: str = ""
    """Region for display and records: `ap-southeast-1`."""
    private_hosts: tuple[str, ...] = ()
    """Hosts in private networks that a registry on the internet may redirect to, besides its own; `*` for any."""

    @property
    def base_url(self) -> str:
        """`http(s)://host` without a trailing slash."""
        return f"{'http' if self.plain_http else 'https'}://{self.host}"
