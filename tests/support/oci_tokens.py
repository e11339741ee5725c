"""A token server as docker-registry expects it: takes basic logins, returns signed tokens."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from support.http_server import Handler, serving
from support.oci_registry import PASSWORD, USER, docker_registry
from support.oci_tls import make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

SERVICE = "test-registry"
ISSUER = "test-issuer"


@dataclass(slots=True)
class TokenServer:
    """The running server."""

    realm: str = ""
    logins: dict[str, str] = field(default_factory=dict)
    """The only user with any rights, who may do everything."""
    life: int = 300
    """Lifetime of a token in seconds."""
    asked: list[tuple[str, ...]] = field(default_factory=list)
    """Scopes of each request."""
    asked_by: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """User (empty for anonymous) and scopes of each request."""


@contextmanager
def token_registry(folder: Path) -> Iterator[tuple[Registry, TokenServer]]:
    """Run a docker-registry that requires tokens, and its token server, until the block ends.

    Args:
        folder: Empty; for certificates and the registry.
    """
    ca, certificate, key = make_certificates(folder)
    (folder / "ca.pem").write_text(ca)
    with token_server(certificate, key) as server:
        server.logins[USER] = PASSWORD
        token = {
            "realm": server.realm,
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(folder / "ca.pem"),
        }
        with docker_registry(folder, auth={"token": token}) as registry:
            yield replace(registry, username=USER, password=PASSWORD), server


@contextmanager
def token_server(certificate: Path, key: Path) -> Iterator[TokenServer]:
    """Run a token server until the block ends.

    Args:
        certificate: PEM, signed by the CA that the registry has as `rootcertbundle`.
        key: Its P-256 key.
    """
    state = TokenServer()
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    chain = [base64.b64encode(leaf.public_bytes(serialization.Encoding.DER)).decode()]
    secret = key.read_bytes()

    def sign(user: str, scopes: list[str]) -> str:
        access = []
        for kind, name, actions in (scope.split(":", 2) for scope in scopes):
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER, "sub": user, "aud": SERVICE, "exp": now + state.life, "nbf": now - 5, "iat": now,
            "jti": "1", "access": access,
        }  # fmt: skip
        return jwt.encode(claims, secret, algorithm="ES256", headers={"x5c": chain})

    class Tokens(Handler):
        def answer(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            scopes = query.get("scope", [])
            state.asked.append(tuple(scopes))
            _, _, sent = self.headers.get("Authorization", "").partition("Basic ")
            user, _, password = base64.b64decode(sent).decode().partition(":")
            state.asked_by.append((user, tuple(scopes)))
            good = bool(user) and state.logins.get(user) == password
            answer = {"token": sign(user, scopes if good else []), "expires_in": state.life}
            self.reply(200 if good or not sent else 401, {}, json.dumps(answer).encode())

    with serving(Tokens) as port:
        state.realm = f"http://127.0.0.1:{port}/token"
        yield state
