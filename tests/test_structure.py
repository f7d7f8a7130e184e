"""The floors of the house: imports go down only, and without circles."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    {
        "threat",
        "scores",
        "bpda",
        "losses",
        "averaging",
        "technique",
        "nn",
        "vit",
        "data",
        "datasets",
        "naming",
        "files",
        "isolation",
        "palette",
        "processes",
        "progress",
    },
    {"model", "validation"},
    {"attacks"},
    {"engine", "evaluation", "techniques"},
    {"preprocessors", "trainers", "detectors", "adapters"},
    {"recipes"},
    {"comparison", "reproduce"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
LAZY = {"evaluation/suites.py": {"adapters"}}  # the one file below the adapters that names one of them
FILES = [p for folder in ("art_ext", "adapters") for p in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """The rooms of ours that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "art_ext":
            parts = (node.module or "").split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("art_ext."))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "adapters" else parts[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    allowed = LAZY.get(str(path.relative_to(ROOT / "art_ext")) if room != "adapters" else "", set())
    upward = {name for name in imported(path) if name != room and FLOOR.get(name, 0) > FLOOR[room]} - allowed
    assert not upward, f"{room} is on floor {FLOOR[room]}; it imports {upward} from above"


def test_rooms_of_one_floor_do_not_import_each_other_in_circles() -> None:
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        arrows.setdefault(room_of(path), set()).update(n for n in imported(path) if n != room_of(path))
    pairs = {(a, b) for a, targets in arrows.items() for b in targets if FLOOR.get(a) == FLOOR.get(b)}
    assert not {(a, b) for a, b in pairs if (b, a) in pairs}
