"""`RobustTrainer`: the same training as ART's where they overlap, and what it adds."""

import copy
import warnings

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.data_generators import NumpyDataGenerator, PyTorchDataGenerator
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.defences.trainer import AdversarialTrainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from art_ext.attacks import pgd
from art_ext.averaging import EMA, SWA
from art_ext.engine import History
from art_ext.engine.checkpoint import load_weights
from art_ext.engine.validation import Validation
from art_ext.losses import get_loss
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

EPS, STEP, STEPS = 8 / 255, 2 / 255, 3
THREAT = ThreatModel("linf", EPS)
EXACT = {"precision": "fp32", "channels_last": False, "progress": False}


def train(classifier, data, *, nb_epochs=2, batch_size=8, shuffle=False, fit=(), **options) -> RobustTrainer:
    """A trainer after `fit`, with PGD-3 unless ``options`` say otherwise."""
    trainer = RobustTrainer(classifier, **({"threat": THREAT, "steps": STEPS, "step_size": STEP} | EXACT | options))
    trainer.fit(*data, nb_epochs=nb_epochs, batch_size=batch_size, shuffle=shuffle, **dict(fit))
    return trainer


def without_start(model, x, y):
    return pgd(model, x, y, threat=THREAT, steps=STEPS, step_size=STEP, random_start=False)


def unattacked(model, x, y):
    return x


def assert_same(state, expected, **tolerance):
    assert state.keys() == expected.keys()
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name], **({"rtol": 0, "atol": 0} | tolerance), msg=name)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """20 images: in batches of 8, the last one is incomplete."""
    generator = np.random.default_rng(0)
    return generator.random((20, 3, 8, 8), np.float32), generator.integers(0, 4, 20)


# ---- the same as ART ------------------------------------------------------------------------------------------------


@pytest.fixture
def in_order(monkeypatch):
    """ART shuffles the examples of an epoch, and those of each batch once more."""
    loader = torch.utils.data.DataLoader
    monkeypatch.setattr(np.random, "shuffle", lambda index: None)
    monkeypatch.setattr(torch.utils.data, "DataLoader", lambda **options: loader(**(options | {"shuffle": False})))


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("native", [True, False], ids=["native attack", "ART attack"])
def test_is_art_s_adversarial_trainer_parameter_for_parameter(trainable, conv_model, data, native):
    def attack(classifier):
        options = {"norm": np.inf, "eps": EPS, "eps_step": STEP, "max_iter": STEPS, "batch_size": 8, "verbose": False}
        return ProjectedGradientDescentPyTorch(classifier, **options)

    theirs, ours = (trainable(copy.deepcopy(conv_model)) for _ in range(2))
    given = copy.deepcopy(conv_model.state_dict())
    AdversarialTrainer(theirs, attack(theirs), ratio=1.0).fit(*data, batch_size=8, nb_epochs=4)
    train(ours, data, nb_epochs=4, attack=without_start if native else attack(ours))
    moved = max((value - given[name]).abs().max() for name, value in ours.model.state_dict().items())
    assert moved > 0.05
    # ART projects each perturbation in float64: its last bits differ from ours
    assert_same(ours.model.state_dict(), theirs.model.state_dict(), atol=1e-6)
    np.testing.assert_allclose(ours.predict(data[0]), theirs.predict(data[0]), atol=1e-5)


def test_the_random_start_of_an_art_attack_hangs_on_the_seed(trainable, conv_model, data):
    """ART draws from numpy's global generator, which the caller finds as it was."""
    before, states = np.random.get_state()[1].copy(), []  # noqa: NPY002
    for seed in (1, 1, 2):
        net = copy.deepcopy(conv_model)
        classifier = trainable(net)
        attack = ProjectedGradientDescentPyTorch(
            classifier, eps=EPS, eps_step=STEP, max_iter=1, num_random_init=1, batch_size=20, verbose=False
        )
        train(classifier, data, attack=attack, seed=seed)
        states.append(net.state_dict())
    assert_same(states[0], states[1])
    assert max((states[0][name] - states[2][name]).abs().max() for name in states[0]) > 1e-4
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_batches_come_in_order_without_shuffling_and_in_no_order_with_it(trainable, conv_model, data):
    def seen(shuffle):
        batches = []
        train(trainable(conv_model), data, shuffle=shuffle, attack=lambda m, x, y: batches.append((x, y)) or x)
        return [torch.cat(part) for part in zip(*batches, strict=True)]

    x, y = seen(False)
    np.testing.assert_array_equal(x, np.concatenate([data[0]] * 2))
    np.testing.assert_array_equal(y, np.concatenate([data[1]] * 2))
    shuffled, labels = seen(True)
    index = [int((x[:20] == image).flatten(1).all(1).nonzero()) for image in shuffled]
    assert sorted(index[:20]) == sorted(index[20:]) == list(range(20))
    assert index[:20] != index[20:]
    assert torch.equal(labels, y[index])


# ---- inputs of every kind -------------------------------------------------------------------------------------------


GENERATORS = {
    "NumPy": lambda x, y: NumpyDataGenerator(x, y, batch_size=8, drop_remainder=False),
    "PyTorch": lambda x, y: PyTorchDataGenerator(
        DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), 8), len(x), 8
    ),
}


@pytest.mark.parametrize("one_hot", [False, True], ids=["integers", "one-hot"])
@pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)
def test_a_generator_of_the_same_batches_is_the_same_training(trainable, conv_model, data, generator, one_hot):
    classifiers = [trainable(copy.deepcopy(conv_model)) for _ in range(2)]
    x, y = data
    train(classifiers[0], data, nb_epochs=3, averaging="swa")
    trainer = RobustTrainer(classifiers[1], threat=THREAT, steps=STEPS, step_size=STEP, averaging="swa", **EXACT)
    trainer.fit_generator(generator(x, np.eye(4)[y] if one_hot else y), nb_epochs=3)
    assert_same(classifiers[0].model.state_dict(), classifiers[1].model.state_dict())
    assert len(trainer.history) == 3


def test_the_model_is_tried_once_on_a_few_examples(trainable, conv_model, data):
    """Nothing else is predicted: neither the data set in `fit`, nor every batch of a generator."""
    trials = []
    conv_model.register_forward_hook(
        lambda net, args, out: None if net.training or torch.is_grad_enabled() else trials.append(len(out))
    )
    trainer = train(trainable(conv_model), data)
    assert trials == [8]
    trainer.fit_generator(NumpyDataGenerator(*data, batch_size=5), nb_epochs=2)
    assert trials == [8, 5]


class Halved(PreprocessorPyTorch):
    """x / 2, with a gradient."""

    def __init__(self, apply_fit=True, apply_predict=True):
        super().__init__(device_type="cpu", is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)

    def forward(self, x, y=None):
        return x / 2, y


class Scaled(nn.Module):
    """A network behind (x − mean) / std."""

    def __init__(self, net, mean, std):
        super().__init__()
        self.net, self.mean, self.std = net, mean, std

    def forward(self, x):
        return self.net((x - self.mean) / self.std)


CHANNELS = (np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.25, 0.3], np.float32))
PREPROCESSING = {  # options of the classifier -> the same as a part of the network
    "none": ({"preprocessing": None}, (0.0, 1.0)),
    "ART's default": ({"preprocessing": (0.0, 1.0)}, (0.0, 1.0)),
    "mean and std": ({"preprocessing": (0.5, 0.25)}, (0.5, 0.25)),
    "per channel": ({"preprocessing": CHANNELS}, tuple(torch.from_numpy(v)[:, None, None] for v in CHANNELS)),
    "a PyTorch preprocessor": ({"preprocessing_defences": [Halved()]}, (0.0, 2.0)),
    "both": ({"preprocessing_defences": [Halved()], "preprocessing": (0.25, 0.5)}, (0.5, 1.0)),
}


@pytest.mark.parametrize("options, inside", PREPROCESSING.values(), ids=PREPROCESSING)
def test_preprocessing_is_trained_and_attacked_as_a_part_of_the_network(trainable, conv_model, data, options, inside):
    nets = [copy.deepcopy(conv_model) for _ in range(2)]
    defended, plain = trainable(nets[0], **options), trainable(Scaled(nets[1], *inside))
    train(defended, data, attack=without_start)
    train(plain, data, attack=without_start)
    assert_same(nets[0].state_dict(), nets[1].state_dict(), atol=1e-6)  # (x/2 − m)/s is not (x − 2m)/2s to the last bit
    np.testing.assert_allclose(defended.predict(data[0]), plain.predict(data[0]), atol=1e-5)


APPLIED = {  # apply_fit, apply_predict -> factor in the loss's forward, in the attack's
    "both": (True, True, 0.5, 0.5),
    "training only": (True, False, 0.5, 1.0),
    "prediction only": (False, True, 1.0, 0.5),
}


@pytest.mark.parametrize("fit, predict, in_training, in_attack", APPLIED.values(), ids=APPLIED)
def test_a_preprocessor_acts_where_it_says(trainable, conv_model, images, fit, predict, in_training, in_attack):
    x, y = (t.numpy() for t in images)
    largest = {True: set(), False: set()}
    conv_model.register_forward_pre_hook(lambda net, args: largest[net.training].add(args[0].max().item()))
    train(
        trainable(conv_model, preprocessing_defences=[Halved(fit, predict)]),
        (np.ones_like(x), y),
        attack=lambda model, x, y: (model(x), x)[1],
    )
    assert largest == {True: {in_training}, False: {in_attack}}


@pytest.fixture
def unplotted(monkeypatch):
    """Without the picture, which takes most of the time of a tiny run."""
    monkeypatch.setattr(History, "plot", lambda self, path: None)


NETWORKS = {
    "Sequential": lambda net: net,
    "Module": lambda net: Scaled(net, 0.0, 1.0),
    "DataParallel": nn.DataParallel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
}


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("wrap", NETWORKS.values(), ids=NETWORKS)
def test_any_module_is_trained_alike(trainable, conv_model, data, tmp_path, wrap):
    nets = [copy.deepcopy(conv_model) for _ in range(2)]
    wrapped = wrap(nets[1])
    train(trainable(nets[0]), data)
    train(trainable(wrapped), data, checkpoint_dir=tmp_path)
    assert_same(nets[1].state_dict(), nets[0].state_dict())
    fresh = wrap(copy.deepcopy(conv_model))
    load_weights(fresh, tmp_path / "last.safetensors")
    assert_same(fresh.state_dict(), wrapped.state_dict())


TIMM = {
    "CNN": ("preact_resnet_cifar", (3, 16, 16), {"width": 4, "blocks": 1}),
    "ViT": (
        "vit_tiny_patch16_224",
        (3, 16, 16),
        {"patch_size": 8, "depth": 1, "embed_dim": 12, "num_heads": 2, "drop_path_rate": 0.1},
    ),
}


@pytest.mark.parametrize("name, shape, options", TIMM.values(), ids=TIMM)
def test_timm_models(name, shape, options):
    from art_ext.adapters.timm import timm_classifier

    classifier = timm_classifier(name, num_classes=4, input_shape=shape, device="cpu", **options)
    x = np.random.default_rng(0).random((18, *shape), np.float32)
    y = np.arange(18) % 4
    before = copy.deepcopy(classifier.model.state_dict())
    trainer = train(
        classifier, (x, y), loss="trades", channels_last=True, averaging="ema", augment="crop-flip", grad_clip=1.0
    )
    assert len(trainer.history) == 2
    assert np.isfinite(trainer.predict(x)).all()
    assert all(not m.training for m in classifier.model.modules())
    frozen = [
        n for n, v in classifier.model.state_dict().items() if torch.equal(v, before[n]) and v.is_floating_point()
    ]
    assert not [name for name in frozen if "mean" not in name and "std" not in name]


@pytest.mark.parametrize("norm, eps", [("linf", 0.2), ("l2", 0.3)])
def test_points_without_bounds(trainable, mlp_model, points, norm, eps):
    x, y = (t.numpy() for t in points)
    classifier = trainable(mlp_model, (2,), 2, clip_values=None)
    threat = ThreatModel(norm, eps, clip=None)
    shifted = []

    def attack(model, x, y):
        x_adv = pgd(model, x, y, threat=threat, steps=5)
        shifted.append(threat.distance(x_adv, x).max().item())
        return x_adv

    trainer = train(classifier, (x, y), nb_epochs=20, threat=threat, attack=attack, channels_last=True)
    assert max(shifted) == pytest.approx(eps, rel=1e-5)
    assert trainer.history.rows[-1]["train_robust"] > trainer.history.rows[0]["train_robust"]
    assert trainer.predict(x).shape == (64, 2)


# ---- validation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def validated(monkeypatch):
    """The sets that were validated on, as (x, y)."""
    sets = []
    monkeypatch.setattr(Validation, "accuracies", lambda self, model: (0.5, sets.append((self.x, self.y)) or 0.25))
    return sets


def numbered(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that are filled with their number over n."""
    return np.tile((np.arange(n) / n)[:, None, None, None], (1, 3, 8, 8)).astype(np.float32), np.arange(n) % 4


def numbers(x: torch.Tensor, n: int) -> list[int]:
    return (x[:, 0, 0, 0] * n).round().int().tolist()


def split(classifier, validated, n: int, share: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """The numbers of the images that were trained on, and of those held out."""
    trained = []
    attack = lambda m, x, y: trained.extend(zip(numbers(x, n), y.tolist(), strict=True)) or x  # noqa: E731
    train(classifier, numbered(n), nb_epochs=1, batch_size=2, attack=attack, fit={"validation_split": share}, seed=seed)
    held_out, labels = validated.pop()
    assert all(label == number % 4 for number, label in trained)
    assert labels.tolist() == [number % 4 for number in numbers(held_out, n)]
    return sorted(number for number, _ in trained), numbers(held_out, n)


@pytest.mark.parametrize("n, share, size", [(20, 0.2, 4), (20, 0.5, 10), (20, 0.01, 1), (32, 0.06, 2)])
def test_a_split_is_disjoint_complete_and_of_the_right_size(trainable, linear_model, validated, n, share, size):
    trained, held_out = split(trainable(linear_model), validated, n, share)
    assert len(held_out) == size
    # a single example left over makes no batch
    assert set(trained) | set(held_out) <= set(range(n))
    assert len(trained) == n - size - (n - size) % 2
    assert not set(trained) & set(held_out)


def test_a_split_hangs_on_the_seed(trainable, linear_model, validated):
    first, again, other = (split(trainable(linear_model), validated, 20, 0.4, seed) for seed in (1, 1, 2))
    assert first == again
    assert first[1] != other[1]


def test_validation_data_is_taken_as_it_is(trainable, linear_model, data, images, validated):
    x, y = (t.numpy() for t in images)
    train(trainable(linear_model), data, nb_epochs=1, fit={"validation_data": (x, np.eye(4)[y])})
    assert torch.equal(validated[0][0], images[0])
    assert torch.equal(validated[0][1], images[1])


def test_validation_attacks_as_it_is_told(trainable, conv_model, data, images):
    trainer = train(
        trainable(conv_model),
        data,
        seed=7,
        validation_steps=4,
        batch_size=5,
        fit={"validation_data": tuple(t.numpy() for t in images)},
    )
    expected = Validation(*images, THREAT, 4, 5, 7).accuracies(conv_model)
    assert tuple(trainer.history.rows[-1][name] for name in ("clean", "robust")) == expected


@pytest.mark.usefixtures("unplotted")
def test_best_and_restore(trainable, conv_model, data, tmp_path, monkeypatch):
    robust = iter([0.3, 0.2, 0.1])
    monkeypatch.setattr(Validation, "accuracies", lambda self, model: (0.5, next(robust)))
    trainer = train(trainable(conv_model), data, nb_epochs=3, checkpoint_dir=tmp_path, fit={"validation_split": 0.2})
    last = copy.deepcopy(conv_model.state_dict())
    trainer.restore("best")
    assert_same(conv_model.state_dict(), trainer.best)
    assert not torch.equal(conv_model[-1].weight, last["5.weight"])
    trainer.restore("last")
    assert_same(conv_model.state_dict(), last)
    with pytest.raises(ValueError, match="which must be 'best' or 'last'; got 'first'"):
        trainer.restore("first")


@pytest.mark.usefixtures("unplotted")
def test_nothing_to_restore(trainable, conv_model, data, tmp_path):
    classifier = trainable(conv_model)
    with pytest.raises(ValueError, match="restore needs a trainer with a checkpoint_dir"):
        train(classifier, data).restore()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*best\.safetensors"):
        train(classifier, data, checkpoint_dir=tmp_path).restore()
    assert RobustTrainer(classifier, threat=THREAT).best is None


# ---- averaging ------------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(conv_model):
    """Float64 parameters of the network after each optimizer step, the given ones first."""
    taken = []

    def remember(*_):
        taken.append({name: p.detach().double().clone() for name, p in conv_model.named_parameters()})

    remember()
    return taken, remember


def test_ema_returns_the_average_of_all_steps(trainable, conv_model, data, steps):
    taken, remember = steps
    classifier = trainable(conv_model)
    classifier.optimizer.register_step_post_hook(remember)
    train(classifier, data, averaging=EMA(0.9))
    assert len(taken) == 1 + 2 * 3
    average = taken[0]
    for t, step in enumerate(taken[1:], 1):
        decay = min(0.9, (1 + t) / (10 + t))
        average = {name: decay * average[name] + (1 - decay) * step[name] for name in step}
    _assert_averaged(conv_model, average, taken[-1])


def test_swa_returns_the_mean_of_the_last_epochs_with_statistics_of_its_own(trainable, conv_model, data, steps):
    taken, remember = steps
    classifier = trainable(conv_model)
    classifier.optimizer.register_step_post_hook(remember)
    trainer = train(classifier, data, nb_epochs=4, averaging=SWA(0.5))
    ends = taken[3::3]
    mean = {name: (ends[2][name] + ends[3][name]) / 2 for name in taken[0]}
    _assert_averaged(conv_model, mean, taken[-1])
    assert trainer.history.column("averaged_epochs") == [0, 0, 1, 2]
    _assert_statistics(conv_model, data[0])


def _assert_averaged(network, expected, trained):
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.detach().double(), expected[name], rtol=0, atol=1e-6, msg=name)
    assert max((p - trained[name]).abs().max() for name, p in network.named_parameters()) > 1e-3


def _assert_statistics(network, x):
    """BatchNorm's are the mean over the batches, in order, of the batch's own."""
    with torch.no_grad():
        outputs = [network[0](torch.from_numpy(batch)) for batch in np.split(x, [8, 16])]
    for name, of in (("running_mean", lambda z: z.mean((0, 2, 3))), ("running_var", lambda z: z.var((0, 2, 3)))):
        expected = torch.stack([of(z) for z in outputs]).mean(0)
        torch.testing.assert_close(getattr(network[1], name), expected, rtol=1e-5, atol=1e-6)


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_the_loss_may_be_a_name_an_object_or_a_function(trainable, conv_model, data):
    def squares(logits, logits_adv, y):
        return (logits_adv - logits).square().mean() + nn.functional.cross_entropy(logits_adv, y)

    states = []
    for loss in ("trades", get_loss("trades"), get_loss("trades", beta=1.0), squares):
        net = copy.deepcopy(conv_model)
        train(trainable(net), data, loss=loss)
        states.append(net.state_dict())
    assert_same(states[0], states[1])
    weights = [state["5.weight"] for state in states]
    assert (weights[0] - weights[2]).abs().max() > 1e-4
    assert (weights[2] - weights[3]).abs().max() > 1e-4


def test_the_default_step_size_is_that_of_madry_et_al(trainable, conv_model, data):
    nets = [copy.deepcopy(conv_model) for _ in range(2)]
    train(trainable(nets[0]), data, step_size=None)
    train(trainable(nets[1]), data, step_size=2.5 * EPS / STEPS)
    assert_same(nets[0].state_dict(), nets[1].state_dict())


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_and_weights_have_the_layout_that_was_asked_for(trainable, conv_model, data, channels_last):
    layouts, layout = set(), torch.channels_last if channels_last else torch.contiguous_format

    def look(net, args):
        if net.training:
            layouts.update(t.is_contiguous(memory_format=layout) for t in (args[0], net[0].weight))

    conv_model.register_forward_pre_hook(look)
    train(trainable(conv_model), data, channels_last=channels_last)
    assert layouts == {True}
    assert conv_model[0].weight.is_contiguous()


def test_a_clip_range_that_float32_cannot_hold_fits_itself(trainable, conv_model, data):
    classifier = trainable(conv_model, clip_values=(-2.1, 2.7))
    trainer = train(classifier, data, threat=ThreatModel("linf", 0.1, clip=(-2.1, 2.7)))
    assert len(trainer.history) == 2


def test_a_plain_fit_prints_and_warns_nothing(trainable, conv_model, data, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(trainable(conv_model), data, precision="auto", channels_last=True, fit={"validation_split": 0.2})
    assert capsys.readouterr() == ("", "")


def test_predict_hands_its_arguments_on(trainable, conv_model, data, monkeypatch):
    trainer = RobustTrainer(trainable(conv_model), threat=THREAT)
    np.testing.assert_array_equal(trainer.predict(data[0]), trainer.get_classifier().predict(data[0]))
    monkeypatch.setattr(trainer.get_classifier(), "predict", lambda x, **kwargs: (len(x), kwargs))
    assert trainer.predict(data[0], batch_size=3) == (20, {"batch_size": 3})


TWINS = {  # options -> whether the attack sees a twin of the model
    "native attack in bf16": ({"precision": "bf16"}, True),
    "float32": ({"precision": "fp32"}, False),
    "own attack": ({"precision": "bf16", "attack": lambda model, x, y: x}, False),
}


@pytest.mark.parametrize("options, expected", TWINS.values(), ids=TWINS)
def test_only_the_native_attack_in_bf16_sees_a_twin(trainable, conv_model, images, options, expected):
    x, y = (a.numpy() for a in images)
    trainer = RobustTrainer(trainable(conv_model), threat=THREAT, steps=2, progress=False, **options)
    trainer.fit(x, y, nb_epochs=1, batch_size=8)
    run = trainer._run
    assert (run.twin is not None, run.attacked is not run.net) == (expected, expected)
    assert any(isinstance(m, nn.BatchNorm2d) for m in run.attacked.modules()) is not expected
