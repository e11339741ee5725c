"""The project's own dependencies: locked by hash, from no particular index, and audited honestly."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.tools.known_flaws import lines

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "scripts/audit.lock")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "scripts" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module
    spec.loader.exec_module(module)
    return module


audit = _load()
A, B, OTHER_B = ("a", "1.0"), ("b", "2"), ("b", "3")
VULN = {"id": "PYSEC-1", "aliases": ["GHSA-x", "CVE-1"], "fix_versions": ["1.1", "2.0"]}


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(name: str) -> None:
    """Each requirement is one version with SHA-256 hashes; no index, link or URL says where it came from."""
    text = (ROOT / name).read_text(encoding="utf-8")
    requirements = re.sub(r"\\\n", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    line = re.compile(r"[a-z0-9._-]+==[^\s;]+( ; [^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [found[:80] for found in requirements if not line.fullmatch(found)] == []
    assert len(requirements) > 20
    assert re.findall(r"index-url|find-links|://", text) == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_is_looked_up(name: str) -> None:
    """The audit reads as many packages as a lock has, also those for other systems."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(audit.locked(text)) == text.count("==") - len(re.findall(r"[;#].*==", text))


def answer(package: tuple[str, str], *vulns: dict[str, Any]) -> dict[str, Any]:
    return {"name": package[0], "version": package[1], "vulns": list(vulns)}


def not_found(package: tuple[str, str]) -> dict[str, Any]:
    """As pip-audit 2.10 says it, with exit code 0 and the sentence "No known vulnerabilities found"."""
    reason = f"Dependency not found on PyPI and could not be audited: {package[0]} ({package[1]})"
    return {"name": package[0], "skip_reason": reason}


PROBED = answer(audit.PROBE, VULN)
BLIND = (
    "no result: the service does not report django 3.2, which is vulnerable, so it can't be trusted",
    "It can't be reached, or a mirror answers in its place.",
)


@pytest.mark.parametrize(
    ("answers", "exit_code", "lines"),
    [
        (
            [PROBED, answer(A), answer(B)],
            0,
            ("2 packages were looked up, none has a known vulnerability",),
        ),
        (
            [PROBED, answer(A, VULN), answer(B)],
            1,
            ("a 1.0: PYSEC-1/CVE-1/GHSA-x (fixed in 1.1, 2.0)",),
        ),
        (
            [PROBED, answer(A, VULN | {"fix_versions": []}), not_found(B)],
            1,
            ("a 1.0: PYSEC-1/CVE-1/GHSA-x (fixed in no release)", "no result for 1 of 2 packages: b 2"),
        ),
        ([PROBED, answer(A), not_found(B)], 3, ("no result for 1 of 2 packages: b 2",)),
        ([PROBED, answer(A)], 3, ("no result for 1 of 2 packages: b 2",)),
        ([PROBED, answer(A), answer(OTHER_B)], 3, ("no result for 1 of 2 packages: b 2",)),
        ([not_found(audit.PROBE), not_found(A), not_found(B)], 3, BLIND),
        ([answer(audit.PROBE), answer(A), answer(B)], 3, BLIND),
        ([], 3, BLIND),
    ],
    ids=[
        "none",
        "one",
        "one, and one not found",
        "one not found",
        "one left out",
        "another version",
        "nothing is found, as behind a mirror",
        "answers without vulnerabilities, as of a mirror",
        "no answer",
    ],
)
def test_only_a_full_answer_is_a_result(
    answers: list[dict[str, Any]], exit_code: int, lines: tuple[str, ...]
) -> None:
    """What was not looked up is named and never counts as well."""
    assert audit.judge({A, B}, answers) == audit.Judgement(lines, exit_code)


NAMES = st.sampled_from("abcd")
PACKAGES = st.sets(st.tuples(NAMES, st.sampled_from(["1", "2", "3"])))
STAND_IN = f"""#!{sys.executable}
import json, pathlib, sys
lines = pathlib.Path(sys.argv[sys.argv.index("--requirement") + 1]).read_text().split()
names = [line.partition("==")[0] for line in lines]
if len(set(names)) != len(names):
    sys.exit("ERROR: duplicate requirements")
answers = [dict(zip(("name", "version"), line.split("==")), vulns=[]) for line in lines]
print(json.dumps({{"dependencies": answers, "fixes": []}}))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("audit") / "pip-audit"
    file.write_text(STAND_IN)
    file.chmod(0o755)
    return file


def test_several_versions_of_a_package_are_all_asked_about(program: Path) -> None:
    """pip-audit refuses the second version of a package, which a lock for several systems has."""
    found = audit.look_up(program, {A, B, OTHER_B}, [])
    assert sorted(found, key=str) == [answer(A), answer(B), answer(OTHER_B)]


@given(PACKAGES, PACKAGES)
def test_a_good_result_means_that_all_was_answered(wanted: set[Any], answered: set[Any]) -> None:
    """Whatever is answered, exit code 0 needs an answer for every package."""
    found = audit.judge(wanted, [PROBED, *(answer(package) for package in answered)])
    assert (found.exit_code == 0) is (wanted <= answered)


@pytest.mark.parametrize("text", ["", "No known vulnerabilities found", "[]", '{"dependencies"', "null"])
def test_no_answer_is_said(tmp_path: Path, text: str) -> None:
    """A pip-audit that prints something else, or nothing, gives its last line as the reason."""
    file = tmp_path / "pip-audit"
    file.write_text(f"#!{sys.executable}\nimport sys\nprint({text!r})\nsys.exit('ERROR: no such host')\n")
    file.chmod(0o755)
    with pytest.raises(RuntimeError) as caught:
        audit.look_up(file, {A}, [])
    assert str(caught.value) == ("pip-audit gave no answer (exit code 1); its last line: ERROR: no such host")


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ("0.69.3", False),
        ("0.69.4", True),
        ("0.69.5", True),
        ("0.69.6", True),
        ("0.70.0", False),
        ("0.75.0", False),
    ],
)
def test_the_releases_of_an_attacker_are_told(release: str, *, told: bool) -> None:
    """Trivy 0.69.4 to 0.69.6 were published with its maintainers' stolen keys: no signature distinguishes them."""
    said = "\n".join(lines("trivy", f"Version: {release}"))
    assert ("CVE-2026-33634" in said) is told
