"""ART `Trainer`s: they put a loss, an attack and an averaging together and hand them to the engine."""

from art_ext.trainers.piat import PIATTrainer
from art_ext.trainers.robust import RobustTrainer

__all__ = ["PIATTrainer", "RobustTrainer"]
