"""The problems reported for a spec."""

from __future__ import annotations

import re

import pytest

from delivery_chain.core.spec.parse import parse_spec
from delivery_chain.errors import SpecError

HEAD = "version: 1\nname: x\nscope: {instance: home, namespace: shop, repositories: [api]}\n"
SOURCE = "sources: {api: {connection: g}}\n"

TOP = "expected one of build, description, distribute, name, replicate, scan, scope, sources, version"
OWNER = re.compile(r" \((?:build rule|replication rule|trigger) '[^']*'\)$")


def told(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "f.yaml")
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [str(problem).removeprefix("f.yaml:") for problem in caught.value.problems]


def problems(text: str) -> list[str]:
    """The problems reported for a text, without the names of the violated rules."""
    return [OWNER.sub("", line) for line in told(text)]
