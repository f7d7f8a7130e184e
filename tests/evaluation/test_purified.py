"""The controls beside the evaluation of a purifier: each is what it says, and the given classifier stays as it is."""

import copy
import json

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import PurifierPreprocessor, ThreatModel, evaluate
from art_ext.evaluation import evaluate_purification
from art_ext.evaluation.purified import COLUMNS, with_fixed_draws, without_purification
from art_ext.model import DefendedModel
from art_ext.nn.purifiers import UNet

THREAT = ThreatModel("linf", 0.1)
QUICK = {"threat": THREAT, "steps": 2, "eot": 2, "progress": False}


@pytest.fixture
def data(images) -> tuple[np.ndarray, np.ndarray]:
    x, y = images
    return x[:6].numpy(), y[:6].numpy()


@pytest.fixture
def purified(trainable, conv_model) -> PyTorchClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = PurifierPreprocessor(purifier=UNet(3, width=4), transform="rt2")
    return trainable(conv_model, preprocessing_defences=[first])


def test_every_column_and_nothing_left_behind(purified, data):
    before = copy.deepcopy(purified.model.state_dict())
    found = evaluate_purification(purified, *data, columns=list(COLUMNS), **QUICK)
    assert list(found.reports) == list(COLUMNS)
    assert found.robust_accuracy == min(
        found.reports[name].robust_accuracy for name in ("PGD", "randomized", "skipped")
    )
    assert set(json.loads(found.to_json())) == set(COLUMNS)
    assert all(name in str(found) for name in COLUMNS)
    assert purified.preprocessing_defences[0].transform == "rt2"
    assert all(torch.equal(value, before[name]) for name, value in purified.model.state_dict().items())


def test_a_page_shows_the_images_on_their_way(purified, data, tmp_path):
    found = evaluate_purification(purified, *data, columns=["PGD", "skipped", "l2", "corruptions"], **QUICK)
    found.to_html(tmp_path / "page.html", title="purified <here>")
    page = (tmp_path / "page.html").read_text()
    assert "purified &lt;here&gt;" in page
    assert "Images on their way through the purifier" in page
    assert "data:image/svg+xml" in page
    with pytest.raises(ValueError, match="a page needs one of the columns PGD"):
        evaluate_purification(purified, *data, columns=["l2"], **QUICK).to_html(tmp_path / "other.html")


def test_without_is_the_network_alone(purified, data):
    found = evaluate_purification(purified, *data, columns=["without"], **QUICK).reports["without"]
    plain = evaluate(purified.model, *data, threat=THREAT, suite=["pgd-20"], eot=1, indicators=False, progress=False)
    assert found.clean_accuracy == plain.clean_accuracy
    x = torch.from_numpy(data[0])
    assert torch.equal(without_purification(DefendedModel(purified))(x), purified.model(x))


def test_fixed_draws_are_fixed_and_those_of_the_model_are_not(purified, data):
    model, x = DefendedModel(purified).eval(), torch.from_numpy(data[0])
    fixed = with_fixed_draws(model)
    assert torch.equal(fixed(x), fixed(x))
    assert not torch.equal(model(x), model(x))
    assert fixed.network is model.network


def passes(classifier, data, steps: int) -> tuple[int, int]:
    """Of the purifier and of the network, in the column ``skipped``."""
    modules = classifier.preprocessing_defences[0].purifier, classifier.model
    calls: list[nn.Module] = []
    hooks = [m.register_forward_hook(lambda m, *_: calls.append(m)) for m in modules]
    evaluate_purification(classifier, *data, columns=["skipped"], **QUICK | {"steps": steps})
    for hook in hooks:
        hook.remove()
    return tuple(sum(call is m for call in calls) for m in modules)


def test_who_skips_never_looks_at_the_purifier(purified, data):
    few, many = passes(purified, data, 2), passes(purified, data, 9)
    assert many[0] == few[0]
    assert many[1] - few[1] == 7


@pytest.mark.parametrize(
    "columns, match",
    [(["skiped"], "did you mean 'skipped'"), (["PGD"], "neither a PurifierPreprocessor nor a RandomTransform")],
    ids=["unknown column", "no purifier"],
)
def test_bad_input(trainable, conv_model, data, columns, match):
    with pytest.raises(ValueError, match=match):
        evaluate_purification(trainable(conv_model), *data, columns=columns, **QUICK)


def test_a_robust_accuracy_needs_an_attack(purified, data):
    found = evaluate_purification(purified, *data, columns=["corruptions"], **QUICK)
    with pytest.raises(ValueError, match="needs one of the columns PGD"):
        _ = found.robust_accuracy


def test_a_module_is_no_classifier(data):
    with pytest.raises(TypeError, match="PyTorchClassifier"):
        evaluate_purification(nn.Identity(), *data, **QUICK)
