"""What ART, and this library, expect of every `Trainer`: a new one enters `TRAINERS`, and passing is the contract."""

import copy
import inspect
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from art.data_generators import NumpyDataGenerator, PyTorchDataGenerator
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.defences.trainer import AdversarialTrainerTRADESPyTorch, Trainer
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

import art_ext.trainers
from art_ext.engine import History
from art_ext.threat import ThreatModel
from art_ext.trainers import INNTrainer, NoisyTrainer, PIATTrainer, RobustTrainer

STEPS, EPOCHS, BATCH = 2, 3, 4
BATCHES = 4  # in an epoch: 17 images, and the last one is left out
OPTIONS = {"threat": ThreatModel("linf", 8 / 255), "progress": False, "precision": "fp32"}


@dataclass(frozen=True)
class Kind:
    """A trainer, made of a classifier and options, and what sets it apart from others.

    attacks: forwards of its inner attack for each batch; in_place: it trains the classifier it was given, else a copy;
    appended: examples that it adds to each batch; random: what it returns answers at random; images: only those.
    """

    make: Callable
    attacks: int = 0
    in_place: bool = True
    appended: int = 0
    random: bool = False
    images: bool = False


TRAINERS = {
    "RobustTrainer": Kind(partial(RobustTrainer, steps=STEPS), attacks=STEPS),
    "PIATTrainer": Kind(partial(PIATTrainer, steps=STEPS), attacks=STEPS),
    "NoisyTrainer": Kind(partial(NoisyTrainer, anneal=None)),
    "INNTrainer": Kind(partial(INNTrainer, snapshots=1), in_place=False, appended=2, random=True, images=True),
}


# it trains no network of the classifier's shape, which the tests below are about: tests/trainers/test_atop.py has its
ELSEWHERE = {"AToPTrainer"}


def test_every_trainer_is_listed():
    public = {name: getattr(art_ext.trainers, name) for name in art_ext.trainers.__all__}
    assert {name for name, what in public.items() if isinstance(what, type) and issubclass(what, Trainer)} == (
        set(TRAINERS) | ELSEWHERE
    )


@pytest.fixture(params=TRAINERS.values(), ids=TRAINERS)
def kind(request):
    return request.param


@pytest.fixture
def build(kind):
    """Makes the trainer under test, quiet and in float32."""
    return lambda classifier, **options: kind.make(classifier, **(OPTIONS | options))


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """17 images: one more than four batches, which BatchNorm cannot train on."""
    generator = np.random.default_rng(0)
    return generator.random((17, 3, 8, 8), np.float32), generator.integers(0, 4, 17)


@pytest.fixture
def fit(build, trainable, data):
    """Trains a network, and returns the trainer."""

    def train(net, *, classifier=None, arguments=(), **options):
        trainer = build(classifier or trainable(net), **options)
        trainer.fit(*data, batch_size=BATCH, nb_epochs=EPOCHS, **dict(arguments))
        return trainer

    return train


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def trained(trainer) -> nn.Module:
    """The network that the trainer changes."""
    return trainer.model.network


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert torch.equal(value, expected[name]), name


def moved(net, before) -> float:
    return max((value - before[name]).abs().max().item() for name, value in net.state_dict().items())


# ---- ART's interface ------------------------------------------------------------------------------------------------


def test_is_a_trainer_of_the_classifier_it_was_given(kind, build, trainable, conv_model):
    classifier = trainable(conv_model)
    trainer = build(classifier)
    assert isinstance(trainer, Trainer)
    assert trainer.classifier is classifier
    assert (trainer.get_classifier() is classifier) is kind.in_place
    assert (trained(trainer) is conv_model) is kind.in_place
    assert (trainer.optimizer is classifier.optimizer) is kind.in_place
    assert classifier.model is conv_model


def test_a_classifier_that_is_not_trained_in_place_stays_as_it_is(kind, fit, trainable, conv_model):
    if kind.in_place:
        pytest.skip("trains in place")
    before, classifier = weights(conv_model), trainable(conv_model)
    state = copy.deepcopy(classifier.optimizer.state_dict())
    trainer = fit(conv_model, classifier=classifier)
    assert_same(weights(conv_model), before)
    assert classifier.optimizer.state_dict() == state
    assert trainer.get_classifier().nb_classes == classifier.nb_classes
    assert not any(m.training for m in (*conv_model.modules(), *trainer.get_classifier().model.modules()))


def test_takes_what_art_s_trainers_take_in_their_order(build, trainable, conv_model):
    trainer = build(trainable(conv_model))
    for method, own in (("fit", trainer.fit), ("fit_generator", trainer.fit_generator)):
        theirs = inspect.signature(getattr(AdversarialTrainerTRADESPyTorch, method)).parameters.values()
        ours = inspect.signature(own).parameters.values()
        positional = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
        expected = [p.name for p in theirs if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
        assert positional == expected
        defaults = {p.name: p.default for p in theirs}
        assert all(p.default == defaults[p.name] for p in ours if p.name in expected)


def test_trains_returns_none_and_predicts(build, trainable, conv_model, data):
    trainer = build(trainable(conv_model))
    before = weights(trained(trainer))
    assert trainer.fit(*data, batch_size=BATCH, nb_epochs=EPOCHS) is None
    assert moved(trained(trainer), before) > 0.01
    assert len(trainer.history) == EPOCHS
    torch.manual_seed(0)
    predictions = trainer.predict(data[0])
    torch.manual_seed(0)
    np.testing.assert_array_equal(predictions, trainer.get_classifier().predict(data[0]))
    assert predictions.shape == (17, 4)


LABELS = {
    "int32": lambda y: y.astype(np.int32),
    "one-hot": lambda y: np.eye(4, dtype=np.float32)[y],
    "one-hot, float64": lambda y: np.eye(4)[y],
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_any_form_are_the_same_training(fit, build, trainable, conv_model, data, labels):
    other = build(trainable(copy.deepcopy(conv_model)))
    other.fit(data[0], labels(data[1]), batch_size=BATCH, nb_epochs=EPOCHS)
    assert_same(weights(trained(other)), weights(trained(fit(conv_model))))


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_users_arrays_are_not_modified(build, trainable, conv_model, data, channels_last):
    def in_place(x, generator):
        return x.mul_(0.5)

    given = [a.copy() for a in data]
    build(trainable(conv_model), augment=in_place, channels_last=channels_last).fit(
        *data, validation_data=data, batch_size=17, nb_epochs=1, shuffle=False
    )
    for array, copied in zip(data, given, strict=True):
        np.testing.assert_array_equal(array, copied)


def of_loader(x, y):
    return PyTorchDataGenerator(
        DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), BATCH), len(x), BATCH
    )


GENERATORS = {
    "PyTorch": of_loader,
    "PyTorch, one-hot": lambda x, y: of_loader(x, np.eye(4)[y]),
    "NumPy": lambda x, y: NumpyDataGenerator(x, y, BATCH),
    "NumPy, shuffled": lambda x, y: NumpyDataGenerator(x, y, BATCH, shuffle=True),
    "NumPy, whole": lambda x, y: NumpyDataGenerator(x, y, BATCH, drop_remainder=False),
}


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_generators(build, trainable, conv_model, data, make):
    trainer, steps = build(trainable(conv_model)), []
    before = weights(trained(trainer))
    trainer.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    assert trainer.fit_generator(make(*data), nb_epochs=EPOCHS) is None
    assert len(steps) == EPOCHS * BATCHES
    assert len(trainer.history) == EPOCHS
    assert moved(trained(trainer), before) > 0.01
    assert not any(m.training for m in trained(trainer).modules())


def test_learns_something_easy(kind, build, trainable, points, mlp_model):
    if kind.images:
        pytest.skip("takes images only")
    x, y = (t.numpy() for t in points)
    trainer = build(trainable(mlp_model, (2,), 2, clip_values=None), threat=ThreatModel("l2", 0.05, clip=None))
    trainer.fit(x, y, nb_epochs=40, batch_size=16)
    assert (trainer.predict(x).argmax(1) == y).mean() > 0.9
    assert trainer.history.rows[-1]["train_robust"] > 0.8


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_without_an_optimizer(fit, trainable, conv_model):
    with pytest.raises(ValueError, match="the classifier has no optimizer"):
        fit(conv_model, classifier=trainable(conv_model, optimizer=None))


def test_of_something_else_than_a_classifier(build, conv_model):
    with pytest.raises(TypeError, match=r"classifier must be an art\..*PyTorchClassifier; got Sequential"):
        build(conv_model)


def test_with_unknown_arguments(fit, conv_model):
    with pytest.raises(TypeError, match="unknown option 'verbosity'"):
        fit(conv_model, verbosity=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'verbose'"):
        fit(conv_model, arguments={"verbose": True})


# ---- what it does to the network ------------------------------------------------------------------------------------


class Watch:
    """How the network was run: (in train mode, gradients of its weights wanted, batch size), and each backward."""

    def __init__(self, net: nn.Module) -> None:
        self.forwards, self.weight_gradients = [], []
        net.register_forward_hook(self._forward)
        next(net.parameters()).register_post_accumulate_grad_hook(self.weight_gradients.append)

    def _forward(self, net, args, out):
        training = {m.training for m in net.modules()}
        wanted = {p.requires_grad for p in net.parameters()}
        assert len(training) == len(wanted) == 1
        if torch.is_grad_enabled():
            self.forwards.append((*training, *wanted, len(out)))


def test_attacks_in_eval_mode_and_on_the_input_only(kind, build, trainable, conv_model, data):
    trainer = build(trainable(conv_model))
    watch = Watch(trained(trainer))
    trainer.fit(*data, batch_size=BATCH, nb_epochs=EPOCHS)
    attacks = [forward for forward in watch.forwards if not forward[0]]
    losses = [forward for forward in watch.forwards if forward[0]]
    assert attacks == [(False, False, BATCH)] * kind.attacks * EPOCHS * BATCHES
    assert {(training, wanted) for training, wanted, _ in losses} == {(True, True)}
    batch = BATCH + kind.appended
    assert sum(n for *_, n in losses) in (EPOCHS * BATCHES * batch, 2 * EPOCHS * BATCHES * batch)
    assert len(watch.weight_gradients) == EPOCHS * BATCHES


def test_batchnorm_statistics_move_and_the_network_is_left_in_eval_mode(fit, conv_model):
    before = weights(conv_model[1])
    net = trained(fit(conv_model.train()))
    assert (net[1].running_mean - before["running_mean"]).abs().max() > 1e-3
    assert (net[1].running_var - before["running_var"]).abs().max() > 1e-3
    assert not any(m.training for m in net.modules())


def test_no_gradient_is_left_and_frozen_weights_stay_frozen(fit, conv_model):
    conv_model[0].weight.requires_grad_(False)
    before = conv_model[0].weight.clone()
    net = trained(fit(conv_model))
    assert torch.equal(net[0].weight, before)
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * 5
    assert all(p.grad is None for p in net.parameters())


FAILS = {"attack": False, "loss": True}


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["error", "interruption"])
@pytest.mark.parametrize("training", FAILS.values(), ids=FAILS)
def test_an_exception_leaves_everything_in_order(kind, build, trainable, conv_model, data, training, error):
    if not training and not kind.attacks:
        pytest.skip("has no inner attack")
    conv_model[0].weight.requires_grad_(False)
    trainer, state, runs = build(trainable(conv_model)), torch.get_rng_state(), []
    net = trained(trainer)

    def fail(net, args, out):
        runs.append(net.training)
        if len(runs) > 7 and net.training is training and torch.is_grad_enabled():
            raise error

    net.register_forward_hook(fail)
    with pytest.raises(type(error)):
        trainer.fit(*data, batch_size=BATCH, nb_epochs=EPOCHS)
    assert len(runs) > 7
    assert not any(m.training for m in net.modules())
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * 5
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert net[0].weight.is_contiguous()


def test_the_optimizer_takes_one_step_for_each_batch(fit, trainable, conv_model):
    given = torch.optim.Adam(conv_model.parameters(), lr=1e-3)
    adam = fit(conv_model, classifier=trainable(conv_model, optimizer=given)).optimizer
    assert {int(state["step"]) for state in adam.state.values()} == {EPOCHS * BATCHES}
    assert len(adam.state) == len(list(conv_model.parameters()))


SCHEDULES = {  # scheduler of an optimizer, unit -> learning rate of each batch, relative to 0.1
    "LambdaLR": (lambda o: LambdaLR(o, lambda n: 0.5**n), "auto", [1.0] * 4 + [0.5] * 4 + [0.25] * 4),
    "LambdaLR per batch": (lambda o: LambdaLR(o, lambda n: 0.5**n), "batch", [0.5**n for n in range(12)]),
    "MultiStepLR": (lambda o: MultiStepLR(o, [2], 0.1), "epoch", [1.0] * 8 + [0.1] * 4),
    "OneCycleLR": (
        lambda o: OneCycleLR(o, 0.1, 12, pct_start=0.5, anneal_strategy="linear", div_factor=10, final_div_factor=1),
        "auto",
        [0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1],
    ),
    "ReduceLROnPlateau": (
        lambda o: ReduceLROnPlateau(o, "max", factor=0.1, patience=0, threshold=10.0),
        "auto",
        [1.0] * 8 + [0.1] * 4,
    ),
}


@pytest.mark.parametrize("make, unit, expected", SCHEDULES.values(), ids=SCHEDULES)
def test_schedulers_step_per_declared_unit(build, trainable, conv_model, data, make, unit, expected):
    trainer, rates = build(trainable(conv_model)), []
    optimizer = trainer.optimizer
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    arguments = {"scheduler": make(optimizer), "scheduler_step": unit, "validation_data": data}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch's about the order of steps, above all
        trainer.fit(*data, batch_size=BATCH, nb_epochs=EPOCHS, **arguments)
    assert rates == pytest.approx([0.1 * rate for rate in expected])
    assert trainer.history.column("lr") == rates[::BATCHES]


# ---- networks and preprocessing -------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def of_timm(name, **options):
    from art_ext.adapters.timm import timm_classifier

    return timm_classifier(name, num_classes=4, input_shape=(3, 8, 8), device="cpu", **options)


CLASSIFIERS = {
    "Sequential": lambda make, net: make(net),
    "Module": lambda make, net: make(Wrapped(net)),
    "DataParallel": lambda make, net: make(nn.DataParallel(net)),
    "mean and std": lambda make, net: make(net, preprocessing=(0.5, 0.25)),
    "ART's default preprocessing": lambda make, net: make(net, preprocessing=(0.0, 1.0)),
    "a PyTorch preprocessor": lambda make, net: make(net, preprocessing_defences=[Squared()]),
    "timm CNN": lambda make, net: of_timm("preact_resnet_cifar", width=4, blocks=1),
    "timm ViT": lambda make, net: of_timm(
        "vit_tiny_patch16_224", patch_size=4, depth=1, embed_dim=12, num_heads=2, drop_path_rate=0.1
    ),
}


class Squared(PreprocessorPyTorch):
    def __init__(self):
        super().__init__(device_type="cpu", is_fitted=True)

    def forward(self, x, y=None):
        return x.square(), y


@pytest.mark.parametrize("make", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_any_classifier(build, trainable, conv_model, data, make):
    trainer = build(make(trainable, conv_model))
    before = weights(trained(trainer))
    trainer.fit(*data, batch_size=BATCH, nb_epochs=EPOCHS)
    assert moved(trained(trainer), before) > 1e-3
    assert np.isfinite(trainer.predict(data[0])).all()


def test_a_compiler_that_works(fit, conv_model, monkeypatch):
    """Graphs are captured as for any backend; PyTorch's slow code generator is left out."""
    other, compile_, graphs = fit(copy.deepcopy(conv_model)), torch.compile, []

    def captured(graph, inputs):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", lambda model, dynamic: compile_(model, dynamic=dynamic, backend=captured))
    trainer = fit(conv_model, compile=True)
    assert graphs
    assert_same(weights(trained(trainer)), weights(trained(other)))


def test_a_compiler_that_fails_is_told_of_and_done_without(fit, conv_model, monkeypatch):
    def fail(x):
        raise RuntimeError("no C++ compiler")

    other = fit(copy.deepcopy(conv_model))
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: fail)
    with pytest.warns(UserWarning, match="torch.compile failed, going on without it: RuntimeError: no C"):
        trainer = fit(conv_model, compile=True)
    assert_same(weights(trained(trainer)), weights(trained(other)))


# ---- randomness, output, files --------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(fit, conv_model):
    net = nn.Sequential(*conv_model[:-1], nn.Dropout(0.3), conv_model[-1])
    states = []
    for seed in (1, 1, 2):
        other = copy.deepcopy(net)
        torch.manual_seed(len(states))  # the process's own seeds have no say
        np.random.seed(len(states))  # noqa: NPY002
        trainer = fit(other, seed=seed, augment="crop-flip", arguments={"validation_split": 0.25})
        states.append(weights(trained(trainer)))
    assert_same(states[0], states[1])
    assert max((states[0][name] - states[2][name]).abs().max() for name in states[0]) > 1e-3


def test_the_process_s_random_state_is_left_alone(fit, conv_model):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    fit(conv_model, augment="crop-flip", arguments={"validation_split": 0.25})
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_a_plain_fit_prints_warns_and_writes_nothing(fit, conv_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("art.config.ART_DATA_PATH", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(conv_model, precision="auto", arguments={"validation_split": 0.25})
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_writes_into_the_folder_it_is_given(fit, conv_model, tmp_path, monkeypatch):
    monkeypatch.setattr(History, "plot", lambda self, path: path.write_bytes(b"picture"))
    trainer = fit(conv_model, checkpoint_dir=tmp_path / "run", arguments={"validation_split": 0.25})
    names = {"last.safetensors", "best.safetensors", "history.jsonl", "curves.png", "checkpoints"}
    assert names <= {p.name for p in (tmp_path / "run").iterdir()} <= names | {".lock", "snapshots"}
    trainer.restore("best")
    assert_same(trainer.best, weights(trained(trainer)))


def test_in_bf16_the_weights_stay_float32(fit, conv_model, data):
    dtypes = set()
    conv_model[0].register_forward_hook(lambda module, args, out: dtypes.add(out.dtype) if module.training else None)
    trainer = fit(conv_model, precision="bf16")
    assert dtypes == {torch.bfloat16}
    assert {v.dtype for v in trained(trainer).state_dict().values() if v.is_floating_point()} == {torch.float32}
    assert np.isfinite(trainer.history.column("loss")).all()
    assert trainer.predict(data[0]).dtype == np.float32
