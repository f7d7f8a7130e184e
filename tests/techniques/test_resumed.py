"""Techniques with a state: a run that was killed in the middle of an epoch ends bit for bit where it would have."""

import copy

import numpy as np
import pytest
import torch

from art_ext.engine import History
from art_ext.technique import Technique
from art_ext.techniques import Free, Natural
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

QUIET = {"threat": ThreatModel("linf", 0.05), "precision": "fp32", "progress": False}
CASES = {
    "free": {"techniques": [Free(replays=3)]},
    "free in PIAT": {"techniques": [Free(replays=2)], "averaging": "piat"},
    "warm start": {"techniques": ["warm-start"], "steps": 1},
    "warm start, batches in parts": {"techniques": ["warm-start"], "steps": 1, "accumulate": 2},
    "natural": {"techniques": [Natural(share=0.48)], "steps": 1},  # the ninth batch is natural, the first is not
    "FGSM-RS with its alarm": {"attack": "fgsm-rs", "threat": ThreatModel("linf", 0.01)},  # which some withstand
    "FGSM-RS, warm start": {"attack": "fgsm-rs", "techniques": ["warm-start"]},
}


class Killed(BaseException):
    """What ends a run as a kill would."""


class Killing(Technique):
    """Ends the run before a batch."""

    name = "killing"

    def __init__(self, batch):
        self.left = batch

    def __repr__(self):
        return "Killing()"

    def before_batch(self, done, epochs):
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.mark.parametrize("case", CASES)
def test_killed_within_an_epoch(trainable, conv_model, images, tmp_path, monkeypatch, case):
    monkeypatch.setattr(History, "plot", lambda self, path: None)
    x = torch.cat((images[0], images[0][:4].flip(0))).numpy()

    def trainer(folder, batch=1000):
        options = CASES[case] | {"checkpoint_dir": tmp_path / folder, "checkpoint_every": 1}
        techniques = [*options.pop("techniques", ()), Killing(batch)]
        return RobustTrainer(trainable(copy.deepcopy(conv_model)), techniques=techniques, **QUIET | options)

    def fit(made):
        made.fit(x, np.arange(20) % 4, nb_epochs=3, batch_size=8)  # batches of 8, 8 and 4
        return made

    whole = fit(trainer("whole"))
    with pytest.raises(Killed):
        fit(trainer("killed", batch=8))  # one of the last epoch is left
    second = trainer("killed")
    second.resume()
    fit(second)
    states = [made.get_classifier().model.state_dict() for made in (whole, second)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    for figure in ("loss", "train_robust", "train_pgd"):
        assert whole.history.column(figure) == second.history.column(figure)
