"""Robustness evaluation: `evaluate`, its suites of attacks and its report."""

from art_ext.evaluation.cost import Cost, counting
from art_ext.evaluation.evaluate import evaluate
from art_ext.evaluation.native import NativeAttack, PGDAttack
from art_ext.evaluation.plots import bar_chart
from art_ext.evaluation.report import AttackResult, RobustnessReport
from art_ext.evaluation.runner import AttackFailedWarning
from art_ext.evaluation.suites import ATTACKS, SUITES, Suite

__all__ = [
    "ATTACKS",
    "SUITES",
    "AttackFailedWarning",
    "AttackResult",
    "Cost",
    "NativeAttack",
    "PGDAttack",
    "RobustnessReport",
    "Suite",
    "bar_chart",
    "counting",
    "evaluate",
]
