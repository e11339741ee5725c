"""`delivery-chain check` of typical mistakes: the line, the text as written, and the probable intention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.commands.main import main

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
version: 1
name: shop
scope: {{instance: home, namespace: shop, repositories: [api]}}
sources: {{api: {{connection: git}}}}
build:{more}
  rules:
  - {rule}
"""
TAGS = "tags: [{tag: latest}]"


@pytest.mark.parametrize(
    ("more", "rule", "code", "said"),
    [
        (
            "\n  time_zone: UTC",
            f"{{name: release, tag: main, {TAGS}}}",
            1,
            "6: build.time_zone: unknown key; did you mean `timezone`?",
        ),
        (
            "",
            f"{{name: release, tag: v*, {TAGS}}}",
            0,
            (
                "7: build.rules[0].tag: 'v*' looks like a glob, but is read as a regular expression for the whole "
                "name; write 'v.*' (build rule 'release') (a warning)"
            ),
        ),
        (
            "",
            "{name: dev, branch: 'dev/(?<feature>.+)', tags: [{tag: 'dev/${feature}'}]}",
            1,
            (
                "7: build.rules[0].tags[0]: tag 'dev/${feature}': expected 1 to 128 characters of [A-Za-z0-9_.-], the "
                "first not . or - (build rule 'dev')"
            ),
        ),
        (
            "",
            rf'{{name: release, tag: "v\d", {TAGS}}}',
            1,
            (
                r"7: not YAML: found unknown escape character; in double quotes \ begins an escape: "
                r"put patterns in single quotes, as in 'v\d+'"
            ),
        ),
    ],
    ids=["a key", "a glob", "a tag that no registry takes", "an escape"],
)
def test_a_mistyped_spec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, rule: str, code: int, said: str
) -> None:
    """One line names it; a warning does not fail the check."""
    file = tmp_path / "shop.yaml"
    file.write_text(SPEC.format(more=more, rule=rule))
    assert main(["check", str(file)]) == code
    captured = capsys.readouterr()
    assert [line for line in (captured.out + captured.err).splitlines() if line.startswith(str(file))] == [
        f"{file}:{said}"
    ]
