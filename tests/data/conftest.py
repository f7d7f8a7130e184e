"""Folders of tiny images."""

from pathlib import Path

import pytest

from tests.data.pictures import write_folder


@pytest.fixture
def two_splits(tmp_path: Path) -> Path:
    """``train`` and ``val`` with the classes cat (3 and 1 images) and dog (2 and 1)."""
    write_folder(tmp_path / "train", {"cat": 3, "dog": 2})
    write_folder(tmp_path / "val", {"cat": 1, "dog": 1})
    return tmp_path
