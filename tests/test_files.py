"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import subprocess
import sys

import pytest

from espnet_saliency.files import atomic_dir, atomic_file


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    with pytest.raises(RuntimeError), atomic_file(path) as handle:
        handle.write("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with atomic_file(path) as handle:
        handle.write("whole\n")
    assert path.read_bytes() == b"whole\n"


def test_a_folder_takes_the_place_of_the_older_one_only_when_it_is_whole(tmp_path):
    folder = tmp_path / "d"
    with atomic_dir(folder) as new:
        (new / "old").write_text("1")
    with pytest.raises(RuntimeError), atomic_dir(folder) as new:
        (new / "new").write_text("2")
        raise RuntimeError
    assert [p.name for p in folder.iterdir()] == ["old"]
    with atomic_dir(folder) as new:
        (new / "new").write_text("2")
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_what_a_killed_run_left_is_cleared_away_and_a_living_ones_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".d.{dead.pid}.tmp").mkdir()
    alive = tmp_path / ".d.1.tmp"
    alive.mkdir()
    with atomic_dir(tmp_path / "d"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".d.1.tmp", "d"]
