"""Checks registries, git sources and triggers' targets from this machine, with the logins of their connections.

Nothing is changed: push permission is tested with an upload session that is cancelled before the first byte, delete
permission by deleting a digest that does not exist, and a target gets a connection but no request.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from delivery_chain.core.diagnosis import Check, Line, clock, ok, problem, warning
from delivery_chain.core.names.git_ref import counted
from delivery_chain.core.names.tags import quarantine_name
from delivery_chain.core.plan import matching_rules
from delivery_chain.core.spec.connections import GIT, REGISTRY, Needed, connect_command, nearest
from delivery_chain.errors import (
    ConfigurationError,
    ConnectionMissing,
    DeletesDisabled,
    RegistryError,
    SourceError,
    Unauthorized,
)
from delivery_chain.hooks.git import GitSourceHook
from delivery_chain.hooks.registry import TEST_TIMEOUT, OciRegistryHook
from delivery_chain.hooks.target import target_at
from delivery_chain.oci.client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.doctor.scene import Scene

LOOK_SECONDS = 25.0
NOT_ALLOWED = "is not allowed (allowed:"
"""Part of the error for a source whose transport the settings do not allow."""
MOST_NAMES = 10
"""Maximum number of repositories per registry whose permissions are tested."""
ANY_NAME = "delivery-chain-doctor"
"""Test repository for a namespace that a chain takes as a whole; nothing is left in it."""


def checks(scene: Scene) -> Iterator[Check]:
    """Yield a check for each connection that a chain names, and for each repository of git sources."""
    seen: dict[tuple[str, str, str], Needed] = {}
    for one in scene.needed:
        seen.setdefault((one.connection, one.conn_type, one.url), one)
    for one in seen.values():
        about = f"{one.connection} {one.url}".strip()
        yield Check(_topic(one), about, _asking(scene, one, about))


def _topic(needed: Needed) -> str:
    return "trigger" if needed.target else {REGISTRY: "registry", GIT: "git"}[needed.conn_type]


def _asking(scene: Scene, needed: Needed, about: str) -> Callable[[], Iterator[Line]]:
    ask = _trigger if needed.target else {REGISTRY: _registry, GIT: _git}[needed.conn_type]

    def lines() -> Iterator[Line]:
        topic = _topic(needed)
        try:
            yield from ask(scene, needed, about)
        except ConnectionMissing as error:
            yield _missing(scene, needed, about, str(error))
        except ConfigurationError as error:
            yield problem(topic, about, str(error), _set_right(scene, needed))

    return lines


def _set_right(scene: Scene, needed: Needed) -> str:
    """The remedy for an unusable connection. One of another type may belong to other users, so it is kept."""
    name = needed.connection
    if (scene.known or {}).get(name, needed.conn_type) == needed.conn_type:
        return f"{needed.command} --update, or another name in {scene.files(needed)}"
    room = f"airflow connections delete {name} && {needed.command}"
    return f"another name in {scene.files(needed)}, or if nothing else uses this one: {room}"


def _missing(scene: Scene, needed: Needed, about: str, said: str) -> Line:
    topic = _topic(needed)
    if scene.known is None:
        return warning(
            topic,
            about,
            f"could not be looked up ({needed.what}): it is in no environment variable, and Airflow's database can't "
            "be read from here",
            "run this on a machine with the configuration of Airflow's servers",
        )
    like = nearest(needed.connection, scene.names() - {needed.connection})
    meant = f"; did you mean {like!r}?" if like else ""
    # A known connection that is not found is in a database that became unreachable meanwhile.
    found = (
        said if needed.connection in scene.known else f"no connection of this name, needed for {needed.what}"
    )
    rename = f", or write {like!r} in {scene.files(needed)}" if like else ""
    return problem(topic, about, f"{found}{meant}", f"{needed.command}{rename}")


def _registry(scene: Scene, needed: Needed, about: str) -> Iterator[Line]:
    registry = OciRegistryHook(needed.connection).registry()
    who = f"as {registry.username!r}" if registry.username else "anonymously"
    with RegistryClient(registry, timeout=TEST_TIMEOUT) as client:
        try:
            sent = datetime.now(UTC)
            date = client.ping()
        except RegistryError as error:
            yield problem("registry", about, str(error), _login_remedy(needed, registry, error))
            return
        yield ok("registry", about, f"{registry.host} is an OCI registry and grants access {who}")
        if (served := _time(date)) is not None:
            # The header has a resolution of one second, and the response took time.
            early, late = served - datetime.now(UTC), served - sent
            yield clock(f"registry {about}", min(early, late, key=abs))
        yield from _rights(scene, needed, client)


def _login_remedy(needed: Needed, registry: Registry, error: RegistryError) -> str:
    if isinstance(error, Unauthorized):
        user = registry.username or "USER"
        command = connect_command(REGISTRY, needed.connection).replace("HOST", registry.host)
        return f"{command} --username {user} --update --test, with a login that is valid"
    return f"make {registry.base_url} reachable from this machine, or correct the host: {needed.command} --update"


def _time(date: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _rights(scene: Scene, needed: Needed, client: RegistryClient) -> Iterator[Line]:
    pushed, deleted = _written(scene, needed.connection)
    for name in list(pushed)[:MOST_NAMES]:
        yield _push(needed, client, name)
    for name in list(deleted)[:MOST_NAMES]:
        yield _delete(needed, client, name)


def _written(scene: Scene, connection: str) -> tuple[dict[str, None], dict[str, None]]:
    """The repositories of a registry that chains push to, and those they delete from."""
    pushed: dict[str, None] = {}
    deleted: dict[str, None] = {}
    for spec in scene.specs.values():
        repositories = spec.scope.repositories or (ANY_NAME,)
        if spec.scope.instance == connection:
            home = [f"{spec.scope.namespace}/{repository}" for repository in repositories]
            pushed |= dict.fromkeys(home)
            if spec.scan.block and spec.scan.block.on_block.backup:
                pushed[quarantine_name(spec.scope.namespace, repositories[0])] = None
            deleted |= dict.fromkeys(home if _deletes(spec) else ())
        for rule in spec.replicate:
            if rule.to == connection:
                repository = rule.rename.repository or rule.repository or repositories[0]
                pushed[f"{rule.rename.namespace or spec.scope.namespace}/{repository}"] = None
    return pushed, deleted


def _deletes(spec: ChainSpec) -> bool:
    """Whether a chain deletes images that it blocks."""
    return bool(spec.scan.block and spec.scan.block.on_block.delete)


def _push(needed: Needed, client: RegistryClient, name: str) -> Line:
    about = f"{needed.connection} {name}"
    try:
        digest = f"sha256:{secrets.token_hex(32)}"
        location = client.begin_upload(name, digest)
        if location is not None:
            # Some registries can't cancel an upload session; it then expires by itself.
            with contextlib.suppress(RegistryError):
                client.cancel_upload(name, location)
    except RegistryError as error:
        other = f"{needed.command} --username USER --update"
        remedy = f"let the connection's login push to {name}, or give another: {other}"
        return problem("rights", about, f"may not be pushed to: {error}", remedy)
    return ok("rights", about, "may be pushed to")


def _delete(needed: Needed, client: RegistryClient, name: str) -> Line:
    about = f"{needed.connection} {name}"
    try:
        client.delete_manifest(name, f"sha256:{secrets.token_hex(32)}")
    except DeletesDisabled:
        return problem(
            "deletes",
            about,
            "the registry deletes nothing, so a blocked image (on_block.delete) would stay",
            "docker-registry: storage: {delete: {enabled: true}} or REGISTRY_STORAGE_DELETE_ENABLED=true; or take "
            "`delete` out of the spec",
        )
    except RegistryError as error:
        return problem(
            "deletes",
            about,
            f"may not be deleted from: {error}",
            f"let the connection's login delete in {name}",
        )
    return ok("deletes", about, "may be deleted from")


def _git(scene: Scene, needed: Needed, about: str) -> Iterator[Line]:
    from delivery_chain.tools.git.refs import list_refs  # noqa: PLC0415

    try:
        source = GitSourceHook(needed.connection, scene.settings.git_transports).source(needed.url)
        refs = list_refs(source, deadline=time.monotonic() + LOOK_SECONDS)
    except SourceError as error:
        remedy = f"correct the URL in {scene.files(needed)}, or the connection: {needed.command} --update"
        if NOT_ALLOWED in str(error):
            remedy = f"use another URL, or add its transport to [delivery_chain] git_transports; {remedy}"
        yield problem("git", about, str(error), remedy)
        return
    matched = sum(any(matching_rules(spec, ref) for spec in _builders(scene, needed)) for ref in refs)
    yield ok("git", about, f"{counted(refs)}, of which build rules take {matched}")


def _builders(scene: Scene, needed: Needed) -> list[ChainSpec]:
    return [
        spec
        for spec in scene.specs.values()
        if any((one.connection, one.url) == (needed.connection, needed.url) for one in spec.sources.values())
    ]


def _trigger(scene: Scene, needed: Needed, about: str) -> Iterator[Line]:
    del scene
    target = target_at(needed.target, needed.connection)
    good, said = target.probe()
    if good:
        yield ok("trigger", about, said)
    else:
        remedy = (
            f"make {target.shown_url} reachable from this machine, or correct it: {needed.command} --update"
        )
        yield problem("trigger", about, said, remedy)
