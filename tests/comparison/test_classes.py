"""The table class by class."""

from art_ext.comparison import cells_of, write_tables
from art_ext.comparison.classes import classes_text
from art_ext.comparison.summary import Row


def row(label: str, **found: dict[int, float]) -> Row:
    return Row(label=label, seeds=(0,), planned=1, figures={}, classes={"PGD_20": found})


def test_a_table_for_each_checkpoint_with_the_lowest_in_bold() -> None:
    rows = [row("A_B", best={0: 0.5, 1: 0.25}, last={0: 0.0, 1: 0.0}), row("C", best={1: 0.125}, last={})]
    assert classes_text(rows, title="Digits_1").splitlines() == [
        "Digits\\_1",
        "",
        "PGD\\_20, best, class by class:",
        "",
        "| method | 0 | 1 |",
        "| --- | ---: | ---: |",
        "| A\\_B | 50.0 | **25.0** |",
        "| C | – | **12.5** |",
        "",
        "PGD\\_20, final, class by class:",
        "",
        "| method | 0 | 1 |",
        "| --- | ---: | ---: |",
        "| A\\_B | **0.0** | **0.0** |",
        "| C | – | – |",
    ]


def test_the_file_is_there_where_the_worst_class_is_asked_for(make_grid, tmp_path) -> None:
    for asked in (False, True):
        grid = make_grid(evaluation={"attacks": {"FGSM": "fgsm"}, "worst_class": asked})
        write_tables(grid, cells_of(grid), tmp_path)
        assert (tmp_path / "comparison-classes.md").is_file() is asked
