"""Cells carried out: what is missing only, whatever happens, by several processes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from art_ext.comparison import Grid, cells_of, is_done, run_cells
from art_ext.comparison import running as module
from art_ext.comparison.running import claimed, state_of
from art_ext.engine.validation import Validation
from art_ext.processes import Processes
from art_ext.recipes import load_run
from tests import forking

Make = Callable[..., Grid]
ONE: dict[str, Any] = {"methods": {"pgd-at": {}}}


def test_missing_cells_are_run_and_no_others(make_grid: Make, tmp_path: Path) -> None:
    grid = make_grid()
    cells = cells_of(grid)
    assert [state_of(cell, grid.judging, tmp_path) for cell in cells.values()] == ["missing", "missing"]
    ended: list[int] = []
    outcome = run_cells(cells, grid.judging, tmp_path, after=lambda: ended.append(1))
    assert (outcome.done, outcome.failed, outcome.taken) == (tuple(cells), {}, ())
    assert len(ended) == 2
    assert all(state_of(cell, grid.judging, tmp_path) == "done" for cell in cells.values())
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    more = cells_of(make_grid(methods={"pgd-at": {}, "art": {"art": "pgd"}, "nmse": {"trainer": {"loss": "nmse"}}}))
    assert run_cells(more, grid.judging, tmp_path).done == ("nmse_seed-0",)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_more_is_judged_without_training_again(make_grid: Make, tmp_path: Path) -> None:
    cells = cells_of(make_grid(**ONE))
    run_cells(cells, make_grid(**ONE).judging, tmp_path)
    weights = tmp_path / "pgd-at_seed-0" / "training" / "last.safetensors"
    stamp = weights.stat().st_mtime_ns
    more = make_grid(**ONE, evaluation={"attacks": {"FGSM": "fgsm", "PGD-20": "pgd-20"}, "n_examples": 16}).judging
    assert not is_done(cells["pgd-at_seed-0"], more, tmp_path)
    assert run_cells(cells, more, tmp_path).done == ("pgd-at_seed-0",)
    assert weights.stat().st_mtime_ns == stamp
    assert not list(tmp_path.rglob("journal"))


def test_what_fails_is_told_and_the_others_go_on(make_grid: Make, tmp_path: Path) -> None:
    wild = {"art": "pgd", "optimizer": {"name": "sgd", "lr": 1e30}}
    grid = make_grid(methods={"wild": wild, "pgd-at": {}})
    cells = cells_of(grid)
    outcome = run_cells(cells, grid.judging, tmp_path)
    assert outcome.done == ("pgd-at_seed-0",)
    assert outcome.failed["wild_seed-0"].startswith("FloatingPointError: ART's pgd")
    assert state_of(cells["wild_seed-0"], grid.judging, tmp_path) == "failed"
    assert "Traceback" in (tmp_path / "wild_seed-0" / "error.txt").read_text()


def test_an_error_is_forgotten_when_the_cell_succeeds(
    make_grid: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid(**ONE)
    cells = cells_of(grid)

    def broken(*args: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(module, "judge_checkpoints", broken)
        assert run_cells(cells, grid.judging, tmp_path).failed == {"pgd-at_seed-0": "OSError: no space left"}
    run_cells(cells, grid.judging, tmp_path)
    assert state_of(cells["pgd-at_seed-0"], grid.judging, tmp_path) == "done"
    assert not (tmp_path / "pgd-at_seed-0" / "error.txt").exists()


@pytest.mark.parametrize("kind", [None, "pgd"])
def test_a_killed_cell_goes_on(
    kind: str | None, make_grid: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid(methods={"a": {"art": kind} if kind else {}})
    cells = cells_of(grid)
    run_cells(cells, grid.judging, tmp_path / "whole")
    accuracies, calls = Validation.accuracies, []

    def killing(self: Validation, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:  # in the second epoch
            raise KeyboardInterrupt
        return accuracies(self, *args)

    monkeypatch.setattr(Validation, "accuracies", killing)
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, grid.judging, tmp_path / "cut")
    assert state_of(cells["a_seed-0"], grid.judging, tmp_path / "cut") == "missing"
    run_cells(cells, grid.judging, tmp_path / "cut")
    assert len(calls) == 3  # the first epoch was not repeated
    whole, cut = (load_run(tmp_path / n / "a_seed-0" / "training", "last")[2].model for n in ("whole", "cut"))
    assert all(torch.equal(value, cut.state_dict()[key]) for key, value in whole.state_dict().items())


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"recipe": {"threat": {"eps": 0.2}}}, "threat.eps: 0.1 there, 0.2 here"),
        ({"recipe": {"trainer": {"nb_epochs": 3}}}, "nb_epochs"),
        ({"methods": {"a": {"art": "madry-pgd"}}}, "another trainer of ART"),
        ({"methods": {"a": {}}}, "another trainer of ART"),
    ],
)
def test_a_cell_of_another_grid_is_not_taken_for_this_one(
    changes: dict[str, Any], told: str, make_grid: Make, tmp_path: Path
) -> None:
    first = {"methods": {"a": {"art": "pgd"}}}
    grid = make_grid(**first)
    run_cells(cells_of(grid), grid.judging, tmp_path)
    other = cells_of(make_grid(**first | changes))
    assert not is_done(other["a_seed-0"], grid.judging, tmp_path)
    assert told in run_cells(other, grid.judging, tmp_path).failed["a_seed-0"]


def test_a_look_at_a_cell_s_state_does_not_take_it(tmp_path: Path) -> None:
    begun = threading.Event()

    def look() -> None:
        with FileLock(tmp_path / module.LOCK):
            begun.set()
            time.sleep(0.2)

    looking = threading.Thread(target=look)
    looking.start()
    begun.wait()
    with claimed(tmp_path) as mine:
        assert mine
    looking.join()


def test_a_cell_that_another_process_has_is_passed_over(
    make_grid: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0)
    grid = make_grid()
    cells = cells_of(grid)
    with claimed(tmp_path / "pgd-at_seed-0") as mine:
        assert mine
        outcome = run_cells(cells, grid.judging, tmp_path)
        assert state_of(cells["pgd-at_seed-0"], grid.judging, tmp_path) == "running"
    assert (outcome.done, outcome.taken) == (("art_seed-0",), ("pgd-at_seed-0",))
    assert run_cells(cells, grid.judging, tmp_path).done == ("pgd-at_seed-0",)


def test_what_was_taken_is_tried_again_after_the_others(
    make_grid: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid()
    cells = cells_of(grid)
    with claimed(tmp_path / "pgd-at_seed-0") as mine:
        assert mine
        lock = module._lock
        held = [tmp_path / "pgd-at_seed-0"]  # given up by its holder after the first pass
        monkeypatch.setattr(
            module, "_lock", lambda place, *_: None if place in held and not held.clear() else lock(place)
        )
    assert run_cells(cells, grid.judging, tmp_path).done == ("art_seed-0", "pgd-at_seed-0")


def test_processes_of_one_run_need_the_name_of_a_cell(
    make_grid: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid()
    monkeypatch.setattr(module.Processes, "launched", lambda: Processes(0, 2))
    with pytest.raises(ValueError, match="--cell"):
        run_cells(cells_of(grid), grid.judging, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_processes_share_a_folder(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    grid = grid_file(seeds=[0, 1], methods={"pgd-at": {}})
    code = (
        "import sys; from pathlib import Path; from art_ext.comparison import *;"
        "grid = load_grid(sys.argv[1]); cells = cells_of(grid); folder = Path(sys.argv[2]);"
        "print(*run_cells(cells, grid.judging, folder).done); write_tables(grid, cells, folder)"
    )
    both = [forking.Forked("-c", code, str(grid), str(tmp_path / "out")) for _ in range(2)]
    ended = [process.wait() for process in both]
    assert [process.returncode for process in ended] == [0, 0], [process.stderr for process in ended]
    done = [process.stdout.split() for process in ended]
    assert sorted(done[0] + done[1]) == ["pgd-at_seed-0", "pgd-at_seed-1"]
    assert (tmp_path / "out" / "comparison.txt").is_file()
