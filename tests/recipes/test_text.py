"""YAML as recipes are written in."""

from pathlib import Path

import pytest

from art_ext.recipes.text import dump, fraction, parse, read


@pytest.mark.parametrize(
    "text, value",
    [
        ("8/255", 8 / 255),
        ("-1/2", -0.5),
        ("1.5/3", 0.5),
        ("1e-4", 1e-4),
        ("0.1", 0.1),
        ("'1/2'", "1/2"),
        ("data/2", "data/2"),
        ("[2/255, 0.5]", [2 / 255, 0.5]),
        ("null", None),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse(f"key: {text}") == {"key": value}


@pytest.mark.parametrize(
    "text, told",
    [
        ("a: [1", "cannot be read as YAML"),
        ("- a", "list"),
        ("a: 1\nb: 2\na: 3", "'a' is there twice"),
        ("t: {x: 1, x: 2}", "'x' is there twice"),
        ("a: 1/0", "division by zero"),
        ("a: !!python/object:os.system {}", "cannot be read"),
    ],
    ids=["syntax", "list", "twice", "twice inside", "zero", "code"],
)
def test_bad_text_is_told_with_its_source(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        parse(text, source="mine.yaml")
    assert "mine.yaml" in str(error.value)


@pytest.mark.parametrize("value", [8 / 255, 2 / 255, 0.2, 1 / 3, 1e-4, 5e-4, 0.0, 1.0, -8 / 255, "8/255", "1e-4", True])
def test_what_is_written_reads_back_the_same(value: object) -> None:
    assert parse(dump({"section": {"key": value}})) == {"section": {"key": value}}


def test_small_fractions_are_readable() -> None:
    assert "eps: 8/255" in dump({"threat": {"eps": 8 / 255}})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        read(tmp_path / "none.yaml")


def test_no_fraction() -> None:
    with pytest.raises(ValueError, match="8/255"):
        fraction("a/b")
