from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.spec_store import folder as catalogue

if TYPE_CHECKING:
    from delivery_chain.core.spec.model import ChainSpec

TEXT = """\
version: 1
name: {name}
scope: {{instance: home, namespace: {name}, repositories: [api]}}
"""


def write(folder: Path, file: str, name: str) -> None:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT.format(name=name), encoding="utf-8")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, in order."""
    names: list[str] = []
    real = catalogue.read_text

    def spy(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(catalogue, "read_text", spy)
    return names


def name_of(spec: ChainSpec | None) -> str | None:
    return spec.name if spec else None


@pytest.mark.parametrize("file", ["shop-z.yaml", "shop-z.yml", "team/deep/shop-z.yaml"])
def test_a_file_named_after_its_chain_is_the_only_one_read(
    tmp_path: Path, read: list[str], file: str
) -> None:
    """A task's start costs the same in a folder of any size."""
    for number in range(20):
        write(tmp_path, f"shop-{number}.yaml", f"shop-{number}")
    write(tmp_path, file, "shop-z")
    assert name_of(catalogue.load_one(tmp_path, "shop-z")) == "shop-z"
    assert read == [Path(file).name]


def test_a_file_in_the_folder_itself_needs_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is only listed when no file of its own bears the name."""
    write(tmp_path, "shop-z.yaml", "shop-z")
    monkeypatch.setattr(catalogue, "spec_files", lambda place: pytest.fail(f"listed {place}"))
    assert name_of(catalogue.load_one(tmp_path, "shop-z")) == "shop-z"


def test_a_chain_under_another_file_name_is_found(tmp_path: Path) -> None:
    """A misleading, a broken and an unreadable file on the way don't hide it."""
    write(tmp_path, "shop-z.yaml", "shop-a")
    (tmp_path / "broken.yaml").write_text("name: shop-z\nversion: [", encoding="utf-8")
    (tmp_path / "latin.yaml").write_bytes(b"# shop-z \xe9\n")
    write(tmp_path, "team/other.yml", "shop-z")
    assert name_of(catalogue.load_one(tmp_path, "shop-z")) == "shop-z"


def test_a_single_file_as_the_place(tmp_path: Path) -> None:
    """The place may be one file, as for `delivery-chain check`."""
    write(tmp_path, "any.yaml", "shop-z")
    place = tmp_path / "any.yaml"
    assert (name_of(catalogue.load_one(place, "shop-z")), catalogue.load_one(place, "shop-a")) == (
        "shop-z",
        None,
    )


def test_no_such_chain(tmp_path: Path) -> None:
    """A name that no spec has gives None, also where it is part of a text."""
    write(tmp_path, "shop-api.yaml", "shop-api")
    assert (catalogue.load_one(tmp_path, "shop"), catalogue.load_one(tmp_path, "none")) == (None, None)
