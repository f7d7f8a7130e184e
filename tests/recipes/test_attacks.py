"""Inner attacks that a recipe names."""

from typing import Any

import pytest

from art_ext.attacks import FGSMRS, InnerPGD, MixedAdversaries
from art_ext.cli import _verbs, whole_parser
from art_ext.cli.parser import prepared
from art_ext.recipes import Recipe, load_recipe, make_data, merged, recipe_of, run_recipe
from art_ext.recipes.attacks import make_attack
from art_ext.recipes.build import make_classifier
from art_ext.recipes.kinds import make_trainer
from art_ext.recipes.resolve import as_text
from art_ext.recipes.run import checked
from art_ext.recipes.text import parse
from art_ext.techniques import OverfittingAlarm

LEAST: dict[str, Any] = {
    "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
    "data": {"name": "digits", "train_examples": 64, "test_examples": 20},
    "threat": {"eps": 0.08},
    "trainer": {"batch_size": 32, "nb_epochs": 1, "progress": False, "precision": "fp32"},
}
TWO = [{"norm": "linf", "eps": 0.1}, {"norm": "l2", "eps": 1.0, "step_size": 0.2}]
MIXED = {"attack": "mat-max", "attack_options": {"threats": TWO}, "steps": 2}


def recipe(**trainer: Any) -> Recipe:
    return recipe_of(merged(LEAST, {"trainer": trainer}))


def trainer_of(chosen: Recipe):
    return make_trainer(chosen, make_classifier(chosen, make_data(chosen.data)))


@pytest.mark.parametrize(
    "trainer, expected",
    [
        pytest.param({"steps": 3}, InnerPGD, id="default"),
        pytest.param({"attack": "pgd", "steps": 3, "loss": "trades"}, InnerPGD, id="PGD by name"),
        pytest.param({"attack": "fgsm-rs"}, FGSMRS, id="FGSM-RS"),
        pytest.param({"attack": "fgsm-rs", "averaging": "piat", "loss": "nmse"}, FGSMRS, id="FGSM-RS in PIAT"),
        pytest.param(MIXED, MixedAdversaries, id="MAT-Max"),
        pytest.param(
            MIXED | {"attack": "mat-rand", "techniques": ["natural"]}, MixedAdversaries, id="MAT-Rand, natural"
        ),
        pytest.param({"techniques": [{"name": "free", "replays": 2}]}, InnerPGD, id="free"),
        pytest.param({"attack": "fgsm-rs", "techniques": ["warm-start"]}, FGSMRS, id="warm start"),
    ],
)
def test_a_recipe_trains_with_it(tmp_path, trainer, expected) -> None:
    chosen = recipe(**trainer)
    attack = trainer_of(chosen).attack
    assert type(attack) is expected
    assert getattr(attack, "objective", "ce") == ("kl" if chosen.trainer.loss == "trades" else "ce")
    assert attack.steps == (1 if expected is FGSMRS else trainer.get("steps", 10))
    history = run_recipe(chosen, tmp_path / "run").history
    assert len(history) == 1
    assert ("train_pgd" in history.rows[0]) is (expected is FGSMRS)


def test_the_alarm_can_be_changed_in_a_recipe() -> None:
    chosen = recipe(attack="fgsm-rs", techniques=[{"name": "overfitting-alarm", "stop": True}])
    technique = trainer_of(chosen).technique
    assert isinstance(technique, OverfittingAlarm)
    assert technique.stop


def test_threats_and_their_step_sizes() -> None:
    attack = make_attack(recipe(**MIXED))
    assert [str(threat) for threat in attack.threats] == ["ℓ∞ ε=0.1", "ℓ2 ε=1"]
    assert attack.step_size == [None, 0.2]


@pytest.mark.parametrize(
    "trainer, options",
    [({}, {}), ({"attack": "fgsm-rs"}, {"random_start": True, "alarm": True}), (MIXED, {"threats": TWO})],
    ids=["PGD", "FGSM-RS", "MAT-Max"],
)
def test_defaults_are_written_out_and_read_back(trainer, options) -> None:
    whole = checked(recipe(**trainer))
    assert checked(whole) == whole
    assert recipe_of(parse(as_text(whole))) == whole
    assert whole.trainer.attack_options == options


def test_another_attack_takes_over_nothing_of_the_former_one() -> None:
    """Of a base with 7 steps of 0.025."""
    changed = load_recipe("fashion-mnist-5k-piat", {"trainer": {"attack": "fgsm-rs"}})
    assert (changed.trainer.steps, changed.trainer.step_size) == (10, None)
    assert make_attack(changed).step_size == pytest.approx(0.125)
    same = load_recipe("fashion-mnist-5k-piat", {"trainer": {"attack": "pgd"}})
    assert (same.trainer.steps, same.trainer.step_size) == (7, 0.025)


def test_on_the_command_line() -> None:
    threats = "{threats: [{norm: linf, eps: 8/255}, {norm: l2, eps: 0.84}]}"
    words = ["train", "fashion-mnist-5k-piat", "--trainer.attack", "mat-rand", "--trainer.attack_options", threats]
    given = whole_parser().parse_args(prepared(words, _verbs()), defaults=False).as_dict()["train"]
    attack = make_attack(load_recipe(given["recipe"], {"trainer": given["trainer"]}))
    assert [threat.eps for threat in attack.threats] == [pytest.approx(8 / 255), 0.84]


BAD = {
    "name": ({"attack": "fgsmrs"}, "unknown inner attack 'fgsmrs'; did you mean 'fgsm-rs'"),
    "option": ({"attack": "fgsm-rs", "attack_options": {"alram": True}}, "unknown option 'alram' of attack 'fgsm-rs'"),
    "of PGD": ({"attack_options": {"alarm": True}}, "unknown option 'alarm' of attack 'pgd'; it takes none"),
    "missing": ({"attack": "mat-max"}, "attack 'mat-max' needs the options threats"),
    "one threat": ({"attack": "mat-max", "attack_options": {"threats": TWO[:1]}}, "at least two threat models"),
    "steps": ({"attack": "fgsm-rs", "steps": 7}, "trainer.steps is 7, but attack 'fgsm-rs' does not use it"),
    "step size": (MIXED | {"step_size": 0.1}, "trainer.step_size is 0.1, but attack 'mat-max' does not use it"),
    "type": (
        {"attack": "mat-max", "attack_options": {"threats": [{"eps": [0.1, None]}, *TWO]}},
        "trainer.attack_options .* has a value of a wrong type",
    ),
    "kind": (
        {"kind": "noisy", "attack": "fgsm-rs"},
        "trainer.attack is 'fgsm-rs', but trainer.kind 'noisy' does not use",
    ),
    "free": ({"attack": "fgsm-rs", "techniques": ["free"]}, "'free' stands in the place of the inner attack"),
    "free, TRADES": ({"loss": "trades", "techniques": ["free"]}, "'free' climbs the training loss"),
    "warm start": (MIXED | {"techniques": ["warm-start"]}, "MixedAdversaries has no place to begin"),
}


@pytest.mark.parametrize("trainer, message", BAD.values(), ids=BAD)
def test_wrong_recipes_are_refused_before_any_work(trainer, message) -> None:
    with pytest.raises(ValueError, match=message):
        checked(recipe(**trainer))
