"""Compares copies by this project, skopeo and crane, which take turns within one run; prints Markdown.

Run as `python benchmarks/copy/bench.py --rounds 5`; `--help` lists all options. `CRANE` may name crane's program.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from parts import IMAGES, MB, Image, Run, found_tools, fresh, measured, noise, ours, push

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry

Table = dict[str, list[Run]]


def one_round(
    tools: dict[str, object], source: Registry, folder: Path, image: Image, regions: int, table: Table
) -> None:
    """Run each tool once, cold and then warm, each with registries of its own."""
    for name, tool in tools.items():
        for at_once in (False, True) if regions > 1 and name != "ours" else (False,):
            with ExitStack() as stack:
                targets = [stack.enter_context(fresh(folder / f"to{at}")) for at in range(regions)]
                commands = tool(source, targets, image)  # type: ignore[operator]
                label = f"{name}, at once" if at_once else name
                table.setdefault(f"cold {label}", []).append(measured(commands, at_once=at_once))
                if regions == 1:
                    table.setdefault(f"warm {label}", []).append(measured(commands))


def uploads(folder: Path, image: Image, files: list[Path], table: Table) -> None:
    """Measure curl uploading the same layers from files: one after the other, and two at once."""
    for at_once in (1, 2):
        with fresh(folder / "to0") as target:
            script = folder / "upload.sh"
            script.write_text(CURL)
            lists = [files[at::at_once] for at in range(at_once)]
            commands = [
                ["sh", str(script), f"http://{target.host}/v2/bench/{image.name}", *map(str, some)]
                for some in lists
            ]
            table.setdefault(f"cold curl upload x{at_once}", []).append(measured(commands, at_once=True))


CURL = """set -e
base=$1; shift
for file in "$@"; do
  at=$(curl -sf -X POST -D - -o /dev/null "$base/blobs/uploads/" | tr -d '\\r' | sed -n 's/^Location: //p')
  curl -sf -o /dev/null -X PUT -H 'Content-Type: application/octet-stream' -T "$file" "$at&digest=sha256:${file##*/}"
done
"""


def layer_files(folder: Path, image: Image) -> list[Path]:
    """Write the image's layers to files named by their digests."""
    import hashlib  # noqa: PLC0415 - only here

    folder.mkdir(exist_ok=True)
    found = []
    for at, size in enumerate(image.layers):
        content = noise(f"{image.name} 0 {at}", size * MB)
        found.append(folder / hashlib.sha256(content).hexdigest())
        found[-1].write_bytes(content)
    return found


def rows(image: Image, regions: int, table: Table) -> list[str]:
    """Format the lines of the table: medians, and the ratio to this project, taken pairwise within each round."""
    found = []
    for label, runs in table.items():
        base = table["warm ours" if label.startswith("warm") else "cold ours"]
        ratio = statistics.median(run.wall / mine.wall for run, mine in zip(runs, base, strict=True))
        wall, cpu = (statistics.median(getattr(run, what) for run in runs) for what in ("wall", "cpu"))
        inside = statistics.median(run.inside for run in runs)
        speed = f"{image.size * regions / wall / MB:.0f}" if label.startswith("cold") else ""
        own = f"{inside:.3f}" if inside else ""
        per = f"{cpu / (image.size * regions / 1e9):.2f}" if label.startswith("cold") else ""
        found.append(
            f"| {image.name} | {regions} | {label} | {wall:.2f} | {own} | {speed} | {cpu:.2f} | {per} | {ratio:.2f} |"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", nargs="*", default=list(IMAGES), choices=list(IMAGES))
    parser.add_argument("--regions", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--folder", default="/dev/shm", help="a tmpfs with room for three times the image")  # noqa: S108
    parser.add_argument("--jobs", help="passed on to our command")
    args = parser.parse_args()
    tools: dict[str, object] = dict(found_tools())
    if args.jobs:
        tools["ours"] = lambda source, targets, image: ours(source, targets, image, f"--jobs={args.jobs}")
    print("| image | regions | what | wall s | inside s | MB/s | client CPU s | CPU s per GB | wall / ours |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=args.folder) as name, fresh(Path(name) / "from") as source:
        folder = Path(name)
        for image in (IMAGES[one] for one in args.images):
            push(source, image)
            for regions in args.regions:
                table: Table = {}
                files = layer_files(folder / "files", image) if regions == 1 and image.count == 1 else []
                for _ in range(args.rounds):
                    one_round(tools, source, folder, image, regions, table)
                    if files:
                        uploads(folder, image, files, table)
                for file in files:
                    file.unlink()
                print("\n".join(rows(image, regions, table)), flush=True)


if __name__ == "__main__":
    main()
