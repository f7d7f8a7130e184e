"""The trainers by the names that recipes and the command line use."""

from __future__ import annotations

from dataclasses import dataclass

from art_ext.trainers.atop import AToPTrainer
from art_ext.trainers.base import EngineTrainer
from art_ext.trainers.inn import INNTrainer
from art_ext.trainers.noisy import NoisyTrainer
from art_ext.trainers.robust import RobustTrainer


@dataclass(frozen=True)
class TrainerInfo:
    """A trainer that recipes know.

    Args:
        trainer: the class.
        description: one line.
        paper: address.
        uses: which of the fields ``loss``, ``averaging``, ``attack``, ``steps`` and ``techniques`` have a say;
            ``optimizer``: the trainer is given the recipe's, else the classifier has it.
        in_place: it trains the classifier's own network; else `EngineTrainer.get_classifier` returns another one.
        keeps_network: what it trains stands in front of the classifier's own network, which a run does not write.
        best_epoch: the accuracy on held-out images tells which epoch to judge. Not where gradients are masked or an
            epoch is but one of several voters: the plain attack that measures it would choose by what it cannot see.
    """

    trainer: type[EngineTrainer]
    description: str
    paper: str
    uses: frozenset[str]
    in_place: bool = True
    keeps_network: bool = False
    best_epoch: bool = True


TRAINERS: dict[str, TrainerInfo] = {
    "robust": TrainerInfo(
        RobustTrainer,
        "adversarial training with any loss and averaging; averaging piat is PIAT",
        "https://arxiv.org/abs/1706.06083",
        frozenset({"loss", "averaging", "attack", "steps", "techniques"}),
    ),
    "noisy": TrainerInfo(
        NoisyTrainer,
        "noisy natural images, through a soft quantization layer where the classifier has one",
        "https://arxiv.org/abs/1810.05665",
        frozenset({"averaging"}),
        best_epoch=False,
    ),
    "inn": TrainerInfo(
        INNTrainer,
        "images under backgrounds and noise, backgrounds as classes, a vote of the last epochs",
        "https://arxiv.org/abs/2310.05947",
        frozenset(),
        in_place=False,
        best_epoch=False,
    ),
    "atop": TrainerInfo(
        AToPTrainer,
        "a purifier in front of a classifier that stays as it is; pre-trained, then tuned on adversarial images",
        "https://arxiv.org/abs/2401.16352",
        frozenset({"averaging", "steps", "optimizer"}),
        in_place=False,
        keeps_network=True,
        best_epoch=False,
    ),
}
