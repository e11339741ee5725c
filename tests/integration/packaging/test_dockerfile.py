"""The Dockerfile, as far as it can be tested without pulling an image: what it copies, pins and installs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
ALLOWED = {
    line.removeprefix("!")
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line.startswith("!")
}


def stage(name: str) -> str:
    """The instructions of one stage; the last one has the name ''."""
    last = r"^FROM \S+$" if not name else rf"^FROM \S+ AS {name}$"
    return re.split(r"^FROM ", re.split(last, DOCKERFILE, flags=re.MULTILINE)[1], flags=re.MULTILINE)[0]


def copied(instructions: str) -> list[tuple[list[str], str]]:
    """Sources and target of each COPY from the context."""
    lines = [line.split() for line in re.findall(r"^COPY (?!--from)(.*)$", instructions, re.MULTILINE)]
    return [(words[:-1], words[-1]) for words in lines]


def test_the_wheel_is_built_from_what_is_copied(tmp_path: Path) -> None:
    """The step that builds the wheel has every file that pyproject.toml includes."""
    source = tmp_path / "src"
    source.mkdir()
    for names, target in copied(stage("packages")):
        for name in names:
            place = source / target / Path(name).name if target == "./" else source / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, place)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(tmp_path), "."]

    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=180, check=False)

    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("airflow_delivery_chain-*.whl"))) == 1


def test_what_is_copied_is_sent() -> None:
    """.dockerignore admits exactly what is copied."""
    assert {
        name for part in ("packages", "") for names, _ in copied(stage(part)) for name in names
    } == ALLOWED


def test_trivy_is_its_makers_by_digest() -> None:
    """The program is copied from Trivy's own image, named by version and digest; no wheel provides one."""
    [pinned] = re.findall(r"^ARG TRIVY=(.*)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"docker\.io/aquasec/trivy:\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", pinned)
    assert "FROM ${TRIVY} AS trivy\n" in DOCKERFILE
    assert "COPY --from=trivy /usr/local/bin/trivy /usr/local/bin/trivy\n" in stage("")
    assert "[sandbox]" not in "".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))


def test_the_page_shows_the_version_that_is_pinned() -> None:
    """docs/trivy.md verifies the release that the image uses."""
    [pinned] = re.findall(r"^ARG TRIVY=\S+/trivy:([\d.]+)@", DOCKERFILE, re.MULTILINE)
    page = (ROOT / "docs" / "trivy.md").read_text(encoding="utf-8")
    shown = re.findall(r"(?:trivy:|trivy_|trivy=|tags/v)(\d+\.\d+\.\d+)", page)
    assert len(shown) > 5
    assert set(shown) == {pinned}


def test_packages_come_from_the_lock_only() -> None:
    """One step downloads, with hashes; later steps see only what it fetched."""
    steps = re.findall(r"pip (?:download|install|wheel) (?:[^\\&\n]|\\\n)*", DOCKERFILE)
    assert len(steps) == 4
    assert "--require-hashes --no-deps --only-binary :all:" in steps[0]
    assert [step for step in steps[1:] if "--no-index" not in step] == []
