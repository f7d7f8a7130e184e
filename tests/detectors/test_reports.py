"""Confusion and evasion: the numbers are those of `detect`, and come back from JSON as they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from art_ext.detectors import ConfusionReport, EvasionReport, confusion, evasion, unseen_attacks
from art_ext.detectors.families import attacked
from tests.detectors.planes import EPS, THREAT, smooth


@pytest.fixture
def sample():
    """Images and labels, of which the first five are wrong on purpose."""
    x, y = smooth(40, seed=1)
    y[:5] = 1 - y[:5]
    return x, y


def shift(model, x, y, *, generator):
    """A change that no detector of noise should report, on every second image; the others stay."""
    x = x.clone()
    x[::2] += 0.05
    return x


def test_counts_are_those_of_detect(fitted, sample):
    report = confusion(fitted, *sample, attacks={"shift": shift}, progress=False)
    x, y = sample
    said = fitted.detect(x)[1]
    assert report.counts["none"] == (int((~said).sum()), int(said.sum()))
    assert report.fooled["none"] == 5
    assert report.caught["none"] == int(said[:5].sum())

    model, right = fitted.module.observed.model, (torch.from_numpy(x[5:]), torch.from_numpy(y[5:]))
    x_adv = attacked(model, *right, fitted.crafts["fgsm"], seed=0, name="test fgsm")
    said = fitted.detect(x_adv.numpy())[1]
    wrong = fitted.classifier.predict(x_adv.numpy()).argmax(1) != y[5:]
    assert report.counts["fgsm"] == (int((~said).sum()), int(said.sum()))
    assert report.fooled["fgsm"] == int(wrong.sum())
    assert report.caught["fgsm"] == int((wrong & said).sum())
    assert report.detected("fgsm") == pytest.approx(said.mean())

    assert sum(report.counts["shift"]) == 18  # every second of 35
    assert report.detected("shift") < 0.5
    assert report.seen == ("fgsm",)
    assert report.n_examples == 40


def test_default_attacks_run(fitted):
    x, y = smooth(6, seed=1)
    report = confusion(fitted, x, y, progress=False)
    unseen = unseen_attacks(fitted.classifier, threat=THREAT)
    assert list(report.counts) == ["none", "fgsm", *unseen]
    assert report.fooled["apgd"] >= report.fooled["noise"]


def test_attacks_of_torchattacks(fitted):
    pytest.importorskip("torchattacks")
    from art_ext.adapters.torchattacks import TorchattacksAttack

    attack = TorchattacksAttack("MIFGSM", estimator=fitted.classifier, threat=THREAT, steps=3)
    report = confusion(fitted, *smooth(6, seed=1), attacks={"mim": attack}, progress=False)
    assert sum(report.counts["mim"]) == 6
    assert report.detected("mim") > 0.5


def test_an_attack_that_changes_nothing_has_an_empty_row(fitted, sample):
    report = confusion(fitted, *sample, attacks={"lazy": lambda model, x, y, generator: x}, progress=False)
    assert report.counts["lazy"] == (0, 0)
    assert np.isnan(report.detected("lazy"))
    assert str(report).splitlines()[3].split() == ["lazy", "(unseen)", "0", "–", "–", "–", "0", "–"]
    report.figure().canvas.draw()


def test_confusion_as_text_json_and_picture(fitted, sample, tmp_path):
    report = confusion(fitted, *sample, attacks={"shift": shift}, progress=False)
    path = tmp_path / "report.json"
    assert ConfusionReport.from_json(report.to_json(path)) == ConfusionReport.from_json(path) == report
    lines = str(report).splitlines()
    assert len(lines) == 1 + 3 + 1
    assert "shift (unseen)" in lines[3]
    (axes,) = report.figure().axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["none", "fgsm", "shift (unseen)"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["none", "fgsm"]
    shown = [int(t.get_text()) for t in axes.texts if t.get_text().isdigit()]
    assert shown[:2] == [round(100 * c / 40) for c in report.counts["none"]]
    with pytest.raises(ValueError, match="not a ConfusionReport"):
        ConfusionReport.from_json('{"seed": 0}')


def test_one_who_knows_the_detector_goes_past_it(fitted, sample):
    report = evasion(fitted, *sample, eps=[EPS / 4, 2 * EPS], steps=60, progress=False)
    assert report.n_examples == 35
    assert report.false_positives == pytest.approx(fitted.detect(sample[0])[1].mean())
    for attacker in ("unaware", "aware"):
        for fooled, detected, evades in zip(
            report.fooled[attacker], report.detected[attacker], report.evaded[attacker], strict=True
        ):
            assert fooled - detected <= evades + 1e-9
            assert evades <= min(fooled, 1 - detected) + 1e-9
    assert report.fooled["unaware"][1] > 0.5  # without the detector, it would be lost
    assert report.evaded["unaware"][1] < 0.1
    assert report.evaded["aware"][1] > report.evaded["unaware"][1] + 0.1
    assert list(report.evaded["aware"]) == sorted(report.evaded["aware"])


def test_evasion_as_text_json_and_picture(fitted, sample, tmp_path):
    report = evasion(fitted, *sample, eps=[EPS], steps=3, norm="l2", seed=4, progress=False)
    path = tmp_path / "report.json"
    assert EvasionReport.from_json(report.to_json(path)) == EvasionReport.from_json(path) == report
    assert len(str(report).splitlines()) == 1 + 2 + 1
    assert "PGD-3, ℓ2" in str(report)
    assert "35 images; seed 4" in str(report)
    (axes,) = replace(report, eps=(0.1,)).figure().axes
    assert len(axes.lines) == 3
    assert evasion(fitted, *sample, eps=[EPS], steps=3, norm="l2", seed=4, progress=False) == report
    with pytest.raises(ValueError, match="not a EvasionReport"):
        EvasionReport.from_json('{"seed": 0}')
