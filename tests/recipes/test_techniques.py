"""Techniques, layers and warm-ups that a recipe names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from art_ext.adapters.timm import LayerwiseOptimizer
from art_ext.cli import whole_parser
from art_ext.engine import History, WarmUp
from art_ext.recipes import (
    OptimizerSection,
    Recipe,
    ScheduleSection,
    load_recipe,
    make_data,
    recipe_of,
    run_recipe,
    shipped,
)
from art_ext.recipes.build import make_classifier
from art_ext.recipes.kinds import make_trainer
from art_ext.recipes.optimizers import make_optimizer, make_schedule
from art_ext.recipes.planned import planned
from art_ext.recipes.resolve import as_text
from art_ext.recipes.run import checked
from art_ext.recipes.text import parse
from art_ext.techniques import AWP, AttentionAndPatches, Mixup

VIT: dict[str, Any] = {"patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
LEAST: dict[str, Any] = {
    "model": {"name": "vit_tiny_patch16_224", "options": VIT, "device": "cpu"},
    "data": {"name": "digits", "train_examples": 64, "test_examples": 20},
    "threat": {"eps": 0.1},
    "trainer": {"batch_size": 16, "nb_epochs": 4, "steps": 1, "progress": False, "precision": "fp32"},
}


def recipe(**sections: dict[str, Any]) -> Recipe:
    return recipe_of({**LEAST, **{name: LEAST.get(name, {}) | keys for name, keys in sections.items()}})


def test_techniques_are_named_with_options_or_without() -> None:
    entries = ["awp", {"name": "mixup", "prob": 0.5}]
    chosen = recipe(trainer={"techniques": entries, "vit": "a&p"})
    trainer = make_trainer(chosen, make_classifier(chosen, make_data(chosen.data)))
    awp, mixup, vit = trainer.technique.parts
    assert (type(awp), type(mixup), type(vit)) == (AWP, Mixup, AttentionAndPatches)
    assert (awp.after, mixup.prob, mixup.mixup_alpha) == (10, 0.5, 0.8)


def test_defaults_are_written_out_and_read_back() -> None:
    whole = checked(recipe(trainer={"techniques": ["awp"], "vit": "a&p"}))
    assert whole.trainer.techniques == [{"name": "awp", "gamma": 0.005, "after": 10}, {"name": "a&p", "warm_up": 10}]
    assert whole.trainer.vit is None
    assert checked(whole) == whole
    assert recipe_of(parse(as_text(whole))) == whole


def test_on_the_command_line() -> None:
    words = ["train", "ap-fashion-mnist-5k-vit", "--trainer.techniques", "[mixup, {name: a&p, warm_up: 2}]"]
    given = whole_parser().parse_args([*words, "--trainer.vit", "prm"], defaults=False).as_dict()["train"]
    changed = load_recipe(given["recipe"], {"trainer": given["trainer"]})
    assert changed.trainer.techniques == ["mixup", {"name": "a&p", "warm_up": 2}]
    assert changed.trainer.vit == "prm"


@pytest.mark.parametrize(
    "trainer, told",
    [
        ({"techniques": ["apw"]}, "unknown technique 'apw'; did you mean 'awp'"),
        ({"techniques": [{"name": "a&p", "epochs": 3}]}, "unknown option 'epochs' of technique 'a&p'"),
        ({"techniques": [{"name": "a&p", "warm_up": 0}]}, "warm_up must be > 0"),
        ({"techniques": [{"name": "a&p", "warm_up": "soon"}]}, "techniques.* has a value of a wrong type"),
        ({"techniques": [{"prob": 0.5}]}, r"an entry of trainer.techniques is a name, or \{name: ..., ...\}"),
        ({"techniques": ["a&p"], "vit": "a&p"}, "a&p: given twice"),
        ({"vit": "app"}, r"unknown vit \(or None\) 'app'"),
        ({"techniques": ["mixup"], "loss": "mart"}, "'mixup' .* loss 'mart' does not take"),
        (
            {"kind": "noisy", "steps": 10, "vit": "ard"},
            "trainer.vit is 'ard', but trainer.kind 'noisy' does not use it",
        ),
        ({"kind": "inn", "steps": 10, "techniques": ["awp"]}, "trainer.techniques is .* does not use it"),
    ],
    ids=str,
)
def test_refused_before_any_work(trainer: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        checked(recipe(trainer=trainer))


def test_a_vit_in_small_trains_with_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "plot", lambda self, path: None)
    chosen = recipe(
        trainer={"techniques": ["mixup"], "vit": "a&p", "grad_clip": 1.0, "nb_epochs": 2},
        optimizer={"name": "adamw", "lr": 0.01, "weight_decay": 0.05, "layer_decay": 0.5, "filter_bias_and_bn": True},
        schedule={"name": "cosine", "warmup": 0.5},
    )
    done = run_recipe(chosen, tmp_path / "run")
    assert done.history.column("keep") == [0.075, 0.175]
    assert done.history.column("lr")[0] == 0.01  # of the head, as the epoch begins
    assert {group["lr"] for group in done.classifier.optimizer.param_groups} == {0.0}  # half a cosine later


# Layers


def test_layers_are_the_optimizers_affair_only_where_they_are_asked_for() -> None:
    assert not isinstance(make_optimizer(OptimizerSection(name="adamw")), LayerwiseOptimizer)
    for options in ({"layer_decay": 0.5}, {"filter_bias_and_bn": True}):
        made = make_optimizer(OptimizerSection(name="adamw", lr=0.1, options={"betas": [0.9, 0.99]}, **options))
        assert isinstance(made, LayerwiseOptimizer)
        assert made.options == {"betas": [0.9, 0.99]}


def test_rates_of_the_layers() -> None:
    chosen = recipe(optimizer={"lr": 0.1, "layer_decay": 0.5})
    groups = make_classifier(chosen, make_data(chosen.data)).optimizer.param_groups
    assert sorted({group["lr"] for group in groups}) == pytest.approx([0.0125, 0.025, 0.05, 0.1])


@pytest.mark.parametrize("options", [{"layer_decay": 0.5}, {"filter_bias_and_bn": True}], ids=str)
def test_a_purifier_has_no_layers_of_the_classifier(options: dict[str, Any]) -> None:
    trainer = {"kind": "atop", "kind_options": {"purifier": "autoencoder"}}
    model = {"checkpoint": "weights.safetensors"}
    with pytest.raises(ValueError, match=r"about the layers of the classifier, which trainer\.kind 'atop' does not"):
        checked(recipe(trainer=trainer, model=model, optimizer={"name": "adam", **options}))


def test_a_wrong_layer_decay() -> None:
    with pytest.raises(ValueError, match=r"layer_decay must be in \(0, 1\]"):
        checked(recipe(optimizer={"layer_decay": 1.5}))


# Warm-ups


@pytest.mark.parametrize("name, options", [("constant", {}), ("multistep", {"milestones": [0.5]}), ("cosine", {})])
def test_a_warm_up_is_a_share_of_the_epochs(name: str, options: dict[str, Any]) -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    made = make_schedule(ScheduleSection(name=name, options=options, warmup=0.25), sgd, epochs=8)
    assert isinstance(made, WarmUp)
    assert made.epochs == 2
    made.begin(0.5)
    assert sgd.param_groups[0]["lr"] == 0.25


def test_without_a_warm_up_nothing_changes() -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert make_schedule(ScheduleSection(), sgd, epochs=8) is None


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 5])
def test_a_warm_up_that_is_no_share(warmup: float) -> None:
    with pytest.raises(ValueError, match=r"section schedule: warmup must be in \[0, 1\), a share of the epochs"):
        recipe(schedule={"warmup": warmup})


def test_a_warm_up_is_planned() -> None:
    assert planned(recipe(schedule={"warmup": 0.5})) == ["the warm-up of the learning rate"]


# Shipped


def test_a_and_p_has_the_constants_of_its_authors() -> None:
    for name in ("vit-b", "deit-s", "convit-b"):
        chosen = load_recipe(f"ap-cifar10-{name}")
        trainer, sgd = chosen.trainer, chosen.optimizer
        assert [entry["name"] for entry in trainer.techniques] == ["mixup", "a&p"]
        assert trainer.techniques[0] == {"name": "mixup", "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.3}
        assert trainer.techniques[1]["warm_up"] == 10
        assert (trainer.nb_epochs, trainer.batch_size, trainer.grad_clip, trainer.steps) == (40, 64, 1.0, 10)
        assert (trainer.loss, trainer.averaging, trainer.augment) == ("pgd-at", None, "crop-flip")
        assert (sgd.name, sgd.lr, sgd.weight_decay, sgd.options) == ("sgd", 0.1, 1e-4, {"momentum": 0.9})
        made = make_schedule(chosen.schedule, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), epochs=40)
        assert made is not None
        assert dict(made.milestones) == {35: 1, 38: 1}
        assert chosen.model.options == {"patch_size": 4}
        both = load_recipe(f"piat-ap-cifar10-{name}")
        assert (both.trainer.averaging, both.trainer.techniques) == ("piat", trainer.techniques)
        assert both.model == chosen.model


def test_all_that_ship_are_whole() -> None:
    names = [name for name in shipped() if "ap-" in name]
    assert len(names) == 7
    for name in names:
        checked(load_recipe(name))
