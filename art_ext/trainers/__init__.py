"""ART `Trainer`s: they put a loss, an attack and an averaging together and hand them to the engine."""

from art_ext.trainers.atop import AToPTrainer
from art_ext.trainers.inn import INNTrainer
from art_ext.trainers.noisy import NoisyTrainer
from art_ext.trainers.piat import PIATTrainer
from art_ext.trainers.registry import TRAINERS
from art_ext.trainers.robust import RobustTrainer

__all__ = ["TRAINERS", "AToPTrainer", "INNTrainer", "NoisyTrainer", "PIATTrainer", "RobustTrainer"]
