"""Robustness evaluation: `evaluate`, its suites of attacks, its indicators and its report."""

from art_ext.evaluation.compare import Comparison, compare
from art_ext.evaluation.corruptions import CORRUPTIONS, Corruption, CorruptionReport, evaluate_corruptions
from art_ext.evaluation.cost import Cost, counting
from art_ext.evaluation.draws import FiniteRandomness
from art_ext.evaluation.evaluate import evaluate
from art_ext.evaluation.native import FunctionAttack, NativeAttack, PGDAttack
from art_ext.evaluation.plots import bar_chart
from art_ext.evaluation.purified import PurificationReport, evaluate_purification
from art_ext.evaluation.report import AttackResult, RobustnessReport
from art_ext.evaluation.runner import AttackFailedWarning
from art_ext.evaluation.suites import ATTACKS, SUITES, Suite
from art_ext.evaluation.transfer import TransferMatrix, transfer_matrix
from art_ext.evaluation.verdict import Indicator, verdict

__all__ = [
    "ATTACKS",
    "CORRUPTIONS",
    "SUITES",
    "AttackFailedWarning",
    "AttackResult",
    "Comparison",
    "Corruption",
    "CorruptionReport",
    "Cost",
    "FiniteRandomness",
    "FunctionAttack",
    "Indicator",
    "NativeAttack",
    "PGDAttack",
    "PurificationReport",
    "RobustnessReport",
    "Suite",
    "TransferMatrix",
    "bar_chart",
    "compare",
    "counting",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_purification",
    "transfer_matrix",
    "verdict",
]
