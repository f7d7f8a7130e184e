"""The detector as ART knows detectors: what it learns, what it says, what it leaves alone."""

import random

import numpy as np
import pytest
import torch
from art.defences.detector.evasion import EvasionDetector

from art_ext.detectors import AttackForensics, attack_families
from art_ext.detectors.families import attacked
from art_ext.detectors.training import conformal_threshold
from art_ext.preprocessors import NoiseInjection
from tests.detectors.planes import THREAT, smooth


def fgsm(detector, x, y, seed=9):
    craft = attack_families(["fgsm"], threat=THREAT)["fgsm"]
    model = detector.module.observed.model
    return attacked(model, *map(torch.from_numpy, (x, y)), craft, seed=seed).numpy()


def test_detects_what_it_was_trained_on(fitted):
    x, y = smooth(100, seed=1)
    report, clean = fitted.detect(x)
    assert isinstance(fitted, EvasionDetector)
    assert clean.mean() <= 0.15  # a threshold of 40 images for 5 %
    report, is_adversarial = fitted.detect(fgsm(fitted, x, y), batch_size=7)
    assert is_adversarial.mean() > 0.9
    assert is_adversarial.dtype == bool
    assert is_adversarial.shape == (100,)
    assert set(report["family"][is_adversarial]) == {"fgsm"}
    assert set(report["family"][~is_adversarial]) <= {"none"}


def test_the_report_agrees_with_itself(fitted):
    x, _ = smooth(30, seed=1)
    report, is_adversarial = fitted.detect(x)
    assert np.array_equal(report["score"] > report["threshold"], is_adversarial)
    assert report["threshold"] == fitted.threshold
    probabilities = fitted.predict(x, batch_size=4)
    np.testing.assert_allclose(report["probabilities"], probabilities, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(np.log(probabilities[:, 1] / probabilities[:, 0]), report["score"], atol=1e-3)


def test_several_families_have_their_columns(make):
    detector = make(families=["fgsm", "pgd-l2"])
    detector.fit(*smooth(150), nb_epochs=1)
    assert detector.families == ("none", "fgsm", "pgd-l2")
    assert detector.predict(smooth(3)[0]).shape == (3, 3)


def test_own_attacks_by_name(make):
    def checkerboard(model, x, y, *, generator):
        return x + 0.1 * (torch.arange(64).view(8, 8) % 2)

    detector = make(families={"checkerboard": checkerboard})
    x, y = smooth(200)
    detector.fit(x, y, nb_epochs=6, batch_size=32)
    x, _ = smooth(40, seed=1)
    board = (x + 0.1 * (np.arange(64).reshape(8, 8) % 2)).clip(0, 1).astype(np.float32)
    assert detector.detect(board)[1].all()


def test_the_rate_of_false_alarms_can_be_changed_later(fitted):
    x, _ = smooth(200, seed=1)
    thresholds, alarms = [], []
    for rate in (0.03, 0.1, 0.5):
        fitted.set_params(false_positive_rate=rate)
        thresholds.append(fitted.threshold)
        alarms.append(fitted.detect(x)[1].mean())
    assert thresholds[0] >= thresholds[1] > thresholds[2]
    assert alarms[0] <= alarms[1] < alarms[2]
    assert fitted.get_params() == {"false_positive_rate": 0.5}
    with pytest.raises(ValueError, match=r"false_positive_rate must be in \(0, 1\); got 0"):
        fitted.set_params(false_positive_rate=0)


def test_threshold_is_that_of_the_given_calibration(make):
    x, y = smooth(80)
    calibration, _ = smooth(50, seed=2)
    detector = make()
    detector.fit(x, y, nb_epochs=1, calibration=calibration)
    scores = torch.from_numpy(detector.detect(calibration)[0]["score"])
    assert detector.threshold == pytest.approx(conformal_threshold(scores, 0.05), abs=1e-5)
    assert detector.detect(calibration)[1].sum() == 1  # the 49th of 50 is the threshold: ⌈51 · 0.95⌉


def test_held_out_images_are_neither_attacked_nor_trained_on(make):
    crafted_of = []

    def spy(model, x, y, *, generator):
        crafted_of.append(x.clone())
        return x + 0.05

    x, y = smooth(100)
    detector = make(families={"spy": spy})
    detector.fit(x, y, nb_epochs=1)
    assert sum(map(len, crafted_of)) == 80


def test_ready_pairs_are_as_good_as_crafting(make, fitted):
    x, y = smooth(200)
    x_adv = fgsm(fitted, x, y, seed=0)
    names = np.array(["none"] * 200 + ["fgsm"] * 200)
    pairs = np.concatenate((x, x_adv))
    detectors = [make(), make()]
    for detector, family in zip(detectors, (names, (names == "fgsm").astype(int)), strict=True):
        detector.fit_crafted(pairs, family, nb_epochs=6, batch_size=32, source=np.tile(np.arange(200), 2))
    x, y = smooth(60, seed=1)
    assert detectors[0].detect(fgsm(fitted, x, y))[1].mean() > 0.9
    assert np.array_equal(detectors[0].predict(x), detectors[1].predict(x))
    assert len(detectors[0]._scores()) == 40


def test_the_same_seed_gives_the_same_detector(make):
    x, y = smooth(120)
    probabilities = []
    for seed in (0, 0, 1):
        detector = make(seed=seed)
        torch.rand(5)  # what the process draws elsewhere does not matter
        detector.fit(x, y, nb_epochs=1)
        probabilities.append(detector.predict(x))
    assert np.array_equal(probabilities[0], probabilities[1])
    assert not np.array_equal(probabilities[0], probabilities[2])
    detector.fit(x, y, nb_epochs=1)  # from the beginning, not from where the first ended
    assert np.array_equal(detector.predict(x), probabilities[2])


def test_classifier_data_and_random_generators_stay(trainable, conv_model):
    classifier = trainable(conv_model)
    conv_model.train()
    x, y = np.random.default_rng(0).random((60, 3, 8, 8), np.float32), np.arange(60) % 4
    given, before = x.copy(), [t.clone() for t in conv_model.state_dict().values()]
    states = torch.get_rng_state(), random.getstate()
    detector = AttackForensics(
        classifier, threat=THREAT, families=["fgsm", "pgd-l2"], held_out=0.4, width=2, progress=False
    )
    detector.fit(x, y, nb_epochs=1, batch_size=16)
    detector.detect(x)
    assert conv_model.training
    assert all(map(torch.equal, before, conv_model.state_dict().values()))
    assert all(p.grad is None and p.requires_grad for p in conv_model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in conv_model.modules())
    assert np.array_equal(x, given)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_one_hot_labels(make):
    x, y = smooth(100)
    detectors = make(), make()
    detectors[0].fit(x, y, nb_epochs=1)
    detectors[1].fit(x, np.eye(2)[y], nb_epochs=1)
    assert np.array_equal(detectors[0].predict(x), detectors[1].predict(x))


def test_a_randomised_defense_can_be_watched(trainable, linear_model):
    classifier = trainable(linear_model, preprocessing_defences=[NoiseInjection(scale=0.1)])
    x, y = np.random.default_rng(0).random((60, 3, 8, 8), np.float32), np.arange(60) % 4
    detector = AttackForensics(
        classifier, threat=THREAT, families=["fgsm"], features="logits", held_out=0.4, width=2, progress=False
    )
    detector.fit(x, y, nb_epochs=1)
    assert detector.detect(x)[1].shape == (60,)


def test_module_and_guarded_are_what_detect_says(fitted):
    x, y = smooth(20, seed=1)
    x = np.concatenate((x, fgsm(fitted, x, y)))
    report, is_adversarial = fitted.detect(x)
    out = fitted.guarded().eval()(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(out[:, -1], fitted.threshold - report["score"], atol=1e-4)
    assert np.array_equal(out[:, -1] < 0, is_adversarial)
    np.testing.assert_allclose(out[:, :-1], fitted.classifier.predict(x), atol=1e-4)


def test_rounding_is_looked_through_by_gradients(fitted, make):
    x = torch.rand(3, 1, 8, 8)
    module = fitted.module.eval()
    torch.testing.assert_close(module(x), module((x * 255).round() / 255))
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)
    assert float(gradient.abs().max()) > 0
    assert make(eight_bit=False).module.seen(x) is x


def test_saved_and_loaded(fitted, make, tmp_path):
    path, (x, _) = tmp_path / "detector.safetensors", smooth(20, seed=1)
    fitted.save(path)
    other = make(seed=5)
    other.load(path)
    assert np.array_equal(other.predict(x), fitted.predict(x))
    assert other.threshold == fitted.threshold
    with pytest.raises(ValueError, match="knows none, fgsm; this detector none, cw"):
        make(families=["cw"]).load(path)
    with pytest.raises(ValueError, match="of a detector of another shape"):
        make(width=5).load(path)
    with pytest.raises(FileNotFoundError):
        make().load(tmp_path / "nothing.safetensors")
