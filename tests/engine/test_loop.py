"""The training loop: what it costs, what it leaves behind, what it keeps when something goes wrong."""

import copy
import errno
import json
import math
import random
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from art_ext.attacks.objectives import get_objective
from art_ext.averaging import EMA, Averaging, snapshot
from art_ext.engine import History, NonFiniteLossError, checkpoint, meter, precision
from art_ext.engine.checkpoint import load_weights
from art_ext.engine.validation import Validation
from art_ext.losses import LOSSES, Loss
from art_ext.model import evaluating
from art_ext.processes import Processes

BATCHES = 2  # in an epoch: 16 images in batches of 8
SAMPLES = {"adv": [8], "joint": [16], "separate": [8, 8]}  # of the loss's own forwards


def unattacked(model, x, y, generator):
    return x


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert torch.equal(value, expected[name]), name


def assert_differs(state, other):
    """By more than the order of a sum does."""
    assert max((value - other[name]).abs().max() for name, value in state.items()) > 1e-4


# ---- cost -----------------------------------------------------------------------------------------------------------


class Cost:
    """Forwards (with their batch sizes) and backwards of a network in train and in eval mode, by hooks."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.forwards: dict[str, list[int]] = {"train": [], "attack": [], "reference": []}
        self.backwards: Counter[str] = Counter()
        self.parameter_gradients: Counter[str] = Counter()
        net.register_forward_hook(self._forward)
        for name, p in net.named_parameters():
            p.register_post_accumulate_grad_hook(lambda _, name=name: self.parameter_gradients.update([name]))

    def _forward(self, net, args, out):
        modes = {m.training for m in net.modules()}
        assert len(modes) == 1, "a part of the network is in another mode than the rest"
        kind = "train" if modes.pop() else "attack" if torch.is_grad_enabled() else "reference"
        self.forwards[kind].append(len(out))
        assert all(p.requires_grad is (kind == "train") or kind == "reference" for p in net.parameters())
        if out.requires_grad:
            out.register_hook(lambda _: self.backwards.update([kind]))


@pytest.mark.parametrize("averaging", [None, "piat", "ema"])
@pytest.mark.parametrize("loss", LOSSES)
def test_budget(make_run, conv_model, loss, averaging):
    """K attack forwards and input-only backwards, one reference forward for KL, the loss's forwards, one backward."""
    epochs, steps, cls = 2, 3, LOSSES[loss]
    n = epochs * BATCHES
    run = make_run(loss=loss, averaging=averaging, steps=steps)
    cost = Cost(conv_model)
    run.train(epochs)
    own = SAMPLES[cls.forwards]
    assert cost.forwards == {
        "attack": [8] * steps * n,
        "reference": [8] * n if get_objective(cls.objective).on_reference else [],
        "train": own * n,
    }
    assert cost.backwards == {"attack": steps * n, "train": len(own) * n}
    assert cost.parameter_gradients == dict.fromkeys(dict(conv_model.named_parameters()), n)


def test_recalibration_is_one_forward_of_each_batch_with_batchnorm_alone_in_train_mode(make_run):
    seen = []

    class Recalibrating(Averaging):
        def after_epoch(self, epoch, epochs, recalibrate):
            self.network.register_forward_hook(
                lambda net, args, out: seen.append((len(out), out.requires_grad, [type(m) for m in net if m.training]))
            )
            recalibrate(self.network)
            return {}

    make_run(averaging=Recalibrating()).train(1)
    assert seen == [(8, False, [nn.BatchNorm2d])] * BATCHES


@pytest.mark.parametrize("averaging", [None, "piat"])
@pytest.mark.parametrize("loss", ["pgd-at", "nmse", "trades"])
def test_no_value_leaves_the_device_inside_the_batch_loop(make_run, monkeypatch, loss, averaging):
    """The attack has a test of its own."""
    run = make_run(loss=loss, averaging=averaging, attack=unattacked)
    inside, step = [], type(run)._step

    def watched(*args):
        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__"):
                patch.setattr(torch.Tensor, name, _refuse(name))
            step(*args)
        inside.append(True)

    monkeypatch.setattr(type(run), "_step", watched)
    monkeypatch.setattr(meter, "READ_EVERY", math.inf)
    run.train(1)
    assert len(inside) == BATCHES


def _refuse(name):
    def refuse(self, *args, **kwargs):
        pytest.fail(f"Tensor.{name} was called")

    return refuse


# ---- gradients ------------------------------------------------------------------------------------------------------


def trained(make_run, net, epochs=2, **arguments):
    """The state dict after a run on a copy of the network."""
    run = make_run(net=copy.deepcopy(net), **arguments)
    run.train(epochs)
    return run.task.model.network.state_dict()


def test_gradients_from_before_the_run_do_not_count(make_run, conv_model, images):
    expected = trained(make_run, conv_model)
    run = make_run()
    conv_model(images[0]).sum().backward()
    run.train(2)
    assert_same(conv_model.state_dict(), expected)


def test_gradients_that_an_attack_leaves_do_not_count(make_run, conv_model):
    def careless(model, x, y, generator):
        with evaluating(model):
            nn.functional.cross_entropy(model(x), y).backward()
        return x

    assert_same(
        trained(make_run, conv_model, attack=careless),
        trained(make_run, conv_model, attack=unattacked),
    )


def test_weights_that_the_optimizer_does_not_hold(make_run, conv_model):
    """Their gradients neither pile up from batch to batch nor stay behind."""
    first = conv_model[0].weight
    norms = []

    def head(parameters):
        sgd = SGD(conv_model[-1].parameters(), lr=0.0)
        sgd.register_step_pre_hook(lambda *_: norms.append(first.grad.norm().item()))
        return sgd

    conv_model[1].momentum = 0.0
    make_run(optimizer=head, attack=unattacked, batch_size=16).train(3)
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)
    assert all(p.grad is None for p in conv_model.parameters())


@pytest.mark.parametrize("clip", [None, 0.05, 1e6])
def test_clipping_bounds_the_norm_of_all_gradients_together(make_run, conv_model, clip):
    norms = []

    def watched(parameters):
        sgd = SGD(conv_model.parameters(), lr=0.1)
        sgd.register_step_pre_hook(
            lambda *_: norms.append(torch.stack([p.grad.norm() for p in conv_model.parameters()]).norm().item())
        )
        return sgd

    make_run(optimizer=watched, grad_clip=clip).train(2)
    assert len(norms) == 2 * BATCHES
    if clip == 0.05:
        assert norms == pytest.approx([clip] * len(norms), rel=1e-3)
    else:
        assert min(norms) > 0.1


# ---- randomness -----------------------------------------------------------------------------------------------------


@pytest.fixture
def dropping(conv_model) -> nn.Module:
    return nn.Sequential(*conv_model[:-1], nn.Dropout(0.3), conv_model[-1])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make_run, dropping):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(states))  # the process's own seed has no say
        states.append(trained(make_run, dropping, augment="crop-flip", loss="trades", seed=seed))
    assert_same(states[0], states[1])
    assert_differs(states[0], states[2])


RANDOM = {
    "order": {"attack": unattacked},
    "attack": {"shuffle": False},
    "augmentation": {"shuffle": False, "attack": unattacked, "augment": "crop-flip"},
}


@pytest.mark.parametrize("arguments", RANDOM.values(), ids=RANDOM)
def test_everything_random_hangs_on_the_seed(make_run, conv_model, arguments):
    first, again, other = (trained(make_run, conv_model, 1, seed=seed, **arguments) for seed in (1, 1, 2))
    assert_same(first, again)
    assert_differs(first, other)


def test_dropout_hangs_on_the_seed(make_run, dropping):
    fixed = {"shuffle": False, "attack": unattacked}
    first, again, other = (trained(make_run, dropping, 1, seed=seed, **fixed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert_differs(first, other)


def test_the_process_s_random_state_is_left_alone(make_run, dropping):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    make_run(net=dropping, augment="crop-flip", averaging="swa").train(2)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


# ---- what a run reports ---------------------------------------------------------------------------------------------


class Recorder(Averaging):
    """Averages nothing; remembers the weights after each epoch."""

    def start(self, network):
        super().start(network)
        self.states = [snapshot(network)]

    def after_epoch(self, epoch, epochs, recalibrate):
        self.states.append(snapshot(self.network))
        return {"recorded": float(epoch)}


def halving(sgd):
    return LambdaLR(sgd, lambda n: 0.5**n)


def test_history(make_run, images):
    outputs = []

    def recorded(logits, logits_adv, y):
        loss = nn.functional.cross_entropy(logits_adv, y)
        outputs.append((loss.item(), (logits_adv.argmax(1) == y).float().mean().item()))
        return loss

    run = make_run(loss=recorded, averaging=Recorder(), validation=images, scheduler=halving)
    history = run.train(2)
    assert history is run.history
    assert [set(row) for row in history.rows] == [
        {"epoch", "lr", "loss", "train_robust", "seconds", "images_per_second", "recorded", "clean", "robust"}
    ] * 2
    assert history.column("epoch") == [1, 2]
    assert history.column("lr") == [0.1, 0.05]
    assert history.column("recorded") == [0.0, 1.0]
    by_epoch = np.array(outputs).reshape(2, BATCHES, 2).mean(1)
    assert history.column("loss") == pytest.approx(by_epoch[:, 0].tolist(), rel=1e-6)
    assert history.column("train_robust") == pytest.approx(by_epoch[:, 1].tolist(), rel=1e-6)
    assert all(
        0 <= robust <= clean <= 1 for robust, clean in zip(*map(history.column, ("robust", "clean")), strict=True)
    )


@pytest.mark.parametrize("averaging", ["piat", "ema", "swa"])
def test_validation_judges_what_is_returned(make_run, conv_model, images, monkeypatch, averaging):
    """The average, and not the network that is being trained."""
    judged = []

    def accuracies(self, model):
        with evaluating(model), torch.no_grad():
            judged.append(model(self.x))
        return 0.5, 0.25

    monkeypatch.setattr(Validation, "accuracies", accuracies)
    make_run(averaging=averaging, validation=images).train(2)
    # channels last during the run, contiguous after it: sums in another order
    torch.testing.assert_close(judged[-1], conv_model(images[0]), rtol=0, atol=1e-6)
    assert (judged[-1] - judged[-2]).abs().max() > 1e-3


@dataclass(frozen=True, kw_only=True)
class Told(Loss):
    """Remembers the progress that it is told."""

    seen: list = field(default_factory=list)

    def __call__(self, logits, logits_adv, y, *, progress):
        self.seen.append(progress)
        return nn.functional.cross_entropy(logits_adv, y)


def test_the_loss_knows_how_far_the_training_is(make_run):
    loss = Told()
    make_run(loss=loss).train(4)
    assert loss.seen == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]


@pytest.mark.parametrize("shown", [True, False])
def test_the_bar_is_shown_where_it_is_asked_for(make_run, capsys, shown):
    make_run(progress=shown).train(2)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("epoch 2/2" in err and "4/4" in err) if shown else err == ""


def test_an_ordinary_run_warns_of_nothing(make_run, images, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_run(
            validation=images,
            averaging="swa",
            scheduler=halving,
            augment="crop-flip",
            grad_clip=1.0,
            precision="bf16",
            checkpoint_dir=tmp_path,
        ).train(2)


@pytest.fixture
def unplotted(monkeypatch):
    """Without the picture, which takes most of the time of a tiny run."""
    monkeypatch.setattr(History, "plot", lambda self, path: None)


# ---- the best epoch -------------------------------------------------------------------------------------------------


@pytest.fixture
def scripted(monkeypatch):
    """Robust accuracies that validation will find, one after the other."""

    def script(*accuracies):
        found = iter(accuracies)
        monkeypatch.setattr(Validation, "accuracies", lambda self, model: (0.9, next(found)))

    return script


STOPS = {  # robust accuracies, patience -> epochs done, best epoch
    "never": ([0.1, 0.3, 0.2, 0.2, 0.2], None, 5, 2),
    "after two without a better one": ([0.1, 0.3, 0.2, 0.2, 0.9], 2, 4, 2),
    "as good is not better": ([0.3, 0.3, 0.3, 0.9, 0.9], 2, 3, 1),
    "patience begins anew": ([0.1, 0.05, 0.2, 0.1, 0.3], 2, 5, 5),
    "patience of one": ([0.3, 0.2, 0.9, 0.9, 0.9], 1, 2, 1),
}


@pytest.mark.parametrize("accuracies, patience, done, best", STOPS.values(), ids=STOPS)
def test_early_stopping(make_run, conv_model, images, scripted, accuracies, patience, done, best):
    scripted(*accuracies)
    run = make_run(averaging=Recorder(), validation=images, early_stopping=patience)
    history = run.train(5)
    states = run.task.averaging.states
    assert history.column("robust") == accuracies[:done]
    assert history.best("robust")["epoch"] == best
    assert_same(run.best, states[best])
    assert_same(conv_model.state_dict(), states[best if patience else done])


@pytest.mark.parametrize("restore_best, ends_with", [(None, 3), (False, 3), (True, 1)])
def test_restore_best(make_run, conv_model, images, scripted, restore_best, ends_with):
    scripted(0.3, 0.2, 0.1)
    run = make_run(averaging=Recorder(), validation=images, restore_best=restore_best)
    run.train(3)
    assert_same(conv_model.state_dict(), run.task.averaging.states[ends_with])
    assert_differs(conv_model.state_dict(), run.task.averaging.states[4 - ends_with])


def test_without_validation_there_is_no_best(make_run):
    run = make_run()
    run.train(1)
    assert run.best is None


# ---- files ----------------------------------------------------------------------------------------------------------


def test_files_of_a_run(make_run, conv_model, images, scripted, tmp_path):
    scripted(0.1, 0.3, 0.2)
    fresh, folder = copy.deepcopy(conv_model), tmp_path / "runs" / "1"
    run = make_run(averaging=Recorder(), validation=images, checkpoint_dir=folder)
    run.train(3)
    files = {p.name for p in folder.iterdir()}
    assert files == {"last.safetensors", "best.safetensors", "history.jsonl", "curves.png", "checkpoints", ".lock"}
    load_weights(fresh, folder / "last.safetensors")
    assert torch.equal(fresh(images[0]), conv_model(images[0]))
    load_weights(fresh, folder / "best.safetensors")
    assert_same(fresh.state_dict(), run.task.averaging.states[2])
    assert [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()] == run.history.rows
    with Image.open(folder / "curves.png") as picture:
        picture.load()
        assert picture.format == "PNG"


@pytest.mark.usefixtures("unplotted")
def test_files_are_there_after_every_epoch(make_run, conv_model, tmp_path):
    class Looking(Recorder):
        def after_epoch(self, epoch, epochs, recalibrate):
            if epoch:
                fresh = copy.deepcopy(self.network)
                load_weights(fresh, tmp_path / "last.safetensors")
                assert_same(fresh.state_dict(), self.states[-1])
                assert len((tmp_path / "history.jsonl").read_text().splitlines()) == epoch
            return super().after_epoch(epoch, epochs, recalibrate)

    make_run(averaging=Looking(), checkpoint_dir=tmp_path).train(3)


def test_without_a_folder_nothing_is_written(make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run().train(1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_training(make_run, conv_model, tmp_path):
    (tmp_path / "runs").write_text("in the way")
    before = snapshot(conv_model)
    with pytest.raises(OSError, match=r"checkpoint_dir .*runs cannot be written"):
        make_run(checkpoint_dir=tmp_path / "runs")
    assert_same(conv_model.state_dict(), before)


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


FULL = {  # what fails from the second epoch on -> the files that are told of
    "weights": (lambda patch: patch.setattr(checkpoint, "save_model", full_disk), {"last.safetensors"}),
    "everything": (
        lambda patch: patch.setattr("os.replace", full_disk),
        {"last.safetensors", "history.jsonl", "curves.png", "checkpoints"},
    ),
}


@pytest.mark.parametrize("fill, told", FULL.values(), ids=FULL)
def test_a_disk_that_fills_up_is_a_warning(make_run, conv_model, tmp_path, monkeypatch, fill, told):
    class Filling(Recorder):
        def after_epoch(self, epoch, epochs, recalibrate):
            if epoch == 1:
                fill(monkeypatch)
            return super().after_epoch(epoch, epochs, recalibrate)

    fresh = copy.deepcopy(conv_model)
    run = make_run(averaging=Filling(), checkpoint_dir=tmp_path)
    with pytest.warns(UserWarning, match="No space left on device.*; training goes on") as caught:
        run.train(2)
    assert {Path(str(w.message).split(" could not be written")[0]).name for w in caught} == told
    assert len(run.history) == 2
    assert_same(conv_model.state_dict(), run.task.averaging.states[2])
    load_weights(fresh, tmp_path / "last.safetensors")
    assert_same(fresh.state_dict(), run.task.averaging.states[1])
    assert not [p for p in tmp_path.iterdir() if "tmp" in p.name]


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def spoilt(when: int, value: float):
    """Cross entropy, but ``value`` at that call (from 0)."""
    calls = []

    def loss(logits, logits_adv, y):
        calls.append(1)
        return nn.functional.cross_entropy(logits_adv, y) * (value if len(calls) == when + 1 else 1.0)

    return loss


NAN = {  # call, value -> what the message says, epochs that count
    "first batch": (0, math.nan, "loss is nan at epoch 1, batch 1", 0),
    "first epoch": (1, math.nan, "loss is nan at epoch 1, batch 2", 0),
    "second epoch": (2, math.nan, "loss is nan at epoch 2, batch 1", 1),
    "infinite": (5, math.inf, "loss is inf at epoch 3, batch 2", 2),
}


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("averaging", [Recorder, lambda: EMA(0.5)], ids=["no averaging", "EMA"])
@pytest.mark.parametrize("when, value, message, good", NAN.values(), ids=NAN)
def test_a_loss_that_is_not_finite(make_run, conv_model, tmp_path, when, value, message, good, averaging):
    fresh, given = copy.deepcopy(conv_model), snapshot(conv_model)
    run = make_run(loss=spoilt(when, value), averaging=averaging(), checkpoint_dir=tmp_path)
    with pytest.raises(NonFiniteLossError, match=rf"{message}, learning rate 0\.1; the weights of the last finished"):
        run.train(4)
    assert len(run.history) == good
    if good:
        load_weights(fresh, tmp_path / "last.safetensors")
        assert_same(conv_model.state_dict(), fresh.state_dict())
        assert_differs(conv_model.state_dict(), given)
    else:
        assert_same(conv_model.state_dict(), given)
        assert not (tmp_path / "last.safetensors").exists()


def test_after_a_nan_the_same_optimizer_trains_on(make_run, conv_model):
    run = make_run(loss=spoilt(3, math.nan))
    with pytest.raises(NonFiniteLossError):
        run.train(3)
    optimizer = run.task.optimizer
    make_run(optimizer=lambda _: optimizer).train(1)
    assert all(bool(p.isfinite().all()) for p in conv_model.parameters())


def test_weights_that_only_the_last_update_spoils(make_run, conv_model, tmp_path):
    """The loss of the epoch's last batch is finite, its gradient is not."""

    def square_root(logits, logits_adv, y):
        return nn.functional.cross_entropy(logits_adv, y) + (0 * logits_adv).sum().sqrt()

    before = snapshot(conv_model)
    run = make_run(loss=square_root, batch_size=16, checkpoint_dir=tmp_path)
    with pytest.raises(NonFiniteLossError, match=r"weights are NaN or infinite after .* epoch 1, learning rate 0\.1"):
        run.train(2)
    assert_same(conv_model.state_dict(), before)
    assert not (tmp_path / "last.safetensors").exists()


def interrupted(when: int):
    """A function that is interrupted at that call (from 0)."""
    calls = []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == when + 1:
            raise KeyboardInterrupt

    return call


PLACES = {  # where the second epoch is interrupted
    "attack": lambda run, net, patch: net.register_forward_hook(_in_eval(interrupted(6))),
    "loss": lambda run, net, patch: net.register_forward_hook(_in_train(interrupted(3))),
    "backward": lambda run, net, patch: net[0].weight.register_hook(interrupted(2)),
    "update": lambda run, net, patch: run.task.optimizer.register_step_pre_hook(interrupted(3)),
    "averaging": lambda run, net, patch: patch.setattr(
        run.task.averaging, "after_epoch", _after(run.task.averaging.after_epoch, interrupted(1))
    ),
    "validation": lambda run, net, patch: patch.setattr(
        Validation, "accuracies", _after(Validation.accuracies, interrupted(1))
    ),
    "checkpoint": lambda run, net, patch: patch.setattr(
        checkpoint, "save_model", _after(checkpoint.save_model, interrupted(2))
    ),
}


def _in_eval(call):
    return lambda net, args, out: None if net.training or not torch.is_grad_enabled() else call()


def _in_train(call):
    return lambda net, args, out: call() if net.training else None


def _after(function, call):
    def wrapped(*args, **kwargs):
        out = function(*args, **kwargs)
        call()
        return out

    return wrapped


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_an_interruption_leaves_everything_in_order(make_run, conv_model, images, tmp_path, monkeypatch, place):
    conv_model[0].bias.requires_grad_(False)
    flags = [p.requires_grad for p in conv_model.parameters()]
    state = torch.get_rng_state()
    recorder = Recorder()
    run = make_run(averaging=recorder, validation=images, checkpoint_dir=tmp_path)
    monkeypatch.setattr(Validation, "accuracies", lambda self, model: (0.9, 0.5))
    place(run, conv_model, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run.train(5)
    assert len(run.history) in (1, 2)
    assert_same(conv_model.state_dict(), recorder.states[len(run.history)])
    assert not any(m.training for m in run.task.model.modules())
    assert [p.requires_grad for p in conv_model.parameters()] == flags
    assert all(p.grad is None for p in conv_model.parameters())
    assert conv_model[0].weight.is_contiguous()
    assert torch.equal(torch.get_rng_state(), state)
    fresh = copy.deepcopy(conv_model)
    load_weights(fresh, tmp_path / "last.safetensors")
    assert_same(fresh.state_dict(), recorder.states[1])
    assert not [p for p in tmp_path.iterdir() if "tmp" in p.name]


def test_an_error_in_the_attack_leaves_everything_in_order(make_run, conv_model):
    def failing(model, x, y, generator):
        raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        make_run(attack=failing).train(1)
    assert not any(m.training for m in conv_model.modules())
    assert conv_model[0].weight.is_contiguous()


# ---- precision, layout, compilation ---------------------------------------------------------------------------------


def watched_loss(seen):
    def loss(logits, logits_adv, y):
        value = nn.functional.cross_entropy(logits_adv, y)
        seen.append((logits.dtype, logits_adv.dtype, value.dtype))
        return value

    return loss


@pytest.mark.parametrize("name, inside", [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_in_bf16_logits_loss_and_weights_stay_float32(make_run, conv_model, images, name, inside):
    losses, layers = [], set()
    conv_model[0].register_forward_hook(lambda module, args, out: layers.add(out.dtype))
    make_run(precision=name, loss=watched_loss(losses), validation=images, averaging="swa").train(1)
    assert layers == {inside}
    assert losses == [(torch.float32,) * 3] * BATCHES
    assert {t.dtype for t in conv_model.state_dict().values() if t.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("native, expected", [(True, "bf16"), (False, "fp32")])
def test_auto_follows_the_hardware(make_run, monkeypatch, native, expected):
    monkeypatch.setattr(precision, "has_bf16", lambda device: native)
    assert make_run(precision="auto").precision == expected


@pytest.mark.parametrize("averaging", [None, "piat", "ema", "swa"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_layout_of_a_run_ends_with_it(make_run, conv_model, images, channels_last, averaging):
    weight, layouts = conv_model[0].weight, set()
    conv_model.register_forward_pre_hook(
        lambda net, args: layouts.add((weight.is_contiguous(), args[0].is_contiguous())) if net.training else None
    )
    run = make_run(channels_last=channels_last, averaging=averaging)
    run.train(1)
    assert layouts == {(not channels_last, not channels_last)}
    assert conv_model[0].weight is weight
    assert all(t.is_contiguous() for t in conv_model.state_dict().values())


def test_a_failing_compiler_only_warns(make_run, conv_model, monkeypatch):
    expected = trained(make_run, conv_model)

    def broken(model, dynamic):
        def fail(x):
            raise RuntimeError("no C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="torch.compile failed, going on without it") as caught:
        assert_same(trained(make_run, conv_model, compile=True), expected)
    assert len(caught) == 1


@pytest.mark.parametrize(
    "rank, count, accumulate, sizes",
    [(0, 1, 1, {8, 16}), (0, 1, 3, {2, 3, 4, 6}), (1, 3, 1, {3, 6}), (0, 2, 2, {2, 4})],
    ids=["alone", "in parts", "of three processes", "both"],
)
def test_what_goes_through_this_process_s_network_is_compiled(make_run, monkeypatch, rank, count, accumulate, sizes):
    monkeypatch.setattr(Processes, "launched", lambda: Processes(rank, count))
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: model)
    assert make_run(compile=True, accumulate=accumulate).plain.model.sizes == sizes


def test_compiled_training_is_the_same_training(make_run, conv_model, monkeypatch):
    """The graph is captured; PyTorch's slow code generator is left out."""
    graphs = []
    compile_ = torch.compile

    def captured(graph, inputs):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", lambda model, dynamic: compile_(model, dynamic=dynamic, backend=captured))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = trained(make_run, conv_model, compile=True)
    assert graphs
    assert_same(state, trained(make_run, conv_model))
