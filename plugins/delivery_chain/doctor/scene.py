"""What is looked at: the chains, this installation's settings, and what is known of its connections."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.spec.connections import Needed, needed_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.core.section import Section
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.settings import Settings

_PREFIX = "AIRFLOW_CONN_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that the checks have in common."""

    specs: Mapping[str, ChainSpec]
    """By file."""
    settings: Settings
    section: Section
    """Where the settings are from, for parts that read options of their own."""
    known: Mapping[str, str] | None
    """Connections in Airflow's database and their types; None where it can't be read from here."""
    needed: tuple[Needed, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = tuple(one for spec in self.specs.values() for one in needed_by(spec))
        object.__setattr__(self, "needed", found)

    @property
    def builds(self) -> bool:
        """Whether a chain builds."""
        return any(spec.build_rules for spec in self.specs.values())

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that chains scan with."""
        used = (spec.scan.engine for spec in self.specs.values() if spec.scan.enabled)
        return tuple(dict.fromkeys(name for names in used for name in names))

    def names(self) -> set[str]:
        """Connections that a name may have been meant for."""
        here = {name.removeprefix(_PREFIX).lower() for name in os.environ if name.startswith(_PREFIX)}
        return here | set(self.known or ())

    def files(self, needed: Needed) -> str:
        """The specs that name a connection."""
        files = [file for file, spec in self.specs.items() if needed in needed_by(spec)]
        return ", ".join(files[:3])
