"""What is seen of a running evaluation."""

import numpy as np

from art_ext.evaluation import evaluate, evaluate_corruptions, transfer_matrix
from art_ext.evaluation.progress import ProgressBar
from art_ext.threat import ThreatModel


def test_a_log_file_gets_one_line_for_an_attack(capsys):
    with ProgressBar(2, 10, 20, show=True) as bar:
        for label in ("PGD", "Square"):
            bar.begin(label, 10)
            bar.advance(5, 1)
            bar.advance(5, 2)
    lines = [line.split(" [")[0] + line.split("]")[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["PGD: 10/20 img, accuracy 35.0%", "Square: 20/20 img, accuracy 35.0%"]


def test_log_files_of_evaluations_hold_no_control_characters(capfd, conv_model, images):
    x, y = (np.asarray(t) for t in images)
    threat = ThreatModel("linf", 0.01)
    evaluate(conv_model, x, y, threat=threat, suite=["fgsm", "pgd-20"], indicators=False)
    transfer_matrix({"one": conv_model}, x, y, threat=threat)
    evaluate_corruptions(conv_model, x, y, corruptions=["fog"], severities=[1])
    written = capfd.readouterr().err
    assert {c for c in written if ord(c) < 32} == {"\n"}
    assert [line.split(":")[0] for line in written.splitlines()] == ["FGSM", "PGD-20", "one", "fog-1"]
