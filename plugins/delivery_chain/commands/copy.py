"""`delivery-chain copy`: copies images from any registry to any others."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.commands.copy_messages import in_options
from delivery_chain.commands.exit_codes import DONE, FAILED, USAGE
from delivery_chain.core.names.pattern import compile_pattern, fullmatch
from delivery_chain.core.names.reference import Reference, short_digest
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import (
    ConfigurationError,
    DeliveryChainError,
    InvalidReference,
    NotFound,
    RegistryError,
    UsageError,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.endpoint import Place
from delivery_chain.oci.copy.engine import WORKERS, Copier
from delivery_chain.oci.copy.limits import REQUESTS_AT_ONCE, Limits
from delivery_chain.oci.copy.report import LiveLines, PacedLog, size_text, time_text
from delivery_chain.oci.logins import auth_files, find_login

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from delivery_chain.oci.copy.engine import TargetOutcome
    from delivery_chain.oci.copy.plan import CopyPlan

IMAGES_AT_ONCE = 4
"""Images of `--all-tags` in flight: copying small images is mostly latency, and few bytes."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("source", metavar="SRC", help="host/repository:tag or host/repository@sha256:…")
    parser.add_argument(
        "targets", metavar="DST", nargs="+", help="host/repository[:tag]; defaults to the source's tag"
    )
    parser.add_argument(
        "--all-tags", metavar="REGEXP", help="copy every tag that matches this RE2 pattern in full"
    )
    parser.add_argument("--no-overwrite", action="store_true", help="fail if a tag points to another image")
    parser.add_argument(
        "--no-referrers", action="store_true", help="don't copy reports, SBOMs and signatures"
    )
    parser.add_argument("--thorough", action="store_true", help="check each blob, even of known manifests")
    parser.add_argument("--dry-run", action="store_true", help="print the missing parts, send nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.add_argument(
        "--plain-http", metavar="HOST", action="append", default=[], help="use plain HTTP for this host"
    )
    parser.add_argument(
        "--ca-file", metavar="HOST=FILE", action="append", default=[], help="PEM file of a host's CA"
    )
    parser.add_argument(
        "--authfile",
        type=Path,
        metavar="FILE",
        help="file of logins; default: the files of docker and skopeo",
    )
    parser.add_argument(
        "--jobs", type=int, default=WORKERS, metavar="N", help="concurrent blobs (%(default)s)"
    )
    parser.add_argument("--limit-rate", metavar="BYTES", help="bytes per second and registry: 500k, 20M")
    parser.add_argument(
        "--timeout", type=float, default=60, metavar="SECONDS", help="for each wait (%(default)s)"
    )
    parser.set_defaults(func=run)


@dataclass(frozen=True, slots=True)
class Image:
    """One tag or digest to copy."""

    tag: str
    """Tag; empty if a digest without a tag was requested."""
    digest: str


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0 if every target holds every image, 1 if not, 2 for a wrong command line.
    """
    try:
        with ExitStack() as stack:
            return _Command(args, stack).run()
    except (UsageError, InvalidReference) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks to a terminal
        return USAGE
    except DeliveryChainError as error:
        print(in_options(str(error)), file=sys.stderr)  # noqa: T201
        return FAILED
    except KeyboardInterrupt:
        print("stopped; no tag was moved to an incomplete image", file=sys.stderr)  # noqa: T201
        return FAILED


class _Command:
    def __init__(self, args: argparse.Namespace, stack: ExitStack) -> None:
        self.args = args
        self.source = Reference.parse(args.source)
        self.targets = [Reference.parse(text) for text in args.targets]
        _check_references(args, self.source, self.targets)
        self.stack = stack
        self.environment: Mapping[str, str] = os.environ
        self.clients: dict[Registry, RegistryClient] = {}
        self.limits = Limits(requests=max(args.jobs, REQUESTS_AT_ONCE), rate=_rate(args.limit_rate))
        self.authorities = _authorities(args.ca_file)
        self.began = time.monotonic()

    def run(self) -> int:
        source = self.place(self.source)
        places = [self.place(target) for target in self.targets]
        images = self.images(source)
        view = self.view()
        copier = self.stack.enter_context(
            Copier(
                source,
                places,
                referrers=not self.args.no_referrers,
                thorough=self.args.thorough,
                workers=self.args.jobs,
                limits=self.limits,
                on_progress=view,
            )
        )
        pool = self.stack.enter_context(ThreadPoolExecutor(min(IMAGES_AT_ONCE, len(images)) or 1))
        work = self.planned if self.args.dry_run else self.copied
        try:
            results = list(pool.map(lambda image: work(copier, places, image), images))
        except BaseException:
            copier.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            if view is not None:
                view.close()
        return self.report(results)

    def place(self, reference: Reference) -> Place:
        args, host = self.args, reference.host
        files = (args.authfile,) if args.authfile else auth_files(self.environment)
        named = bool(args.authfile or self.environment.get("REGISTRY_AUTH_FILE"))
        user, password = find_login(host, reference.name, files, must_exist=named)
        registry = Registry(
            host=host,
            username=user,
            password=password,
            plain_http=host in args.plain_http,
            ca_certificate=self.authorities.get(host, ""),
        )
        if registry not in self.clients:
            client = RegistryClient(registry, timeout=args.timeout)
            self.clients[registry] = self.stack.enter_context(client)
        return Place(self.clients[registry], reference.name)

    def images(self, source: Place) -> list[Image]:
        if self.args.all_tags is None:
            wanted = self.source.digest or self.source.tag or ""
            found = source.client.head_manifest(source.name, wanted)
            if found is None:
                raise NotFound(f"{self.source} does not exist. Check the name, the tag and the login")
            return [Image(self.source.tag or "", found.digest)]
        tags = [tag for tag in source.client.list_tags(source.name) if fullmatch(self.args.all_tags, tag)]
        # Referrers under fallback tags are copied as referrers, along with their images.
        tags = [tag for tag in tags if not _is_fallback(tag)]
        if not tags:
            raise NotFound(f"{source}: no tag matches {self.args.all_tags!r}")
        with ThreadPoolExecutor(IMAGES_AT_ONCE) as pool:
            heads = list(pool.map(lambda tag: source.client.head_manifest(source.name, tag), tags))
        return [Image(tag, head.digest) for tag, head in zip(tags, heads, strict=True) if head is not None]

    def view(self) -> LiveLines | PacedLog | None:
        if self.args.json or self.args.dry_run:
            return None
        if sys.stderr.isatty():
            return LiveLines(sys.stderr, shutil.get_terminal_size().columns)
        return PacedLog(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201

    def planned(self, copier: Copier, places: Sequence[Place], image: Image) -> dict[str, Any]:
        del places
        return {"tag": image.tag, **copier.plan(image.digest).to_json()}

    def copied(self, copier: Copier, places: Sequence[Place], image: Image) -> dict[str, Any]:
        plan = copier.plan(image.digest)
        outcomes = copier.run(plan)
        ends = zip(places, self.targets, outcomes, strict=True)
        rows = [
            self.tagged(copier, place, target.tag or image.tag, plan, outcome)
            for place, target, outcome in ends
        ]
        return {"tag": image.tag, "source": plan.source, "digest": plan.digest, "targets": rows}

    def tagged(
        self, copier: Copier, place: Place, tag: str, plan: CopyPlan, outcome: TargetOutcome
    ) -> dict[str, Any]:
        """Return one target's row; its tag moves only if the image is complete."""
        row: dict[str, Any] = {"target": outcome.target, "tag": tag, "error": ""}
        error: DeliveryChainError | None = outcome.error
        if error is None and tag:
            try:
                copier.tag(place, tag, plan, overwrite=not self.args.no_overwrite)
            except RegistryError as refused:
                error = refused
        if outcome.result is not None:
            done = outcome.result
            row |= {
                name: getattr(done, name)
                for name in ("manifests", "referrers", "copied", "mounted", "skipped")
            }
            row |= {"bytes": done.bytes, "resent": done.resent}
        return row | {"error": str(error) if error else ""}

    def report(self, results: list[dict[str, Any]]) -> int:
        seconds = round(time.monotonic() - self.began, 3)
        if self.args.json:
            print(json.dumps({"images": results, "seconds": seconds}, indent=2))  # noqa: T201
        else:
            show = _plan_lines if self.args.dry_run else _result_lines
            print("\n".join(line for result in results for line in show(result)))  # noqa: T201
            if not self.args.dry_run:
                print(f"images: {len(results)}, {time_text(seconds)}", file=sys.stderr)  # noqa: T201
        failed = [row for result in results for row in result["targets"] if row.get("error")]
        for row in failed:
            print(f"{row['target']}: {in_options(row['error'])}", file=sys.stderr)  # noqa: T201
        return FAILED if failed else DONE


def _check_references(args: argparse.Namespace, source: Reference, targets: list[Reference]) -> None:
    if args.all_tags is None:
        if not (source.tag or source.digest):
            raise UsageError(f"{source}: expected a tag or digest, or --all-tags REGEXP")
    elif source.tag or source.digest or any(target.tag for target in targets):
        raise UsageError("--all-tags: expected repositories without tag or digest on both sides")
    else:
        try:
            compile_pattern(args.all_tags)
        except ValueError as error:
            raise UsageError(f"--all-tags {args.all_tags!r}: {error}") from error
    for target in targets:
        if target.digest:
            raise UsageError(f"{target}: expected a tag or nothing: the digest is the source's")
    if args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: expected at least 1")
    named = [f"{target.host}/{target.name}" for target in targets]
    if len(set(named)) < len(named):
        raise UsageError("expected each target repository at most once")


def _is_fallback(tag: str) -> bool:
    algorithm, _, value = tag.partition("-")
    return algorithm in ("sha256", "sha512") and len(value) >= 64 and not set(value) - set("0123456789abcdef")  # noqa: PLR2004 - hex digits


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    unit = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:], 1.0)
    number = text[:-1] if unit != 1.0 else text
    if not number.isdecimal() or not int(number):
        raise UsageError(f"--limit-rate {text!r}: expected bytes per second such as 500k, 20M or 1G")
    return int(number) * unit


def _authorities(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        host, equals, file = pair.partition("=")
        if not equals:
            raise UsageError(f"--ca-file {pair!r}: expected HOST=FILE")
        try:
            found[host] = Path(file).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"--ca-file {file}: expected a readable PEM file ({error})") from error
    return found


def _plan_lines(result: dict[str, Any]) -> list[str]:
    what = result["tag"] or short_digest(result["digest"])
    lines = [f"{result['source']} {what} is {result['digest']}"]
    for row in result["targets"]:
        if row["in_sync"]:
            lines.append(f"  {row['target']}: in sync")
            continue
        lines.append(
            f"  {row['target']}: {len(row['blobs'])} blobs ({size_text(row['bytes'])}), "
            f"{len(row['manifests'])} manifests, {len(row['referrers'])} referrers"
        )
        lines += [f"    blob {blob['digest']} {size_text(blob['size'])}" for blob in row["blobs"]]
        lines += [f"    manifest {one['digest']}" for one in row["manifests"]]
        lines += [
            f"    referrer {one['digest']} of {short_digest(one['subject'])}" for one in row["referrers"]
        ]
    return lines


def _result_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    for row in result["targets"]:
        where = f"{row['target']}:{row['tag']}" if row["tag"] else f"{row['target']}@{result['digest']}"
        if row["error"]:
            lines.append(f"{where}: failed")
            continue
        lines.append(
            f"{where}: {short_digest(result['digest'])}, {row['copied']} blobs sent ({size_text(row['bytes'])}), "
            f"{row['mounted']} mounted, {row['skipped']} already there, {row['manifests']} manifests"
        )
    return lines
