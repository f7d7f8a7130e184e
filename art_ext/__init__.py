"""Defenses that ART lacks, fast adversarial training, and robustness numbers that can be believed."""

from art_ext.evaluation import RobustnessReport, evaluate
from art_ext.model import DefendedModel
from art_ext.preprocessors import (
    INNPreprocessor,
    NoiseInjection,
    PurifierPreprocessor,
    RandomTransform,
    SoftQuantization,
)
from art_ext.threat import ThreatModel
from art_ext.trainers import AToPTrainer, INNTrainer, NoisyTrainer, PIATTrainer, RobustTrainer

__version__ = "0.1.0"

__all__ = [
    "AToPTrainer",
    "DefendedModel",
    "INNPreprocessor",
    "INNTrainer",
    "NoiseInjection",
    "NoisyTrainer",
    "PIATTrainer",
    "PurifierPreprocessor",
    "RandomTransform",
    "RobustTrainer",
    "RobustnessReport",
    "SoftQuantization",
    "ThreatModel",
    "evaluate",
]
