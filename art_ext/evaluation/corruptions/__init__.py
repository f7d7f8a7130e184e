"""Accuracy under common corruptions: blur, noise, weather, digital artefacts, in the style of CIFAR-C."""

from art_ext.evaluation.corruptions.kinds import CORRUPTIONS, SEVERITIES, Corruption
from art_ext.evaluation.corruptions.report import CorruptionReport
from art_ext.evaluation.corruptions.run import evaluate_corruptions

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "CorruptionReport", "evaluate_corruptions"]
