from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from delivery_chain.commands.main import VERBS, main

SPECS = Path(__file__).parents[3] / "chain_specs"
A = "a" * 40


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    # Exceptions of the example specs end one day, and are then warned about.
    code = main([str(argument) for argument in arguments], clock=lambda: datetime(2026, 12, 1, tzinfo=UTC))
    out, err = capsys.readouterr()
    return code, out, err


def test_check_fine(capsys: pytest.CaptureFixture[str]) -> None:
    """Good specs: exit code 0 and one line."""
    assert run(capsys, "check", SPECS) == (0, "3 specs, all fine\n", "")


def test_check_bad(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Bad specs: exit code 1, every problem on standard output, the count beside it."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 2\nname: x\nbogus: 1\n")
    assert run(capsys, "check", SPECS, tmp_path) == (
        1,
        (
            f"{bad}:1: scope: is missing\n{bad}:1: version: expected 1, found 2\n{bad}:3: bogus: unknown key; "
            f"expected one "
            "of build, description, distribute, name, replicate, scan, scope, sources, version\n"
        ),
        "3 problems in 1 of 4 specs\n",
    )


def test_check_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """No such place, or no spec in it: exit code 2."""
    missing = tmp_path / "none"
    assert run(capsys, "check", missing) == (2, "", f"{missing}: no such file or folder\n")
    assert run(capsys, "check", tmp_path) == (2, "", f"{tmp_path}: no spec (*.yaml) found\n")


def test_check_unreadable(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder below that can't be listed, such as one of /proc: named, exit code 2."""

    def fails(*_: object) -> None:
        raise OSError(22, "Invalid argument", "/proc/1/net")

    monkeypatch.setattr(Path, "rglob", fails)
    assert run(capsys, "check", tmp_path) == (2, "", "/proc/1/net: can't be listed: Invalid argument\n")


@pytest.mark.parametrize(
    "arguments", [[], ["check"], ["plan", "x.yaml"], ["plan", "x.yaml", "--tag", "a", "--branch", "b"]]
)
def test_wrong_command_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """A wrong command line: exit code 2 and the usage."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert (caught.value.code, capsys.readouterr().err.startswith("usage: delivery-chain")) == (2, True)


def test_plan_of_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example's plan for a git tag, whole."""
    assert run(capsys, "plan", SPECS / "shop-api.yaml", "--tag", "v1.2.0", "--commit", A) == (
        0,
        f"""\
chain       shop-api
build       rule release: refs/tags/v1.2.0 at {A}
            Dockerfile in ., for linux/amd64
            --build-arg REVISION=release
image       shop/api: v1.2.0, latest
scan        trivy, blocking
replicate   to-singapore: ap-southeast-1 shop/api: v1.2.0
replicate   to-frankfurt: eu-central-1 shop/api: v1.2.0
distribute  redeploy-prod: v1.2.0
""",
        "",
    )


def test_plan_of_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    """The plan for an image that others pushed: nothing is built, and a rule that does not fit says why."""
    assert run(capsys, "plan", SPECS / "base-images.yaml", "--image", "alpine:edge") == (
        0,
        r"""chain       base-images
build       nothing: the image already exists
image       base/alpine: edge
scan        trivy, blocking
replicate   to-frankfurt: no, no tag of edge matches '\\d.*'
""",
        "",
    )


def test_plan_without_a_commit(capsys: pytest.CaptureFixture[str]) -> None:
    """What the commit decides is marked as such: nothing made up looks like a real commit or tag."""
    assert run(
        capsys, "plan", SPECS / "shop-web.yaml", "--branch", "main", "--at", "2026-11-23T12:30+01:00"
    ) == (
        0,
        """\
chain       shop-web
build       rule main: refs/heads/main at <commit>
            Dockerfile in ., for linux/amd64, linux/arm64
image       shop/web: main-202611231130-<commit>, edge
scan        trivy, blocking
replicate   to-singapore: ap-southeast-1 shop/web: main-202611231130-<commit>, edge
distribute  redeploy-staging: edge
<commit> stands for the commit that the ref points at: pass it with --commit
""",
        "",
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["--tag", "v1.2.0", "--commit", "abc"],
            "--commit: expected a full commit id of 40 hex digits, found 'abc'",
        ),
        (
            ["--tag", "v1..0"],
            "--tag: expected a git ref such as v1.2.0 or refs/heads/main, found 'refs/tags/v1..0': it contains '..'",
        ),
        (
            ["--image", "api:;"],
            "--image: tag ';': expected 1 to 128 characters of [A-Za-z0-9_.-], the first not . or -",
        ),
    ],
)
def test_plan_of_wrong_options(capsys: pytest.CaptureFixture[str], words: list[str], error: str) -> None:
    """Each is named as the user wrote it: exit code 2."""
    assert run(capsys, "plan", SPECS / "shop-api.yaml", *words) == (2, "", f"{error}\n")


def test_plan_at_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid time is refused, with the expected form."""
    with pytest.raises(SystemExit):
        main(["plan", str(SPECS / "shop-api.yaml"), "--tag", "v1.2.0", "--at", "yesterday"])
    assert capsys.readouterr().err.splitlines()[-1] == (
        "delivery-chain plan: error: argument --at: expected a time such as 2026-01-31 or "
        "2026-01-31T12:00+01:00, found "
        "'yesterday'"
    )


def test_plan_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An event that makes no run: exit code 1 and the reason."""
    assert run(capsys, "plan", SPECS / "shop-api.yaml", "--branch", "main") == (
        1,
        "",
        (
            "no build rule of chain 'shop-api' matches 'refs/heads/main' as a whole name "
            r"(release: tag v(?<version>\d+\.\d+\.\d+))"
            "\n"
        ),
    )


def test_plan_of_a_missing_spec(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A spec that is not there: exit code 1 and its name."""
    missing = tmp_path / "none.yaml"
    assert run(capsys, "plan", missing, "--tag", "v1") == (
        1,
        "",
        f"{missing}:1: can't be read: No such file or directory\n",
    )


def test_whoever_reads_it_may_stop_early() -> None:
    """As `| head` does: no traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [
        sys.executable,
        "-c",
        "import sys; from delivery_chain.commands.main import VERBS, main; sys.exit(main(['schema']))",
    ]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_imports_its_own_module_alone(verb: str) -> None:
    """No verb pays for another one, and none but the sandbox's loads what only a sandbox needs."""
    code = (
        "import sys; from delivery_chain.commands.main import parser_for; parser_for([sys.argv[1]]);"
        "print(*sorted(name for name in sys.modules if name.startswith(('delivery_chain.commands.', "
        "'delivery_chain.sandbox'))))"
    )
    done = subprocess.run([sys.executable, "-c", code, verb], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    others = {f"delivery_chain.commands.{other.replace('-', '_')}" for other in VERBS if other != verb}
    stack = {name for name in loaded if name.startswith("delivery_chain.sandbox")}
    assert (loaded & others, bool(stack)) == (set(), verb == "sandbox")
