"""Attacks under several threat models: headings, files, words."""

from pathlib import Path

import pytest

from art_ext.comparison import Judging, judging
from art_ext.comparison.columns import Column
from art_ext.comparison.judging import about, judge_checkpoints, places
from art_ext.recipes import load_recipe

RECIPE = load_recipe("fashion-mnist-5k-piat")  # ℓ∞, ε = 0.1
THREATS = {
    "own": {},
    "same": {"eps": 0.1},
    "far": {"eps": 0.2},
    "ball": {"norm": "l2", "eps": 1.0},
    "as l2": {"norm": "l2"},
}
ASKED = Judging(attacks={"PGD": "pgd-20", "FGSM": "fgsm"}, threats=THREATS, checkpoints=("last",), n_examples=7)


def test_a_column_for_each_attack_under_each_threat_model():
    assert list(ASKED.columns()) == [f"{attack}, {name}" for attack in ("PGD", "FGSM") for name in THREATS]


def test_without_threats_the_columns_are_the_attacks():
    assert Judging(attacks={"PGD": "pgd-20"}).columns() == {"PGD": Column("pgd-20", {})}


@pytest.mark.parametrize(
    "name, norm, eps",
    [("own", "linf", 0.1), ("far", "linf", 0.2), ("ball", "l2", 1.0), ("as l2", "l2", 0.1)],
)
def test_what_is_left_out_is_that_of_the_training(name, norm, eps):
    threat = ASKED.columns()[f"PGD, {name}"].under(RECIPE)
    assert (threat.norm, threat.eps, threat.clip) == (norm, eps, (0.0, 1.0))


def test_files_say_the_threat_model_where_it_is_another():
    found = {heading: path.parent.name for heading, path in places(ASKED, RECIPE, Path())["last"].items()}
    assert found["PGD, own"] == found["PGD, same"] == "last_pgd-20_7-images_seed-0"
    assert found["PGD, far"] == "last_pgd-20_linf-0.2_7-images_seed-0"
    assert found["FGSM, ball"] == "last_fgsm_l2-1_7-images_seed-0"
    assert len(set(found.values())) == 2 * 4


def test_what_two_columns_ask_for_is_judged_once(tmp_path, monkeypatch):
    asked = []

    class Report:
        def to_json(self, path):
            path.parent.mkdir(parents=True)
            path.write_text("{}")

    def evaluate(classifier, x, y, *, threat, suite, **options):
        asked.append((suite, str(threat)))
        return Report()

    data = type("Data", (), {"x_test": None, "y_test": None})
    monkeypatch.setattr(judging, "evaluate", evaluate)
    monkeypatch.setattr(judging, "make_data", lambda *args, **kwargs: data)
    monkeypatch.setattr(judging, "trained_classifier", lambda *args: None)
    judge_checkpoints(ASKED, RECIPE, tmp_path, tmp_path)
    balls = ["ℓ∞ ε=0.1", "ℓ∞ ε=0.2", "ℓ2 ε=1", "ℓ2 ε=0.1"]
    assert asked == [(suite, ball) for suite in ("pgd-20", "fgsm") for ball in balls]


def test_words():
    assert list(about(ASKED))[2:] == [
        "own: the threat model of the training",
        "same: ε = 0.1",
        "far: ε = 0.2",
        "ball: ℓ2, ε = 1",
        "as l2: ℓ2",
    ]


BAD = {
    "nothing": ({}, "threats must name at least one threat model"),
    "a list": (["own"], "threats must name at least one threat model"),
    "no mapping": ({"own": 0.1}, "threats: own must be a mapping of eps, norm, both or none; got 0.1"),
    "field": ({"far": {"epss": 0.1}}, "unknown field of threat 'far': 'epss'; did you mean 'eps'"),
    "norm": ({"far": {"norm": "l1"}}, "norm must be one of linf, l2"),
    "eps": ({"far": {"eps": -0.1}}, "eps must be > 0"),
}


@pytest.mark.parametrize("threats, message", BAD.values(), ids=BAD)
def test_bad_threats(threats, message):
    with pytest.raises(ValueError, match=message):
        Judging(threats=threats)
