"""Configures the sandbox's registries: one docker-registry process per region, or existing ones by address."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import UsageError
from delivery_chain.sandbox.layout import write_private
from delivery_chain.sandbox.services import LOCALHOST, Service, probe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from delivery_chain.sandbox.layout import Layout

HOME = "cn-hangzhou"
REGIONS = (HOME, "ap-southeast-1", "eu-central-1")
PROGRAMS = ("docker-registry", "registry")
"""The program's name in Debian, and in the distribution project's own builds."""
_GIVEN = re.compile(r"(?P<region>[a-z0-9-]+)=(?P<host>[^,\s/]+)(?:,(?P<user>[^,]+),(?P<env>[A-Za-z_]\w*))?")


@dataclass(frozen=True, slots=True)
class Given:
    """An existing registry that replaces one of the sandbox's own."""

    region: str
    host: str
    username: str = ""
    password_variable: str = ""
    """The environment variable that holds the password, which never appears in an argument list or file."""

    @property
    def password(self) -> str:
        """The password, from the environment.

        Raises:
            UsageError: The variable is not set.
        """
        if not self.password_variable:
            return ""
        if (value := os.environ.get(self.password_variable)) is None:
            raise UsageError(
                f"--registry {self.region}: expected the password in the environment variable "
                f"{self.password_variable}, which is not set"
            )
        return value


def parse_given(texts: Sequence[str]) -> dict[str, Given]:
    """Read `REGION=HOST[,USER,PASSWORD_VARIABLE]` arguments.

    Raises:
        UsageError: An argument has the wrong format, or names an unknown region or one twice.
    """
    found: dict[str, Given] = {}
    for text in texts:
        match = _GIVEN.fullmatch(text)
        if match is None or match["region"] not in REGIONS or match["region"] in found:
            raise UsageError(
                f"--registry {text!r}: expected REGION=HOST[,USER,PASSWORD_VARIABLE], each region once; "
                f"the regions are {', '.join(REGIONS)}"
            )
        found[match["region"]] = Given(
            match["region"], match["host"], match["user"] or "", match["env"] or ""
        )
    return found


def is_local(host: str) -> bool:
    """Whether a host is this machine, for which plain HTTP is acceptable."""
    return host.rpartition(":")[0] in {LOCALHOST, "localhost", "[::1]"}


def addresses(ports: Mapping[str, int], given: Mapping[str, Given]) -> dict[str, Registry]:
    """Map each region to its registry, home first."""
    found = {}
    for region in REGIONS:
        if one := given.get(region):
            found[region] = Registry(
                one.host, one.username, one.password, plain_http=is_local(one.host), region=region
            )
        else:
            found[region] = Registry(f"{LOCALHOST}:{ports[name_of(region)]}", plain_http=True, region=region)
    return found


def name_of(region: str) -> str:
    """Name of a region's service."""
    return f"registry-{region}"


def program() -> str | None:
    """The registry program's path, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


@dataclass(frozen=True, slots=True)
class Notified:
    """The endpoint to which a registry sends its notifications."""

    url: str
    token: str


def service(layout: Layout, region: str, port: int, secret: str, notified: Notified | None = None) -> Service:
    """Write one registry's configuration and return its service."""
    config = layout.registry(region) / "config.yml"
    content = _configuration(layout.registry(region) / "data", port, secret)
    if notified:
        content["notifications"] = {"endpoints": [_endpoint(notified)]}
    write_private(config, yaml.safe_dump(content))
    url = f"http://{LOCALHOST}:{port}"
    return Service(
        name=name_of(region),
        argv=(program() or PROGRAMS[0], "serve", str(config)),
        url=url,
        ready=lambda: probe(f"{url}/v2/"),
    )


def _configuration(data: Path, port: int, secret: str) -> dict[str, Any]:
    return {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            # Needed to remove blocked images (`on_block: {delete: true}`).
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        # Without a persistent secret, the registry rejects upload sessions that were open across a restart.
        "http": {"addr": f"{LOCALHOST}:{port}", "secret": secret},
    }


def _endpoint(notified: Notified) -> dict[str, Any]:
    """Source: https://distribution.github.io/distribution/about/notifications/."""
    return {
        "name": "airflow",
        "url": notified.url,
        "headers": {"Authorization": [f"Bearer {notified.token}"]},
        "timeout": "5s",
        "threshold": 3,
        "backoff": "1s",
        "ignore": {"mediatypes": ["application/octet-stream"], "actions": ["pull"]},
    }
