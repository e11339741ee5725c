from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import SpecError
from delivery_chain.spec_store.folder import LARGEST_FILE, load, read_text, spec_files

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "version: 1\nname: {name}\nscope: {{instance: home, namespace: {namespace}, repositories: [api]}}\n"


def write(folder: Path, file: str, name: str, namespace: str = "") -> Path:
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(TEXT.format(name=name, namespace=namespace or name), encoding="utf-8")
    return path


def test_files(tmp_path: Path) -> None:
    """Specs are the YAML files of a folder and its sub-folders, in order; or the one file."""
    paths = [write(tmp_path, name, "x") for name in ("a.yml", "b.yaml", "sub/c.yaml")]
    (tmp_path / "schema.json").write_text("{}")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / ".#a.yml").symlink_to("an-editors-lock")
    assert spec_files(tmp_path) == paths
    assert spec_files(paths[0]) == paths[:1]


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    """Kubernetes keeps the files in a hidden folder, and links to them; each is one spec, not two.

    Source: https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically
    """
    write(tmp_path, "..2026_11_01/shop.yaml", "shop")
    (tmp_path / "..data").symlink_to("..2026_11_01")
    (tmp_path / "shop.yaml").symlink_to("..data/shop.yaml")
    found = load(tmp_path)
    assert (list(found.specs), found.problems) == ([str(tmp_path / "shop.yaml")], ())


def test_one_bad_file_takes_no_other_down(tmp_path: Path) -> None:
    """A bad spec is listed with its problems; the others load."""
    good = write(tmp_path, "good.yaml", "good")
    (tmp_path / "bad.yaml").write_text("version: 1\n")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    (tmp_path / "lost.yaml").symlink_to(tmp_path / "nowhere")
    found = load(tmp_path)
    assert (list(found.specs), [str(p).removeprefix(f"{tmp_path}/") for p in found.problems]) == (
        [str(good)],
        [
            "bad.yaml:1: name: is missing",
            "bad.yaml:1: scope: is missing",
            "latin.yaml:1: expected UTF-8 text, found byte 0xe9",
            "lost.yaml:1: can't be read: No such file or directory",
        ],
    )


def test_conflicts_name_both_files(tmp_path: Path) -> None:
    """Two chains of one name, or of equally narrow scopes, are both left out and each names the other."""
    one, two = write(tmp_path, "1.yaml", "a"), write(tmp_path, "2.yaml", "a")
    good = write(tmp_path, "3.yaml", "b")
    found = load(tmp_path)
    assert (list(found.specs), [str(problem) for problem in found.problems]) == (
        [str(good)],
        [
            f"{one}:2: name: chain 'a' is defined by {two} too",
            f"{one}:3: scope.repositories: a/api is also covered by {two}, whose scope is just as narrow",
            f"{two}:2: name: chain 'a' is defined by {one} too",
            f"{two}:3: scope.repositories: a/api is also covered by {one}, whose scope is just as narrow",
        ],
    )


def test_unreadable(tmp_path: Path) -> None:
    """A file that can't be read is a problem of that file."""
    with pytest.raises(SpecError) as caught:
        read_text(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml:1: can't be read: No such file or directory"


def test_a_pipe_is_no_spec(tmp_path: Path) -> None:
    """Opening one would wait for whoever writes into it, and every Dag with it."""
    os.mkfifo(tmp_path / "a.yaml")

    assert [str(problem) for problem in load(tmp_path).problems] == [
        f"{tmp_path}/a.yaml:1: expected a file, found a device, pipe or folder"
    ]


def test_a_file_that_is_too_large_says_so(tmp_path: Path) -> None:
    """It is not read to its end, and not called broken text because of where it was cut."""
    (tmp_path / "a.yaml").write_text("a" + "é" * LARGEST_FILE)

    assert [str(problem) for problem in load(tmp_path).problems] == [
        f"{tmp_path}/a.yaml:1: expected at most 1048576 bytes, found more"
    ]
