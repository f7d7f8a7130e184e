"""Runs that go on from a checkpoint end bit for bit where they would have ended."""

import copy
import json
import os
import signal
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import load_file
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR, ReduceLROnPlateau

from art_ext import RobustTrainer, ThreatModel
from art_ext.averaging import EMA, SWA, ParameterInterpolation
from art_ext.engine import History, checkpoint, keeper
from art_ext.engine.checkpoint import BEST
from art_ext.engine.checkpoints import STATE, TENSORS, Checkpoints, only_run_in, require_same
from art_ext.engine.resume import Place, _restore_process_random, require_same_place
from art_ext.engine.validation import Validation
from art_ext.processes import Processes
from tests import forking

EPOCHS, BATCH, BATCHES = 4, 8, 4


@pytest.fixture(autouse=True)
def unplotted(monkeypatch):
    """The picture of each epoch takes longer than all the rest."""
    monkeypatch.setattr(History, "plot", lambda self, path: None)


class Killed(BaseException):
    """What ends a run here as a kill would: nothing after it is saved."""


def network() -> nn.Module:
    """With everything that carries state: BatchNorm, and dropout's random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 4)
        )


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((30, 3, 4, 4), dtype=np.float32), rng.integers(0, 4, 30)


def trainer_of(folder=None, *, optimizer=None, **options) -> RobustTrainer:
    net = network()
    made = (optimizer or (lambda p: SGD(p, lr=0.1, momentum=0.9)))(net.parameters())
    classifier = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (3, 4, 4), 4, optimizer=made, clip_values=(0, 1), device_type="cpu"
    )
    given = {
        "steps": 2,
        "augment": "crop-flip",
        "progress": False,
        "validation_steps": 1,
        "precision": "fp32",
    } | options
    return RobustTrainer(classifier, threat=ThreatModel("linf", 0.05), checkpoint_dir=folder, **given)


def fit(trainer: RobustTrainer, scheduler=None, epochs: int = EPOCHS) -> RobustTrainer:
    made = scheduler(trainer.get_classifier().optimizer) if scheduler else None
    x, y = data()
    trainer.fit(x, y, validation_data=(x[:10], y[:10]), batch_size=BATCH, nb_epochs=epochs, scheduler=made)
    return trainer


def attacking_by(trainer: RobustTrainer, attack) -> None:
    """Another inner attack, of which its checkpoints say nothing."""
    said = trainer._about(trainer.get_classifier().optimizer)
    trainer.attack, trainer._about = attack, lambda optimizer: said


def resumed(folder, **options) -> RobustTrainer:
    trainer = trainer_of(folder, **options)
    trainer.resume()
    return trainer


def killed_after(trainer: RobustTrainer, batches: int, scheduler=None) -> None:
    """Fit, and be killed in the middle of the step after so many batches of this process."""
    attack, seen = trainer.attack, []

    def dying(*args):
        if len(seen) == batches * trainer.options.accumulate:
            raise Killed
        seen.append(True)
        return attack(*args)

    attacking_by(trainer, dying)
    with pytest.raises(Killed):
        fit(trainer, scheduler)


def figures(trainer: RobustTrainer) -> list[dict[str, float]]:
    timed = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in trainer.history.rows]


def assert_same_end(one: RobustTrainer, other: RobustTrainer) -> None:
    assert figures(one) == figures(other)
    states = [trainer.get_classifier().model.state_dict() for trainer in (one, other)]
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name]), name
    assert one.best is not None
    assert all(torch.equal(one.best[name], other.best[name]) for name in one.best)


KINDS = {
    "momentum": {},
    "piat": {"averaging": ParameterInterpolation, "loss": "nmse"},
    "ema": {"averaging": EMA, "loss": "trades"},
    "swa": {"averaging": SWA},
    "adam, one cycle": {
        "optimizer": lambda p: Adam(p, lr=0.01),
        "scheduler": lambda o: OneCycleLR(o, 0.05, total_steps=EPOCHS * BATCHES),
    },
    "steps": {"scheduler": lambda o: MultiStepLR(o, [1, 3])},
    "plateau": {"scheduler": lambda o: ReduceLROnPlateau(o, mode="max", patience=0)},
    "accumulated": {"accumulate": 3, "grad_clip": 0.5},
    "early stopping": {"early_stopping": 3},
}


@pytest.mark.parametrize("every", [None, 1, 3], ids=lambda every: f"every={every}")
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(tmp_path, options, every):
    options = dict(options)
    scheduler, averaging = options.pop("scheduler", None), options.pop("averaging", None)

    def make(folder=None):
        average = averaging() if averaging else None
        return trainer_of(folder, averaging=average, checkpoint_every=every if folder else None, **options)

    whole = fit(make(), scheduler)
    killed_after(make(tmp_path), 6, scheduler)
    for batches in (5, 4):
        again = make(tmp_path)
        again.resume()
        killed_after(again, batches, scheduler)
    last = make(tmp_path)
    assert last.resume() >= 1
    assert_same_end(fit(last, scheduler), whole)


def test_a_kill_costs_at_most_the_batches_since_the_last_checkpoint(tmp_path):
    killed_after(trainer_of(tmp_path, checkpoint_every=2), BATCHES + 3)
    assert [p.name for p in Checkpoints(tmp_path).found()] == ["epoch-0001-batch-00002", "epoch-0001-batch-00000"]


def test_a_finished_run_is_resumed_as_it_is_or_prolonged(tmp_path):
    fit(trainer_of(tmp_path), epochs=2)
    same, longer = trainer_of(tmp_path), trainer_of(tmp_path)
    assert same.resume() == longer.resume() == 2
    fit(same, epochs=2)
    assert len(same.history) == 2
    assert_same_end(fit(longer), fit(trainer_of()))


def test_the_last_ones_are_kept(tmp_path):
    fit(trainer_of(tmp_path, keep_checkpoints=3))
    names = [p.name for p in Checkpoints(tmp_path).found()]
    assert names == ["epoch-0004-batch-00000", "epoch-0003-batch-00000", "epoch-0002-batch-00000"]


def rewritten(path, content: bytes) -> None:
    """The file anew: this name of it, not what other names stand for."""
    path.unlink()
    path.write_bytes(content)


DAMAGES = {
    "half a file": lambda path: os.truncate(path / TENSORS, (path / TENSORS).stat().st_size // 2),
    "a changed byte": lambda path: (path / TENSORS).write_bytes((path / TENSORS).read_bytes()[:-1] + b"?"),
    "no state": lambda path: (path / STATE).unlink(),
    "half a state": lambda path: os.truncate(path / STATE, 50),
    "another state": lambda path: (path / STATE).write_text("[]"),
    "no best weights": lambda path: (path / BEST).unlink(),
    "other best weights": lambda path: rewritten(path / BEST, b"other"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    killed_after(trainer_of(tmp_path), 3 * BATCHES + 1)
    damage(Checkpoints(tmp_path).found()[0])
    again = trainer_of(tmp_path)
    with pytest.warns(UserWarning, match=r"epoch-0003-batch-00000 is damaged \(.*going on from the one before"):
        assert again.resume() == 2
    assert_same_end(fit(again), fit(trainer_of()))


def test_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="resume: no checkpoint in "):
        trainer_of(tmp_path).resume()
    with pytest.raises(ValueError, match="resume needs a folder, or a trainer with a checkpoint_dir"):
        trainer_of().resume()
    fit(trainer_of(tmp_path), epochs=1)
    for path in Checkpoints(tmp_path).found():
        (path / STATE).unlink()
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"),
    ):
        trainer_of(tmp_path).resume()


def test_a_newer_format_is_refused(tmp_path):
    fit(trainer_of(tmp_path), epochs=1)
    state = Checkpoints(tmp_path).found()[0] / STATE
    state.write_text(json.dumps(json.loads(state.read_text()) | {"version": 99}))
    with pytest.raises(ValueError, match="has format 99, written by a newer art_ext; this one reads 1"):
        trainer_of(tmp_path).resume()


OTHERS = {
    "loss": ({"loss": "trades"}, r"loss: 'PGDAT\(.*\)' there, 'TRADES\(beta=6.0\)' here"),
    "steps": ({"steps": 3}, "attack: .*steps=2.* there, .*steps=3.* here"),
    "averaging": ({"averaging": "ema"}, "averaging: "),
    "seed": ({"seed": 1}, "seed: '0' there, '1' here"),
    "optimizer": ({"optimizer": lambda p: Adam(p)}, "optimizer: 'SGD' there, 'Adam' here"),
    "sync_batchnorm": ({"sync_batchnorm": False}, "sync_batchnorm: 'True' there, 'False' here"),
}


@pytest.mark.parametrize("options, said", OTHERS.values(), ids=OTHERS)
def test_another_run_is_refused_and_named(tmp_path, options, said):
    killed_after(trainer_of(tmp_path), BATCHES + 1)
    other = trainer_of(tmp_path, **options)
    other.resume()
    before = copy.deepcopy(other.get_classifier().model.state_dict())
    with pytest.raises(ValueError, match=f"resume: .* is of another run .*{said}"):
        fit(other)
    assert all(torch.equal(before[name], value) for name, value in other.get_classifier().model.state_dict().items())
    assert Checkpoints(tmp_path).found()


@pytest.mark.parametrize(
    "there, refused",
    [({"device": "cuda"}, True), ({"device": "cpu"}, False), ({}, False)],
    ids=["another device", "the same", "of an earlier version"],
)
def test_a_device_of_another_kind_is_refused(tmp_path, there, refused):
    told = pytest.raises(ValueError, match="device: 'cuda' there, 'cpu' here") if refused else nullcontext()
    with told:
        require_same({"seed": "0"} | there, {"seed": "0", "device": "cpu"}, tmp_path)


NUMBERS = {
    "attack that draws": ({}, True, "its network or attack draws random numbers in each of them"),
    "parts": ({"accumulate": 2}, False, "accumulate=2 makes other parts of each batch"),
    "BatchNorm by itself": ({"sync_batchnorm": False}, False, "with sync_batchnorm=False BatchNorm sees the rows"),
    "nothing": ({}, False, None),
}


@pytest.mark.parametrize("options, used, told", NUMBERS.values(), ids=NUMBERS)
def test_another_number_of_processes_is_refused_where_the_result_hangs_on_it(make_run, options, used, told):
    run, tree = make_run(network(), **options), {"foreign_random": [None, None], "foreign_random_used": used}
    match = f"resume: the run had 2 processes, now there are 1; {told}.*: start as many as before"
    with pytest.raises(ValueError, match=match) if told else nullcontext():
        _restore_process_random(run, tree)


class TwoFolders(Processes):
    """Another process that has found nothing to go on from."""

    def gather(self, item):
        return [item, (0, 0)]


def test_processes_that_do_not_share_a_folder_are_told():
    require_same_place(TwoFolders(), Place())
    with pytest.raises(ValueError, match=r"process 0: 3/20, process 1: 0/0\); the folder must be shared by all"):
        require_same_place(TwoFolders(), Place(3, 20))


def test_other_data_are_refused(tmp_path):
    killed_after(trainer_of(tmp_path), BATCHES + 1)
    other = trainer_of(tmp_path)
    other.resume()
    x, y = data()
    with pytest.raises(ValueError, match="batches: "):
        other.fit(x, (y + 1) % 4, validation_data=(x[:10], y[:10]), batch_size=BATCH, nb_epochs=EPOCHS)


def test_an_unfinished_run_is_not_begun_anew_by_mistake(tmp_path):
    killed_after(trainer_of(tmp_path), BATCHES + 1)
    with pytest.raises(FileExistsError, match=r"holds a run that is not finished: trainer.resume"):
        fit(trainer_of(tmp_path))
    assert trainer_of(tmp_path).resume() == 1


def test_a_new_run_may_follow_a_finished_one(tmp_path):
    fit(trainer_of(tmp_path, seed=1), epochs=3)
    fit(trainer_of(tmp_path), epochs=2)
    assert [p.name for p in Checkpoints(tmp_path).found()] == ["epoch-0002-batch-00000", "epoch-0001-batch-00000"]


def test_an_unfinished_run_of_a_newer_version_is_not_removed(tmp_path):
    killed_after(trainer_of(tmp_path), BATCHES + 1)
    state = Checkpoints(tmp_path).found()[0] / STATE
    state.write_text(json.dumps(json.loads(state.read_text()) | {"version": 99}))
    with pytest.raises(ValueError, match="written by a newer art_ext"):
        fit(trainer_of(tmp_path))
    assert state.is_file()


def test_what_was_resumed_into_another_folder_leaves_its_own_checkpoints_there(tmp_path):
    killed_after(trainer_of(tmp_path / "from"), BATCHES + 1)
    fit(trainer_of(tmp_path / "to", seed=1))
    again = trainer_of(tmp_path / "to")
    again.resume(tmp_path / "from")
    killed_after(again, BATCHES + 1)
    assert [p.name for p in Checkpoints(tmp_path / "to").found()] == ["epoch-0002-batch-00000"]
    assert_same_end(fit(resumed(tmp_path / "to")), fit(trainer_of()))


def test_a_run_is_not_resumed_into_the_folder_of_an_unfinished_one(tmp_path):
    for name in ("from", "to"):
        killed_after(trainer_of(tmp_path / name), BATCHES + 1)
    again = trainer_of(tmp_path / "to")
    again.resume(tmp_path / "from")
    with pytest.raises(FileExistsError, match="holds a run that is not finished"):
        fit(again)


def test_checkpoints_after_the_one_gone_on_from_are_of_no_use_any_more(tmp_path):
    killed_after(trainer_of(tmp_path, keep_checkpoints=3), 3 * BATCHES + 1)
    (Checkpoints(tmp_path).found()[0] / TENSORS).unlink()
    with pytest.warns(UserWarning, match="epoch-0003-batch-00000 is damaged"):
        again = resumed(tmp_path, keep_checkpoints=3)
    killed_after(again, 1)
    assert [p.name for p in Checkpoints(tmp_path).found()] == ["epoch-0002-batch-00000", "epoch-0001-batch-00000"]


def test_one_run_in_a_folder_at_a_time(tmp_path):
    code = (
        "from pathlib import Path; from art_ext.engine.checkpoints import only_run_in\n"
        f"with only_run_in(Path({str(tmp_path)!r})): pass"
    )
    with only_run_in(tmp_path):
        other = forking.python("-c", code)
    assert f"another process is training in {tmp_path}; give checkpoint_dir another folder" in other.stderr
    assert forking.python("-c", code).returncode == 0


def test_no_space_left_keeps_what_is_there(tmp_path, monkeypatch):
    trainer = trainer_of(tmp_path)
    real = Checkpoints.write

    def full(self, tree, *args, **options):
        if tree["epoch"] < 3:
            return real(self, tree, *args, **options)
        monkeypatch.setattr("os.fsync", _full_disk)
        try:
            return real(self, tree, *args, **options)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(Checkpoints, "write", full)

    monkeypatch.setattr(Checkpoints, "write", full)
    with pytest.warns(UserWarning, match="checkpoints could not be written .*No space left.*training goes on"):
        fit(trainer)
    monkeypatch.undo()
    left = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert left == ["epoch-0001-batch-00000", "epoch-0002-batch-00000"]
    again = trainer_of(tmp_path)
    assert again.resume() == 2
    assert_same_end(fit(again), trainer)


@pytest.mark.parametrize("gone", [False, True], ids=["not written", "removed"])
def test_checkpoints_have_the_best_weights_where_the_folder_has_not(tmp_path, monkeypatch, gone):
    """The second epoch is the best of four; its file cannot be written before the last epoch."""
    accuracies, write, best = iter([0.2, 0.5, 0.3, 0.3] * 3), checkpoint.save_weights, tmp_path / BEST
    monkeypatch.setattr(Validation, "accuracies", lambda self, model: (0.9, next(accuracies)))

    def failing(network, path, *weights):
        if path == best and not gone:
            raise OSError(28, "No space left on device")
        write(network, path, *weights)
        if path == best:
            path.unlink()

    monkeypatch.setattr(keeper, "save_weights", failing)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*best.safetensors could not be written")
        killed_after(trainer_of(tmp_path), 3 * BATCHES + 1)
    assert [p.name for p in Checkpoints(tmp_path).found()] == ["epoch-0003-batch-00000", "epoch-0002-batch-00000"]
    assert not best.exists()
    monkeypatch.undo()
    monkeypatch.setattr(Validation, "accuracies", lambda self, model: (0.9, 0.3))
    again = fit(resumed(tmp_path))
    found = load_file(best)
    assert again.history.best("robust")["epoch"] == 2
    assert all(torch.equal(found[name], value) for name, value in again.best.items())


def test_best_weights_that_could_not_be_written_are_written_in_a_later_epoch(tmp_path, monkeypatch):
    accuracies, write, tries = iter([0.5, 0.3, 0.3, 0.3]), checkpoint.save_weights, []
    monkeypatch.setattr(Validation, "accuracies", lambda self, model: (0.9, next(accuracies)))

    def failing_once(network, path, *weights):
        tries.append(path.name)
        if path.name == BEST and tries.count(BEST) == 1 and path.parent == tmp_path:
            raise OSError(28, "No space left on device")
        write(network, path, *weights)

    monkeypatch.setattr(keeper, "save_weights", failing_once)
    with pytest.warns(UserWarning, match="best.safetensors could not be written"):
        trainer = fit(trainer_of(tmp_path))
    found = load_file(tmp_path / BEST)
    assert all(torch.equal(found[name], value) for name, value in trainer.best.items())


def _full_disk(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_saves_at_once_and_says_how_to_go_on(tmp_path, number, capsys):
    trainer, seen = trainer_of(tmp_path), []
    attack = trainer.attack

    def signalled(*args):
        seen.append(True)
        if len(seen) == BATCHES + 2:
            signal.raise_signal(number)
        return attack(*args)

    attacking_by(trainer, signalled)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
        fit(trainer)
    assert signal.getsignal(number) is before
    said = capsys.readouterr().err
    assert "stopping after this batch" in said
    assert f"stopped after 1 epochs and 2 batches; trainer.resume({str(tmp_path)!r}) before fit goes on" in said
    again = trainer_of(tmp_path)
    assert again.resume() == 1
    assert_same_end(fit(again), fit(trainer_of()))


def test_a_second_signal_stops_at_once(tmp_path):
    trainer = trainer_of(tmp_path)

    def insistent(*_):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    trainer.attack = insistent
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert not Checkpoints(tmp_path).found()


def test_without_a_folder_signals_are_left_alone():
    trainer, handlers = trainer_of(), []
    attack = trainer.attack

    def watching(*args):
        handlers.append(signal.getsignal(signal.SIGINT))
        return attack(*args)

    trainer.attack = watching
    fit(trainer, epochs=1)
    assert set(handlers) == {signal.getsignal(signal.SIGINT)}


def test_what_cannot_be_kept_without_pickle_is_a_warning(tmp_path):
    trainer = trainer_of(tmp_path)
    trainer.averaging.state_dict = lambda: {"thing": object()}
    with pytest.warns(UserWarning, match="averaging/thing is a object, which a checkpoint cannot hold without pickle"):
        fit(trainer, epochs=1)


def test_checkpoints_in_bf16_with_a_twin(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        killed_after(trainer_of(tmp_path, precision="bf16", checkpoint_every=1), 6)
        again = trainer_of(tmp_path, precision="bf16")
        again.resume()
        assert_same_end(fit(again), fit(trainer_of(precision="bf16")))
