"""AToPTrainer: what it minimises and attacks, what it leaves alone, how it goes on, and what it refuses."""

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
from torch import nn

from art_ext import AToPTrainer, DefendedModel, PurifierPreprocessor, ThreatModel
from art_ext.attacks import pgd
from art_ext.engine import History
from art_ext.nn.masking import Masking
from art_ext.nn.purifiers import UNet
from art_ext.trainers.gan_health import GANHealth
from art_ext.trainers.purifying import PurificationLoss, Purified

THREAT = ThreatModel("linf", 8 / 255)
OPTIONS: dict[str, Any] = {
    "threat": THREAT,
    "purifier_options": {"width": 4, "levels": 1},
    "transform_options": {"grid": 4},
    "discriminator_options": {"width": 4, "layers": 2},
    "progress": False,
    "precision": "fp32",
}


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch, request):
    monkeypatch.setattr(History, "plot", lambda self, path: None)
    if "picture" not in request.node.name:
        monkeypatch.setattr("art_ext.trainers.atop.save", lambda shown, path: None)


@pytest.fixture
def arrays(images):
    return tuple(t.numpy() for t in images)


@pytest.fixture
def build(trainable, conv_model):
    """Makes a trainer of a small purifier in front of the network with BatchNorm."""

    def make(**options) -> AToPTrainer:
        return AToPTrainer(trainable(conv_model), **(OPTIONS | options))

    return make


def trained(trainer, arrays, *, early=1, epochs=2) -> AToPTrainer:
    if early:
        trainer.pretrain(arrays[0], nb_epochs=early, batch_size=8)
    trainer.fit(*arrays, nb_epochs=epochs, batch_size=8)
    return trainer


def state(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def differs(one, other) -> bool:
    return any(not torch.equal(value, other[name]) for name, value in one.items())


# ---- the loss -------------------------------------------------------------------------------------------------------


@pytest.fixture
def outputs():
    """Images, and what a model of float64 might make of them."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = random(4, 3, 8, 8).sigmoid()
    scores = (random(4, 1, 2, 2) for _ in range(3))
    return x, torch.tensor([0, 1, 2, 3]), Purified(random(4, 4), random(4, 3, 8, 8).sigmoid(), *scores)


@pytest.mark.parametrize("weight, gan_weight", [(0.05, 1.0), (0.0, 1.0), (2.0, 0.0)], ids=repr)
def test_loss_against_numpy(outputs, weight, gan_weight):
    x, y, out = outputs
    loss = PurificationLoss(weight=weight, gan_weight=gan_weight).compute(lambda *_: out, x, x, y)
    logits, image, real, fake, fooled = (t.numpy() for t in out)
    l1 = np.abs(image - x.numpy()).mean()
    ce = (np.log(np.exp(logits).sum(1)) - logits[np.arange(4), y.numpy()]).mean()
    hinge = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    assert float(loss.value) == pytest.approx(l1 + weight * ce + hinge - gan_weight * fooled.mean(), abs=1e-12)
    assert float(loss.figures["reconstruction"]) == pytest.approx(l1)
    assert float(loss.figures["discriminator"]) == pytest.approx(hinge)
    sure = np.concatenate(((real > 1).ravel(), (fake < -1).ravel())).mean()
    assert float(loss.figures["saturated"]) == pytest.approx(sure)
    assert float(loss.figures["diversity"]) == pytest.approx(image.std(0).mean() / x.numpy().std(0).mean())
    assert ("cross_entropy" in loss.figures) == (weight > 0) == (loss.logits_adv is not None)


def test_each_part_of_the_loss_teaches_whom_it_should(build, images):
    """The released code of the paper detaches the purifier's GAN term; nothing was learnt from it."""
    trainer, (x, y) = build(weight=1.0), images
    model = trainer.model.train()
    purifier, discriminator = (list(part.parameters()) for part in model.network.children())

    def reached(scalar) -> tuple[bool, bool]:
        gradients = torch.autograd.grad(scalar, [*purifier, *discriminator], allow_unused=True, retain_graph=True)
        moved = [g is not None and bool(g.abs().sum() > 0) for g in gradients]
        return any(moved[: len(purifier)]), any(moved[len(purifier) :])

    out = model(x, x)
    assert reached(out.fooled.mean()) == (True, False)
    assert reached(out.real.mean() + out.fake.mean()) == (False, True)
    assert reached(nn.functional.cross_entropy(out.logits, y)) == (True, False)
    assert reached((out.image - x).abs().mean()) == (True, False)
    assert not any(p.requires_grad for p in model.classifier.parameters())


def test_without_cross_entropy_and_attack_it_is_the_pretraining(build, arrays):
    one, other = build(weight=0.0, attack=lambda model, x, y: x), build()
    with pytest.warns(UserWarning, match="fit without pre-training"):
        one.fit(*arrays, nb_epochs=2, batch_size=8)
    other.pretrain(arrays[0], nb_epochs=2, batch_size=8)
    assert_same(state(one.model.network), state(other.model.network))
    assert [row["loss"] for row in one.history.rows] == [row["loss"] for row in other.pretraining.rows]
    assert "train_robust" not in other.pretraining.rows[0]


# ---- the attack -----------------------------------------------------------------------------------------------------


def attacked(trainer, images) -> torch.Tensor:
    x, y = images
    torch.manual_seed(0)
    return trainer.attack(trainer.model.eval(), x, y, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("place", ["pipeline", "classifier"])
@pytest.mark.parametrize("steps, size", [(1, THREAT.eps), (3, 2.5 * THREAT.eps / 3)])
def test_the_inner_attack_knows_the_whole_or_the_classifier(build, images, place, steps, size):
    trainer = build(attacked=place, steps=steps)
    model = trainer.model.eval()
    target = model if place == "pipeline" else model.classifier
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    expected = pgd(target, *images, threat=THREAT, steps=steps, step_size=size, generator=generator)
    assert torch.equal(attacked(trainer, images), expected)
    assert (expected - images[0]).abs().max() > THREAT.eps / 2


def test_attacks_of_others(build, images, arrays):
    halved = build(attack=lambda model, x, y: x / 2)
    assert torch.equal(attacked(halved, images), images[0] / 2)
    trainer = build()
    fgsm = FastGradientMethod(trainer.get_classifier(), eps=THREAT.eps)
    by_art = build(attack=fgsm)
    assert float((attacked(by_art, images) - images[0]).abs().max()) == pytest.approx(THREAT.eps, abs=1e-6)
    trained(by_art, arrays, epochs=1)


# ---- what is left alone, and what comes out -------------------------------------------------------------------------


@pytest.mark.parametrize("transform", ["rt1", "rt2", "rt3", None])
@pytest.mark.parametrize("purifier", ["unet", "autoencoder"])
def test_the_classifier_stays_bit_for_bit(build, arrays, conv_model, transform, purifier):
    options = {"purifier_options": {"width": 4}, "discriminator_options": None, "gan": False}
    grid = {"grid": 4} if transform else None
    before, flags = state(conv_model), [p.requires_grad for p in conv_model.parameters()]
    trainer = build(transform=transform, transform_options=grid, purifier=purifier, **options)
    weights = state(trainer.purifier)
    trained(trainer, arrays)
    assert_same(state(conv_model), before)
    assert [p.requires_grad for p in conv_model.parameters()] == flags
    assert all(p.grad is None for p in conv_model.parameters())
    assert differs(state(trainer.purifier), weights)
    assert_same(state(trainer.model.classifier.network), before)


def test_what_comes_out_is_an_art_classifier_behind_the_purifier(build, arrays, images):
    trainer = trained(build(transform="rt1"), arrays)
    made = trainer.get_classifier()
    assert made is trainer.get_classifier()
    assert isinstance(made.preprocessing_defences[0], PurifierPreprocessor)
    assert made.model is trainer.classifier.model
    model = DefendedModel(made).eval()
    torch.manual_seed(0)
    logits = model(images[0])
    torch.manual_seed(0)
    torch.testing.assert_close(logits, trainer.model.eval()(images[0]))
    torch.manual_seed(0)
    np.testing.assert_allclose(made.predict(arrays[0]), logits.detach().numpy(), atol=1e-5)
    attack = ProjectedGradientDescentPyTorch(made, eps=0.1, eps_step=0.05, max_iter=2, verbose=False)
    assert float(np.abs(attack.generate(*arrays) - arrays[0]).max()) == pytest.approx(0.1, abs=1e-6)


def test_the_classifiers_own_preprocessors_come_after_the_purifier(trainable, conv_model, arrays, images):
    given = trainable(conv_model, preprocessing=(0.5, 0.25))
    trainer = trained(AToPTrainer(given, **(OPTIONS | {"transform": None, "transform_options": None})), arrays)
    with torch.no_grad():
        image = trainer.purifier(images[0], torch.ones(16, 1, 8, 8))
        torch.testing.assert_close(
            DefendedModel(trainer.get_classifier()).eval()(images[0]), conv_model((image - 0.5) / 0.25)
        )
        torch.testing.assert_close(trainer.model.eval()(images[0]), conv_model((image - 0.5) / 0.25))


def test_a_purifier_of_ones_own_is_trained_in_place_and_counts_as_pretrained(build, arrays):
    own = UNet(3, width=4)
    trainer = build(purifier=own, purifier_options=None)
    before = state(own)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trainer.fit(*arrays, nb_epochs=1, batch_size=8)
    assert trainer.purifier is own
    assert differs(state(own), before)


@pytest.mark.parametrize("purifier, gan", [("unet", True), ("autoencoder", False)])
def test_a_gan_by_default_but_for_the_auto_encoder(build, purifier, gan):
    trainer = build(purifier=purifier, purifier_options={"width": 4}, discriminator_options=None)
    assert (trainer.model.network.discriminator is not None) is gan
    assert trainer.optimizer.defaults["lr"] == 1e-4
    assert trainer.optimizer.defaults["betas"] == (0.5, 0.999)


def test_the_same_seed_is_the_same_training(build, arrays):
    one, other = (trained(build(seed=3), arrays) for _ in range(2))
    assert_same(state(one.model.network), state(other.model.network))
    assert differs(state(one.model.network), state(trained(build(seed=4), arrays).model.network))


def test_validation_averaging_and_figures(build, arrays):
    trainer = build(averaging="ema", augment="flip", grad_clip=1.0, pretrain_epochs=1)
    trainer.fit(*arrays, nb_epochs=2, batch_size=8, validation_data=arrays)
    assert len(trainer.pretraining) == 1
    assert {"clean", "robust", "reconstruction", "cross_entropy", "discriminator", "saturated", "diversity"} < set(
        trainer.history.rows[-1]
    )
    assert not any(m.training for m in trainer.model.modules())


# ---- going on -------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [2, 4, 5, 6, 9])
def test_a_run_that_is_killed_ends_in_the_same_bits(build, arrays, tmp_path, after):
    """Two batches in an epoch, two epochs of pre-training, three of tuning."""

    def run(folder, *, killed=None, resume=False):
        trainer, steps = build(checkpoint_dir=folder, pretrain_epochs=2, checkpoint_every=1), []

        def count(*_):
            steps.append(1)
            if len(steps) == killed:
                raise Killed

        trainer.optimizer.register_step_post_hook(count)
        if resume:
            trainer.resume()
        trainer.fit(*arrays, nb_epochs=3, batch_size=8)
        return trainer

    def figures(trainer):
        return [{k: v for k, v in row.items() if "second" not in k} for row in trainer.history.rows]

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed=after)
    again = run(tmp_path / "killed", resume=True)
    assert_same(state(again.model.network), state(whole.model.network))
    assert figures(again) == figures(whole)


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(build, tmp_path):
    with pytest.raises(FileNotFoundError):
        build(checkpoint_dir=tmp_path).resume()


def test_pictures_during_the_training_change_nothing_in_it(build, arrays, tmp_path):
    with_pictures = trained(build(checkpoint_dir=tmp_path), arrays)
    for folder in (tmp_path, tmp_path / "pretraining"):
        assert (folder / "purified.png").read_bytes().startswith(b"\x89PNG")
    assert_same(state(with_pictures.model.network), state(trained(build(), arrays).model.network))


def test_restoring(build, arrays, tmp_path):
    trainer = trained(build(checkpoint_dir=tmp_path), arrays)
    other = build(checkpoint_dir=tmp_path)
    other.restore("last")
    assert_same(state(other.purifier), state(trainer.purifier))
    torch.manual_seed(0)
    expected = trainer.predict(arrays[0])
    torch.manual_seed(0)
    np.testing.assert_array_equal(other.predict(arrays[0]), expected)


def test_a_checkpoint_of_another_purifier_is_refused(build, arrays, tmp_path):
    trained(build(checkpoint_dir=tmp_path), arrays)
    other = build(checkpoint_dir=tmp_path, purifier_options={"width": 8, "levels": 1})
    with pytest.raises(ValueError, match=r"last\.safetensors does not fit Trained"):
        other.restore("last")
    other.resume()
    with pytest.raises(ValueError, match="network"):
        other.fit(*arrays, nb_epochs=3, batch_size=8)


# ---- signs of a GAN that does not learn -----------------------------------------------------------------------------


def rows(**figures):
    return [{"epoch": epoch, **{name: values[epoch - 1] for name, values in figures.items()}} for epoch in range(1, 6)]


HEALTH = {
    "healthy": (rows(diversity=[0.01, 0.02, 0.5, 0.8, 0.9], saturated=[0.5] * 5), []),
    "collapsed": (rows(diversity=[0.9, 0.05, 0.05, 0.05, 0.05], saturated=[0.5] * 5), ["epoch 4: the purified images"]),
    "saturated": (rows(diversity=[1.0] * 5, saturated=[0.99] * 5), ["epoch 3: the discriminator is certain of 99%"]),
    "recovers": (rows(diversity=[1.0] * 5, saturated=[0.99, 0.99, 0.2, 0.99, 0.99]), []),
    "no gan": (rows(diversity=[1.0] * 5), []),
}


@pytest.mark.parametrize("figures, said", HEALTH.values(), ids=HEALTH)
def test_the_health_of_the_gan(figures, said):
    health = GANHealth()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for row in figures:
            health(row)
    assert len(caught) == len(said)
    assert all(str(one.message).startswith(text) for one, text in zip(caught, said, strict=True))


class Grey(nn.Module):
    """A purifier that has collapsed: always the same image."""

    def __init__(self) -> None:
        super().__init__()
        self.grey = nn.Parameter(torch.zeros(()))

    def forward(self, image, mask):
        return torch.zeros_like(image) + self.grey.sigmoid()


def test_a_collapse_is_said_during_the_training(build, arrays):
    trainer = build(purifier=Grey(), purifier_options=None)
    with pytest.warns(UserWarning, match="epoch 3: the purified images are nearly alike"):
        trainer.pretrain(arrays[0], nb_epochs=3, batch_size=8)


def test_a_loss_that_is_no_number_gives_the_purifier_back(build, arrays):
    trainer = build(attack=lambda model, x, y: x * float("nan"))
    trainer.pretrain(arrays[0], nb_epochs=1, batch_size=8)
    before = state(trainer.purifier)
    with pytest.raises(FloatingPointError, match="loss is nan at epoch 1"):
        trainer.fit(*arrays, nb_epochs=1, batch_size=8)
    assert_same(state(trainer.purifier), before)


# ---- refusals -------------------------------------------------------------------------------------------------------


class Halving(nn.Module):
    def forward(self, image, mask):
        return image[..., ::2, ::2]


class Doubling(nn.Module):
    def forward(self, image, mask):
        return 2 * image


BAD = {
    "purifier": ({"purifier": "unett"}, ValueError, "unknown purifier 'unett'; did you mean 'unet'"),
    "no module": ({"purifier": 3}, TypeError, "purifier must be a name or a torch.nn.Module; got int"),
    "options": (
        {"purifier": UNet(3), "purifier_options": {"width": 3}},
        ValueError,
        "go with a purifier given by name",
    ),
    "channels": (
        {"purifier": UNet(1, width=4), "purifier_options": None},
        ValueError,
        r"the purifier cannot take images \(3, 8, 8\)",
    ),
    "shape": (
        {"purifier": Halving(), "purifier_options": None},
        ValueError,
        r"makes \(3, 4, 4\) of images \(3, 8, 8\); it must keep the shape",
    ),
    "range": (
        {"purifier": Doubling(), "purifier_options": None},
        ValueError,
        r"must return images in \[0, 1\]; it returned values from 0 to 2",
    ),
    "transform": ({"transform": "rt4"}, ValueError, "unknown random transform 'rt4'"),
    "no transform": ({"transform": 4, "transform_options": None}, TypeError, "transform must be 'rt1', 'rt2', 'rt3'"),
    "transform option": ({"transform_options": {"gird": 4}}, TypeError, "transform 'rt2' takes grid, .*; got gird"),
    "options of a masking": ({"transform": Masking("rt1")}, ValueError, "go with a transform given by name"),
    "missing": ({"transform_options": {"missing": 1.0}}, ValueError, r"missing must leave a hole"),
    "weight": ({"weight": -1}, ValueError, r"weight must be a number in \[0, 1e\+06\]; got -1"),
    "steps": ({"steps": 0}, ValueError, "steps must be"),
    "attacked": ({"attacked": "purifier"}, ValueError, "unknown value of attacked 'purifier'"),
    "vote": ({"vote": 0}, ValueError, "vote must be a whole number of at least 1; got 0"),
    "pretrain_epochs": ({"pretrain_epochs": -1}, ValueError, "pretrain_epochs must be a whole number of at least 0"),
    "discriminator": ({"gan": False}, ValueError, "discriminator_options .* need gan=True"),
    "option": ({"verbosity": 1}, TypeError, "unknown option 'verbosity'"),
}


@pytest.mark.parametrize("options, error, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(build, options, error, message):
    with pytest.raises(error, match=message):
        build(**options)


def test_a_grid_that_the_images_are_too_small_for(build):
    with pytest.raises(ValueError, match="images of 8 × 8 pixels cannot have 16 × 16 blocks"):
        build(transform_options={"grid": 16})


def test_a_classifier_of_something_else_than_images(trainable, mlp_model):
    given = trainable(mlp_model, (2,), 2)
    with pytest.raises(ValueError, match=r"purification is of images \(C, H, W\); .* \(2,\)"):
        AToPTrainer(given, **OPTIONS)


def test_fit_before_pretrain_is_allowed_and_says_why_not(build, arrays):
    with pytest.warns(UserWarning, match="fit without pre-training: .* call pretrain"):
        build().fit(*arrays, nb_epochs=1, batch_size=8)


def test_a_classifier_in_training_mode(build, conv_model):
    conv_model.train()
    with pytest.warns(UserWarning, match="the classifier is in training mode"):
        trainer = build()
    assert not any(m.training for m in trainer.model.classifier.modules())
    assert conv_model.training


def test_grey_images(trainable):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    trainer = AToPTrainer(trainable(net, (1, 8, 8)), **OPTIONS)
    x = np.random.default_rng(0).random((16, 1, 8, 8), np.float32)
    trained(trainer, (x, np.arange(16) % 4), epochs=1)
    assert trainer.predict(x).shape == (16, 4)


def test_no_discriminator_learns_nothing_of_it(build, arrays):
    trainer = trained(build(gan=False, discriminator_options=None), arrays, epochs=1)
    assert "discriminator" not in trainer.history.rows[0]


def test_bad_data_are_refused_before_any_work(build, arrays):
    trainer = build()
    before = copy.deepcopy(state(trainer.purifier))
    with pytest.raises(ValueError, match="x must lie in"):
        trainer.pretrain(arrays[0] * 255, nb_epochs=1)
    with pytest.raises(ValueError, match="nb_epochs must be a whole number of at least 1"):
        trainer.pretrain(arrays[0], nb_epochs=0)
    assert_same(state(trainer.purifier), before)
