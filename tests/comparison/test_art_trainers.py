"""ART's trainers, made for one epoch of many."""

from typing import Any

import numpy as np
import pytest

from art_ext.comparison.art_trainers import ART_TRAINERS, Setting, make_art_trainer
from art_ext.recipes import make_data, recipe_of
from art_ext.recipes.build import make_classifier
from tests.comparison.conftest import QUICK


def setting(epoch: int = 0, **trainer: Any) -> Setting:
    recipe = recipe_of({**QUICK["recipe"], "trainer": {**QUICK["recipe"]["trainer"], **trainer}})
    data = make_data(recipe.data)

    def classifier() -> Any:
        return make_classifier(recipe, data)

    return Setting(classifier=classifier(), another=classifier, recipe=recipe, epoch=epoch, examples=len(data.x_train))


@pytest.mark.parametrize("kind", list(ART_TRAINERS))
def test_the_attack_is_that_of_the_recipe(kind: str) -> None:
    trainer = make_art_trainer(kind, {}, setting(steps=3))
    attack = {"madry-pgd": lambda: trainer.attack, "pgd": lambda: trainer.attacks[0]}.get(kind, lambda: None)()
    attack = attack or getattr(trainer, "_attack", None)
    if kind == "fbf":  # a single step of its own
        assert trainer._eps == 0.1
        return
    assert (attack.eps, attack.max_iter, attack.num_random_init) == (0.1, 3, 1)
    assert attack.eps_step == pytest.approx(2.5 * 0.1 / 3)


@pytest.mark.parametrize("epoch, left", [(0, 2), (1, 1), (2, 0), (5, 0)])
def test_warmup_counts_over_the_whole_run(epoch: int, left: int) -> None:
    assert make_art_trainer("awp", {"warmup": 2}, setting(epoch))._warmup == left


def test_the_learning_rate_of_fbf_is_that_of_its_whole_run() -> None:
    rates: list[float] = []
    whole, parts = setting(nb_epochs=5), [setting(epoch, nb_epochs=5) for epoch in range(5)]
    n = whole.examples
    x, y = np.random.default_rng(0).random((n, 1, 8, 8), np.float32), np.eye(10, dtype=np.float32)[np.arange(n) % 10]
    for part in parts:
        make_art_trainer("fbf", {}, part).fit(x, y, batch_size=32, nb_epochs=1)
        rates.append(part.classifier.optimizer.param_groups[0]["lr"])
    expected = np.interp(range(1, 6), [0, 2, 5], [0, 0.21, 0])
    assert rates == pytest.approx(expected, abs=1e-6)
    make_art_trainer("fbf", {}, whole).fit(x, y, batch_size=32, nb_epochs=1)
    assert whole.classifier.optimizer.param_groups[0]["lr"] == pytest.approx(expected[0])
