"""The extension point itself: what the loop asks of a technique, in which order, and what survives a kill."""

import copy
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from art_ext.engine.precision import Compiled
from art_ext.technique import Technique, Techniques
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

THREAT = ThreatModel("linf", 8 / 255)
QUIET: dict[str, Any] = {"precision": "fp32", "progress": False, "steps": 1}


class Diary(Technique):
    """Writes down what it is asked."""

    name = "diary"

    def __init__(self) -> None:
        self.said: list[str] = []

    def check_network(self, model, shape):
        self.said.append(f"network of {shape}")

    def check_labels(self, y, classes):
        self.said.append(f"labels {len(y)} of {classes}")

    def start(self, network, classes, seed, processes):
        super().start(network, classes, seed, processes)
        self.said.append(f"start {classes}")

    def before_batch(self, done, epochs):
        self.said.append(f"batch {done:g}/{epochs}")

    def attack_for(self, attack, x, y):
        self.said.append("attack")
        return attack

    @contextmanager
    def attacking(self, model, x):
        self.said.append("[")
        yield
        self.said.append("]")

    def loss_for(self, loss):
        self.said.append("loss")
        return loss

    @contextmanager
    def perturbing(self, model, loss, x, x_adv, y, progress):
        self.said.append("(")
        yield
        self.said.append(")")

    def after_loss(self, x, x_adv, logits_adv, y):
        assert all(p.grad is not None for p in self.network.parameters())
        self.said.append("after loss")

    def after_epoch(self, epoch, model):
        self.said.append(f"epoch {epoch}")
        return {"pages": float(len(self.said))}


@pytest.fixture
def make_classifier(trainable, conv_model):
    """Makes classifiers of the same untrained network."""
    return lambda: trainable(copy.deepcopy(conv_model))


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.random((16, 3, 8, 8), np.float32), np.arange(16) % 4


def train(classifier, data, techniques, *, nb_epochs=1, **options) -> RobustTrainer:
    trainer = RobustTrainer(classifier, threat=THREAT, techniques=techniques, **(QUIET | options))
    trainer.fit(*data, nb_epochs=nb_epochs, batch_size=8, shuffle=False)
    return trainer


def test_the_loop_asks_in_this_order(make_classifier, data):
    diary = Diary()
    trainer = train(make_classifier(), data, diary)
    step = ["[", "attack", "]", "loss", "(", ")", "after loss"]
    before = ["network of (3, 8, 8)", "labels 16 of 4", "start 4"]
    expected = [*before, "batch 0/1", *step, "batch 0.5/1", *step, "epoch 0"]
    assert diary.said == expected
    assert trainer.history.column("pages") == [len(expected)]


def test_several_are_asked_in_turn_and_closed_in_reverse(make_classifier, data):
    book: list[str] = []

    class Named(Diary):
        def __init__(self, name):
            super().__init__()
            self.name = name

        @contextmanager
        def attacking(self, model, x):
            book.append(f"+{self.name}")
            yield
            book.append(f"-{self.name}")

    train(make_classifier(), data, [Named("a"), Named("b")])
    assert book == ["+a", "+b", "-b", "-a"] * 2


@pytest.mark.parametrize(
    "hook, expected",
    [
        pytest.param({"batch": lambda self, x, y: (x * 0.5, y)}, lambda x: 0.5 * x, id="batch"),
        pytest.param(
            {"attack_for": lambda self, attack, x, y: lambda model, x, y, generator: x + 0.25},
            lambda x: x + 0.25,
            id="attack",
        ),
    ],
)
def test_what_it_changes_reaches_the_loss(make_classifier, data, hook, expected):
    seen = []

    def after_loss(self, x, x_adv, logits_adv, y):
        seen.append(x_adv)

    changing = type("Changing", (Technique,), hook | {"after_loss": after_loss})
    train(make_classifier(), data, changing(), attack=lambda model, x, y: x)
    torch.testing.assert_close(torch.cat(seen), expected(torch.from_numpy(data[0])))


def test_replays_are_steps_of_the_optimizer_but_one_batch(make_classifier, data):
    class Twice(Technique):
        name, replays = "twice", 2

    diary = Diary()
    trainer = train(make_classifier(), data, [Twice(), diary])
    assert diary.said.count("after loss") == 4
    assert [len(trainer.history), trainer.history.rows[0]["train_robust"] <= 1] == [1, True]


def test_a_resumed_run_draws_on(make_classifier, data, tmp_path):
    drawn: list[list[float]] = []

    class Drawing(Technique):
        name = "drawing"

        def before_batch(self, done, epochs):
            drawn[-1].append(torch.rand(1, generator=self.random).item())

    def trainer(folder):
        drawn.append([])
        options = QUIET | {"checkpoint_dir": folder}
        return RobustTrainer(make_classifier(), threat=THREAT, techniques=Drawing(), **options)

    fit = {"batch_size": 8, "shuffle": False}
    trainer(tmp_path / "whole").fit(*data, nb_epochs=3, **fit)
    trainer(tmp_path / "parts").fit(*data, nb_epochs=1, **fit)
    second = trainer(tmp_path / "parts")
    second.resume()
    second.fit(*data, nb_epochs=3, **fit)
    assert drawn[1] + drawn[2] == drawn[0]


def test_a_run_with_another_technique_is_another_run(make_classifier, data, tmp_path):
    train(make_classifier(), data, [], checkpoint_dir=tmp_path)
    other = RobustTrainer(make_classifier(), threat=THREAT, techniques="awp", **QUIET, checkpoint_dir=tmp_path)
    other.resume()
    with pytest.raises(ValueError, match="technique"):
        other.fit(*data, nb_epochs=2, batch_size=8)


def test_without_a_technique_nothing_changes(make_classifier, data):
    plain = train(make_classifier(), data, ())
    same = train(make_classifier(), data, Techniques([Technique(), Technique()]))
    assert plain.history.column("loss") == same.history.column("loss")


@pytest.mark.parametrize(
    "techniques, error, match",
    [
        pytest.param("apw", ValueError, "did you mean 'awp'", id="unknown name"),
        pytest.param(["awp", "awp"], ValueError, "given twice", id="twice"),
        pytest.param([3], TypeError, "names or Technique objects; got int", id="no technique"),
    ],
)
def test_bad_techniques_are_refused(make_classifier, techniques, error, match):
    with pytest.raises(error, match=match):
        RobustTrainer(make_classifier(), threat=THREAT, techniques=techniques, **QUIET)


def test_a_technique_that_changes_the_network_meets_the_network_itself(make_classifier, data):
    met = []

    class Touching(Technique):
        name, changes_network = "touching", True

        @contextmanager
        def attacking(self, model, x):
            met.append(any(m is self.network for m in model.modules()))
            yield

    train(make_classifier(), data, Touching(), precision="bf16")
    assert met == [True, True]


@pytest.mark.parametrize("hooking", [True, False])
def test_an_attack_that_is_hooked_into_is_not_run_compiled(monkeypatch, make_classifier, data, hooking):
    rested = []

    class Hooking(Technique):
        name = "hooking"

        def hooks(self):
            return hooking

        def attack_for(self, attack, x, y):
            def watching(model, x, y, generator):
                rested.extend(m.rests for m in model.modules() if isinstance(m, Compiled))
                return attack(model, x, y, generator)

            return watching

        def after_loss(self, x, x_adv, logits_adv, y):
            rested.append("the loss is compiled")

    monkeypatch.setattr(torch, "compile", lambda model, dynamic: model)
    train(make_classifier(), data, [Technique(), Hooking()], compile=True)
    assert rested == [hooking, "the loss is compiled"] * 2
