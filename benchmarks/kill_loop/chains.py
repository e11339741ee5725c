"""Defines the chains of the kill loop, and the repositories that they build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.kill_loop.facts import Chain

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "loop"
HOME = "cn-hangzhou"
REGIONS = {"near": "ap-southeast-1", "far": "eu-central-1"}
HOOKS = {"prod": "tell-release", "staging": "tell-moving"}

TAG_RULE = (
    """{name: release, tag: 'v(?<version>\\d+\\.\\d+\\.\\d+)', tags: [{tag: 'v${version}'}, {tag: latest}]}"""
)
BRANCH_RULE = """\
{name: main, branch: main, platforms: [linux/amd64, linux/arm64],
     tags: [{tag: main, build_time: minute, commit_id: 8}, {tag: edge}]}"""
SPEC = """\
version: 1
name: loop-{repository}
scope: {{instance: cn-hangzhou, namespace: loop, repositories: [{repository}]}}
sources: {{{repository}: {{connection: git_shop, url: loop/{repository}.git}}}}
build:
  rules:
    - {rule}
scan: {{block: {{severity: high, on_block: {{backup: true, delete: true}}}}}}
replicate:
  - {{name: near, to: ap-southeast-1}}
  - {{name: far, to: eu-central-1}}
distribute:
  - {{name: tell-release, url_connection: prod_redeploy, on: {{regexp: '(v|main-).*'}}}}
  - {{name: tell-moving, url_connection: staging_redeploy, on: {{tags: [{moving}]}}}}
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository and the chain that builds it."""

    name: str
    branch: bool
    """Whether its branch is built; otherwise its tags are."""
    ways: tuple[str, ...]
    """Ways in which pushes may be reported to the chain, see `pushing`."""
    weight: int
    """Weight: frequency of pushes, relative to the others."""

    @property
    def moving(self) -> str:
        """The tag that moves to every newer push."""
        return "edge" if self.branch else "latest"

    @property
    def chain(self) -> Chain:
        """The chain as a fact for the judge."""
        return Chain(
            name=f"loop-{self.name}",
            image=f"{NAMESPACE}/{self.name}",
            moving=self.moving,
            triggers={"tell-release": False, "tell-moving": True},
            hooks=HOOKS,
            regions=REGIONS,
        )

    @property
    def spec(self) -> str:
        """Its chain's spec."""
        rule = BRANCH_RULE if self.branch else TAG_RULE
        return SPEC.format(repository=self.name, rule=rule, moving=self.moving)


REPOSITORIES = (
    Repository("api", branch=False, ways=("hook",), weight=3),
    Repository("web", branch=True, ways=("hook", "late", "twice", "sensor"), weight=3),
    Repository("late", branch=False, ways=("late", "twice"), weight=2),
    Repository("quiet", branch=False, ways=("sensor",), weight=2),
)


def write_specs(folder: Path) -> None:
    """Write every chain's spec."""
    folder.mkdir(parents=True, exist_ok=True)
    for repository in REPOSITORIES:
        (folder / f"loop-{repository.name}.yaml").write_text(repository.spec, "ascii")
