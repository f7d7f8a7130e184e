"""Robustness evaluation: `evaluate`, its suites of attacks, its indicators and its report."""

from art_ext.evaluation.corruptions import CORRUPTIONS, Corruption, CorruptionReport, evaluate_corruptions
from art_ext.evaluation.cost import Cost, counting
from art_ext.evaluation.evaluate import evaluate
from art_ext.evaluation.native import FunctionAttack, NativeAttack, PGDAttack
from art_ext.evaluation.plots import bar_chart
from art_ext.evaluation.report import AttackResult, RobustnessReport
from art_ext.evaluation.runner import AttackFailedWarning
from art_ext.evaluation.suites import ATTACKS, SUITES, Suite
from art_ext.evaluation.verdict import Indicator, verdict

__all__ = [
    "ATTACKS",
    "CORRUPTIONS",
    "SUITES",
    "AttackFailedWarning",
    "AttackResult",
    "Corruption",
    "CorruptionReport",
    "Cost",
    "FunctionAttack",
    "Indicator",
    "NativeAttack",
    "PGDAttack",
    "RobustnessReport",
    "Suite",
    "bar_chart",
    "counting",
    "evaluate",
    "evaluate_corruptions",
    "verdict",
]
