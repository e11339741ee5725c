"""The sandbox's memory: state, secrets, the lock."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ConfigurationError, UsageError
from delivery_chain.sandbox import stack
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, State, load_secrets, locked
from delivery_chain.sandbox.processes import Mark

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_state_comes_back_as_it_was(layout: Layout) -> None:
    """What is saved is what is loaded, in a file for its owner only."""
    state = State({"database": "sqlite"}, {"receiver": 8090}, {"receiver": Mark(7, 42, "boot")}, "/data")
    state.save(layout)
    assert State.load(layout) == state
    assert layout.state_file.stat().st_mode & 0o777 == 0o600


def test_no_state_is_an_empty_one(layout: Layout) -> None:
    """A folder without a sandbox loads as nothing."""
    assert State.load(layout) == State()


@pytest.mark.parametrize("text", ["", "[]", '{"version": 99}', '{"ports": {}}'])
def test_a_foreign_state_is_refused(layout: Layout, text: str) -> None:
    """A state file of another version, or no state at all, is refused by name."""
    layout.state_file.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=r"state\.json"):
        State.load(layout)


def test_secrets_are_made_once(layout: Layout) -> None:
    """The second look finds the same secrets, in a file for its owner only."""
    first = load_secrets(layout)
    assert load_secrets(layout) == first
    assert layout.secrets_file.stat().st_mode & 0o777 == 0o600
    assert len(set(first.values())) == len(first)


def test_signing_secrets_have_the_standard_form(layout: Layout) -> None:
    """A signing secret is `whsec_` and 24 bytes in base64, as Standard Webhooks asks."""
    secrets = load_secrets(layout)
    for stage in ("prod", "staging"):
        prefix, _, text = secrets[stage].partition("_")
        assert (prefix, len(base64.b64decode(text, validate=True))) == ("whsec", 24)


def test_one_command_at_a_time(layout: Layout) -> None:
    """While one command changes the sandbox, another is refused; afterwards the next one may."""
    with locked(layout), pytest.raises(UsageError, match="another"), locked(layout):
        pass
    with locked(layout):
        pass


def test_a_file_is_no_place_for_a_sandbox(tmp_path: Path) -> None:
    """`--state` of a file is a usage error, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file: expected a folder"), locked(Layout(tmp_path / "file")):
        pass


def test_a_mistyped_folder_starts_nothing(tmp_path: Path) -> None:
    """`--specs` of no folder is refused before any service starts, so that the next `up` may name another."""
    layout = Layout(tmp_path / "sandbox")
    options = stack.Options(database="sqlite", specs=str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="none: expected the folder with the chain specs"):
        stack.up(layout, options, Console(io.StringIO()))
    assert State.load(layout) == State()
