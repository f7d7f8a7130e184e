"""From recipes to images, classifiers and trainers."""

from typing import Any

import pytest
import torch

from art_ext.averaging import EMA
from art_ext.recipes import Recipe, make_data, recipe_of
from art_ext.recipes.build import make_classifier
from art_ext.recipes.kinds import make_trainer

LEAST: dict[str, Any] = {
    "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
    "data": {"name": "digits", "train_examples": 64},
    "threat": {"eps": 0.1},
}


def recipe(**sections: dict[str, Any]) -> Recipe:
    return recipe_of({**LEAST, **{name: LEAST.get(name, {}) | keys for name, keys in sections.items()}})


def test_the_classifier_is_that_of_the_seed() -> None:
    chosen = recipe(optimizer={"lr": 0.25, "options": {"momentum": 0.5}})
    data = make_data(chosen.data)
    first, second = (make_classifier(chosen, data).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    defaults = make_classifier(chosen, data).optimizer.defaults
    assert (defaults["lr"], defaults["momentum"]) == (0.25, 0.5)


@pytest.mark.parametrize(
    "model, told",
    [
        ({"input_shape": [3, 32, 32]}, r"model.input_shape is \(3, 32, 32\).*\(1, 8, 8\)"),
        ({"num_classes": 4}, "model.num_classes is 4, but 'digits' has 10"),
        ({"name": "small_cn"}, "did you mean .*'small_cnn'"),
    ],
    ids=["shape", "classes", "name"],
)
def test_a_model_for_other_data(model: dict[str, Any], told: str) -> None:
    wrong = recipe(model=model)
    with pytest.raises(ValueError, match=told):
        make_classifier(wrong, make_data(wrong.data))


def test_the_trainer_is_what_the_recipe_says() -> None:
    section = {"loss": "trades", "loss_options": {"beta": 3.0}, "averaging": "ema", "averaging_options": {"decay": 0.5}}
    chosen = recipe(trainer={**section, "grad_clip": 2, "progress": False})
    trainer = make_trainer(chosen, make_classifier(chosen, make_data(chosen.data)))
    assert trainer.loss.name == "trades"
    assert vars(trainer.loss) == {"beta": 3.0}
    assert isinstance(trainer.averaging, EMA)
    assert trainer.averaging.decay == 0.5
    assert trainer.options.grad_clip == 2.0
    assert trainer.threat.eps == 0.1


@pytest.mark.parametrize(
    "model, told",
    [
        ({"options": {"widht": 4}}, r"model.options \{'widht': 4\} do not fit 'small_cnn'"),
        ({"pretrained": True}, "no pretrained weights"),
        ({"device": "cuda:77"}, "cuda:77"),
        ({"checkpoint": "none.safetensors"}, "none.safetensors"),
    ],
    ids=["option", "pretrained", "device", "checkpoint"],
)
def test_what_the_architecture_does_not_have(model: dict[str, Any], told: str) -> None:
    wrong = recipe(model={**LEAST["model"], **model})
    with pytest.raises((ValueError, OSError), match=told):
        make_classifier(wrong, make_data(wrong.data))


def test_weights_that_cannot_be_had_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **options: Any) -> Any:
        raise RuntimeError("no pretrained weights for 'small_cnn'")

    monkeypatch.setattr("art_ext.adapters.timm.timm_classifier", offline)
    wrong = recipe()
    with pytest.raises(OSError, match="no pretrained weights"):
        make_classifier(wrong, make_data(wrong.data))
