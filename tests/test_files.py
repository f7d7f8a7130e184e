"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from art_ext.files import atomic_write


def write_half(path: Path, error: BaseException) -> None:
    """Write something, and fail before the end."""
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text("old")
    return path


def test_replaces_when_the_block_ends(target):
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()], ids=["error", "interruption"])
def test_an_error_leaves_the_old_file_and_nothing_else(target, error):
    with pytest.raises(type(error)):
        write_half(target, error)
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_is_told_by_the_name_of_the_target(target):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
    with pytest.raises(OSError, match=r"cannot write .*/report.json: No space left on device") as caught:
        write_half(target, full)
    assert caught.value.errno == errno.ENOSPC
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_the_folder_is_made(tmp_path):
    with atomic_write(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_a_file_in_the_place_of_the_folder(target):
    with pytest.raises(OSError, match="cannot write"), atomic_write(target / "x") as temporary:
        temporary.write_text("x")


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(IsADirectoryError, match="cannot write"), atomic_write(tmp_path / "x") as temporary:
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_an_unwritable_folder(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"cannot write .*c.txt: Permission denied"):
        write_half(tmp_path / "b" / "c.txt", AssertionError("the block ran"))


def test_a_link_stays_a_link(target):
    link = target.with_name("latest.json")
    link.symlink_to(target)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_block_that_writes_nothing_is_an_error(target):
    with pytest.raises(FileNotFoundError, match="cannot write"), atomic_write(target):
        pass
    assert target.read_text() == "old"
