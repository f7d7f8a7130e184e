"""Experiment trackers: what arrives in them, and what happens when they cannot be used."""

import random
from pathlib import Path

import pytest
import torch
from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from art_ext.engine import tracking
from art_ext.engine.tracking import check_trackers, open_trackers

ROW = {"epoch": 1, "loss": 1.5, "robust": 0.25}


class Memory(GeneralTracker):
    """Remembers what it is told; fails where ``broken`` says so."""

    name = "memory"
    requires_logging_directory = False
    broken: tuple[str, ...] = ()

    def __init__(self, project: str) -> None:
        super().__init__()
        self.heard: list[tuple] = [("project", project)]
        Memory.latest = self

    @property
    def tracker(self) -> list[tuple]:
        return self.heard

    def _hear(self, event: str, *what: object) -> None:
        if event in self.broken:
            raise ConnectionError("no network")
        self.heard.append((event, *what))

    def start(self) -> None:
        self._hear("start")

    def store_init_configuration(self, values: dict) -> None:
        self._hear("config", values)

    def log(self, values: dict, step: int | None = None, **kwargs: object) -> None:
        self._hear("log", values, step)

    def finish(self) -> None:
        self._hear("finish")


@pytest.fixture
def memory(monkeypatch):
    """The class, registered with accelerate as a user would do it."""
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "memory", Memory)
    monkeypatch.setattr(Memory, "broken", ())
    return Memory


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_gets_the_rows(tmp_path):
    tracking = open_trackers("tensorboard", tmp_path, {"eps": 0.1, "loss": "nmse", "averaging": None})
    tracking.log(ROW, 1)
    tracking.log(ROW | {"loss": 0.5}, 2)
    tracking.close()
    assert scalars(tmp_path / "art_ext", "loss") == [(1, 1.5), (2, 0.5)]
    assert scalars(tmp_path / "art_ext", "robust") == [(1, 0.25), (2, 0.25)]


def test_tensorboard_hides_what_is_trained_again(tmp_path):
    killed = open_trackers("tensorboard", tmp_path, {})
    for epoch in (1, 2, 3):
        killed.log({"loss": 9.0}, epoch)
    resumed = open_trackers("tensorboard", tmp_path, {}, first_step=3)
    resumed.log({"loss": 1.0}, 3)
    resumed.close()
    assert scalars(tmp_path / "art_ext", "loss") == [(1, 9.0), (2, 9.0), (3, 1.0)]


def test_a_tracker_of_ones_own_hears_everything_in_order(memory):
    tracking = open_trackers(["memory", "memory"], None, {"steps": 10, "folder": Path("x"), "averaging": None})
    tracking.log(ROW, 1)
    tracking.close()
    assert memory.latest.heard == [
        ("project", "art_ext"),
        ("start",),
        ("config", {"steps": 10, "folder": "x", "averaging": "None"}),
        ("log", ROW, 1),
        ("finish",),
    ]


@pytest.mark.parametrize("names", [None, [], ()], ids=str)
def test_no_tracker_no_work(names, tmp_path):
    tracking = open_trackers(names, tmp_path, {})
    tracking.log(ROW, 1)
    tracking.close()
    assert not list(tmp_path.iterdir())


def test_only_the_main_process_writes(monkeypatch, tmp_path):
    monkeypatch.setattr(PartialState, "is_main_process", property(lambda self: False))
    for folder in (tmp_path, None):
        tracking = open_trackers("tensorboard", folder, {})
        tracking.log(ROW, 1)
        tracking.close()
    assert not list(tmp_path.iterdir())


def test_random_numbers_are_as_without_trackers(memory, monkeypatch):
    monkeypatch.setattr(memory, "_hear", lambda *_: (random.random(), torch.rand(1)))
    before = random.getstate(), torch.get_rng_state()
    open_trackers("memory", None, {}).log(ROW, 1)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize(
    "names, error, message",
    [
        ("tensorbord", ValueError, "unknown tracker 'tensorbord'; did you mean 'tensorboard'"),
        (["memory", "wand"], ValueError, "unknown tracker 'wand'; did you mean 'wandb'"),
        ("all", ValueError, "unknown tracker 'all'"),
        (5, TypeError, "tracking must be a name or several.*got 5"),
        ([5], TypeError, r"got \[5\]"),
        ("tensorboard", ValueError, "tracking='tensorboard' writes into the folder of the run: give a checkpoint_dir"),
    ],
    ids=str,
)
def test_bad_names_are_refused_before_anything_starts(memory, monkeypatch, names, error, message):
    monkeypatch.setattr(tracking, "_start", lambda *_: pytest.fail("started"))
    with pytest.raises(error, match=message):
        open_trackers(names, None, {})


@pytest.mark.parametrize(
    "name, command",
    [("tensorboard", r"pip install 'art-ext\[tensorboard\]'"), ("comet_ml", "pip install comet-ml")],
    ids=["extra of ours", "another library"],
)
def test_a_missing_library_says_how_to_install_it(monkeypatch, tmp_path, name, command):
    monkeypatch.setattr(tracking, "get_available_trackers", list)
    with pytest.raises(ImportError, match=f"tracking='{name}': {name} is not installed: {command}"):
        check_trackers(name, tmp_path)


@pytest.mark.parametrize("when", ["start", "config"])
def test_a_tracker_that_cannot_start_stops_before_training(memory, when):
    memory.broken = (when,)
    with pytest.raises(RuntimeError, match="tracking='memory' cannot start: no network"):
        open_trackers("memory", None, {})


def test_a_tracker_that_fails_later_is_a_warning(memory):
    tracking = open_trackers("memory", None, {})
    memory.broken = ("log", "finish")
    with pytest.warns(UserWarning, match=r"memory did not take the figures of step 3 \(no network\); training goes on"):
        tracking.log(ROW, 3)
    with pytest.warns(UserWarning, match="memory did not end well"):
        tracking.close()
