"""`delivery-chain check` warns of exceptions that need attention, and fails for none of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery_chain.commands.main import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SPEC = """\
version: 1
name: shop
scope: {instance: home, namespace: shop, repositories: [api]}
scan:
  block:
    severity: high
    exceptions:
    - {id: CVE-2020-0001, reason: over, expires: 2020-01-01}
    - {id: CVE-2020-0002, reason: no end}
    - id: CVE-2020-0003
      reason: last day
      package: openssl
      expires: 2026-05-20
    - {id: CVE-2020-0004, reason: soon, expires: 2026-06-03}
    - {id: CVE-2020-0005, reason: later, expires: 2026-06-04}
"""


def test_exceptions_that_ended_or_end_soon_are_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each at its line, with its last day; the exit code stays 0."""
    file = tmp_path / "shop.yaml"
    file.write_text(SPEC)

    code = main(["check", str(file)], clock=lambda: datetime(2026, 5, 20, 23, tzinfo=UTC))

    where = f"{file}:{{}}: scan.block.exceptions[{{}}].expires: the exception for "
    assert (code, capsys.readouterr().out.splitlines()) == (
        0,
        [
            f"{where.format(8, 0)}CVE-2020-0001 ended on 2020-01-01 (a warning)",
            f"{where.format(13, 2)}CVE-2020-0003 in openssl ends on 2026-05-20, today (a warning)",
            f"{where.format(14, 3)}CVE-2020-0004 ends on 2026-06-03, in 14 days (a warning)",
            "1 spec, fine, 3 warnings",
        ],
    )
