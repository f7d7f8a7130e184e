"""The examples in the docstrings, module by module; the adapters under the name users import them by."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def module_name(path: Path) -> str:
    *folders, name = path.relative_to(ROOT).with_suffix("").parts
    parents = ["art_ext", *folders] if folders[0] == "adapters" else folders
    return ".".join(parents if name == "__init__" else [*parents, name])


FILES = [path for folder in ("art_ext", "adapters") for path in sorted((ROOT / folder).rglob("*.py"))]
MODULES = [module_name(path) for path in FILES if ">>>" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert results.attempted
    assert not results.failed
