"""The history of a run: rows, JSON lines, pictures."""

import errno
import json

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from art_ext.engine import History, plot_histories

ROWS = [
    {"epoch": 1, "loss": 2.5, "train_robust": 0.1, "robust": 0.25, "clean": 0.5},
    {"epoch": 2, "loss": 2.0, "train_robust": 0.2, "robust": 0.50, "clean": 0.5},
    {"epoch": 3, "loss": 1.5, "train_robust": 0.3, "robust": 0.50, "clean": 0.6},
]


def filled(path=None, rows=ROWS) -> History:
    history = History(path)
    for row in rows:
        history.append(row)
    return history


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_columns_and_the_first_best():
    history = filled(rows=[*ROWS, {"epoch": 4, "loss": 1.0}])
    assert len(history) == 4
    assert history.column("loss") == [2.5, 2.0, 1.5, 1.0]
    assert history.column("clean") == [0.5, 0.5, 0.6]
    assert history.column("nothing") == []
    assert history.best("robust") is ROWS[1]
    assert history.best("nothing") is None


def test_lines_equal_the_rows_after_every_epoch(tmp_path):
    path = tmp_path / "history.jsonl"
    history = History(path)
    assert path.read_text() == ""
    for row in ROWS:
        history.append(row)
        assert lines(path) == history.rows


def test_a_new_run_begins_a_new_file(tmp_path):
    path = tmp_path / "history.jsonl"
    filled(path)
    assert lines(path) == ROWS
    filled(path, ROWS[:1])
    assert lines(path) == ROWS[:1]


def test_after_a_full_disk_no_epoch_is_missing(tmp_path, monkeypatch):
    path = tmp_path / "history.jsonl"
    history = filled(path, ROWS[:1])
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", _full)
        with pytest.warns(UserWarning, match=r"history\.jsonl could not be written"):
            history.append(ROWS[1])
    assert lines(path) == ROWS[:1]
    history.append(ROWS[2])
    assert lines(path) == history.rows == ROWS


def _full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """The figures that are saved from now on."""
    saved, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), save(self, *a, **k)))
    return saved


def curves(figure: Figure) -> dict[str, list[tuple[list, list]]]:
    """Panel -> (x, y) of each line."""
    return {a.get_title(): [(list(n.get_xdata()), list(n.get_ydata())) for n in a.lines] for a in figure.axes}


def test_a_picture_shows_the_figures_of_each_epoch(tmp_path, figures):
    filled().plot(tmp_path / "curves.png")
    picture = imread(tmp_path / "curves.png")
    assert picture.ndim == 3
    assert picture.shape[1] > 2 * picture.shape[0]
    assert picture.std() > 0.01  # no blank page
    assert curves(figures[0]) == {
        "training loss": [([1, 2, 3], [2.5, 2.0, 1.5])],
        "clean, validation": [([1, 2, 3], [50, 50, 60])],
        "robust, validation": [([1, 2, 3], [25, 50, 50])],
        "robust, training": [([1, 2, 3], [10, 20, 30])],
    }


def test_without_validation_there_is_no_empty_panel(tmp_path, figures):
    filled(rows=[{"epoch": 1, "loss": 2.0, "train_robust": 0.1}]).plot(tmp_path / "curves.svg")
    assert list(curves(figures[0])) == ["training loss", "robust, training"]
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")


def test_several_runs_share_the_panels_and_have_a_legend(tmp_path, figures):
    plot_histories({"plain": filled(rows=[{"epoch": 1, "loss": 2.0}]), "PIAT": filled()}, tmp_path / "curves.png")
    shown = curves(figures[0])
    assert shown["training loss"] == [([1], [2.0]), ([1, 2, 3], [2.5, 2.0, 1.5])]
    assert [text.get_text() for text in figures[0].axes[-1].get_legend().texts] == ["plain", "PIAT"]


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", _full)
    with pytest.raises(OSError, match="No space left"):
        filled().plot(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
