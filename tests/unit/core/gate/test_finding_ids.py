"""Ids in a spec's lists: those of every publisher are accepted, impossible ones are refused with their line."""

from __future__ import annotations

import json

import pytest

from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.core.spec.scan import Clause
from delivery_chain.errors import SpecError

HEAD = "version: 1\nname: shop\nscope: {instance: home, namespace: shop, repositories: [api]}\n"


@pytest.mark.parametrize(
    "text",
    [
        "CVE-2021-44228",
        "cve-2021-44228",
        "CVE-2024-1000000",
        "GHSA-jfh8-c2jp-5v3q",
        "ghsa-JFH8-c2jp-5v3q",
        "DSA-5514-1",
        "DLA-3807-1",
        "USN-6581-1",
        "RHSA-2021:1234",
        "ELSA-2021-9999",
        "ALAS2-2021-001",
        "ALAS2LIVEPATCH-2021-068",
        "SUSE-SU-2021:1234-1",
        "openSUSE-SU-2021:1234-1",
        "PHSA-2021-3.0-0123",
        "PYSEC-2021-1",
        "GO-2021-0001",
        "RUSTSEC-2021-0001",
        "SNYK-JS-LODASH-590103",
        "npm:lodash:20180130",
        "TEMP-0841856-B18BAF",
        "TEMP-0000000-000000",
        "NSWG-ECO-328",
        "KHV002",
        "OSV-2020-111",
        "UBUNTU-CVE-2021-3711",
        "VU#930724",
        "MGASA-2021-0123",
        "L-1",
    ],
)
def test_ids_of_every_maker_are_taken(text: str) -> None:
    """No advisory's own shape is guessed too tightly, and an id stays as it was written."""
    assert Clause.model_validate({"findings": [text]}).findings == (text,)


@pytest.mark.parametrize(
    "text",
    [
        "CVE-21-44228",
        "CVE-2021-442",
        "CVE-2021-44228x",
        "CVE_2021_44228",
        "CVE 2021-44228",
        "CVE-2021-44228, CVE-2021-45046",
        "CVE-2021-*",
        "CVE-2021-44228 ",
        "2021-44228",
        "GHSA-jfh8-c2jp",
        "GHSA-jfh8c2jp5v3q",
        "openssl",
        "log4j",
        "high",
        "",
        "-1",
        "DSA-5514-1\n",
        "https://nvd.nist.gov/vuln/detail/CVE-2021-44228",
    ],
)
def test_what_can_be_no_id_is_refused_with_its_line(text: str) -> None:
    """A list that can't match is a spec error, at the entry's own line, in lists and in exceptions."""
    quoted = json.dumps(text)  # a JSON text is a YAML text too
    spec = (
        f"{HEAD}scan:\n  block:\n    findings:\n    - CVE-2021-44228\n    - {quoted}\n"
        f"    exceptions:\n    - {{id: {quoted}, reason: x}}\n"
    )

    with pytest.raises(SpecError) as caught:
        parse_spec(spec, "shop.yaml")

    examples = "such as CVE-2021-44228, GHSA-jfh8-c2jp-5v3q or DSA-5514-1"
    expected = f"expected the id of a vulnerability or advisory, {examples}"
    assert [(problem.line, problem.key, problem.message) for problem in caught.value.problems] == [
        (8, "scan.block.findings[1]", f"{expected}, found {text!r}"),
        (10, "scan.block.exceptions[0].id", f"{expected}, found {text!r}"),
    ]


@pytest.mark.parametrize(
    ("block", "missing"),
    [
        ("{severity: high, logic: or}", "count"),
        ("{findings: [DSA-5514-1], logic: or, count: 2}", "severity"),
        ("{severity: low, any: [{severity: high, logic: or}]}", "count"),
    ],
)
def test_or_without_both_halves_is_refused(block: str, missing: str) -> None:
    """`logic: or` says two limits; left to a default of 1 it would block on everything."""
    with pytest.raises(
        SpecError, match=f"shop.yaml:4: scan.block.*: `logic: or` needs a `{missing}`: it blocks on"
    ):
        parse_spec(f"{HEAD}scan: {{block: {block}}}\n", "shop.yaml")
