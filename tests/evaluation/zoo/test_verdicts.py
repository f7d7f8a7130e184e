"""Every broken defense raises an alarm and loses it all to an escalation; no honest network raises one."""

import pytest

from art_ext.evaluation import evaluate
from art_ext.threat import ThreatModel
from tests.evaluation.zoo.broken import ZOO, Broken
from tests.evaluation.zoo.honest import HONEST, Honest
from tests.evaluation.zoo.networks import cifar_images, load_network

IMAGES, RANDOMISED_IMAGES = 12, 6
EPS = 8 / 255
SUITE = ["fgsm", "pgd-20"]  # what looks robust to the simplest attacks is found out by indicators and escalation
AT_ALL_RADII = ("CNN-A", "wide KW", "small CNN", "small CNN, adversarially trained", "linear")
CASES = [(h, 1.0) for h in HONEST] + [(h, scale) for scale in (0.0625, 2.0) for h in HONEST if h.id in AT_ALL_RADII]


@pytest.fixture
def few(monkeypatch):
    """Indicators on a few examples: half the time, and harder for them."""
    for module in ("case", "indicators"):
        for name in ("PROBED", "SURVIVORS"):
            monkeypatch.setattr(f"art_ext.evaluation.{module}.{name}", 8)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.filterwarnings("ignore:attack:art_ext.evaluation.AttackFailedWarning")
@pytest.mark.parametrize("broken", ZOO, ids=lambda b: b.id)
def test_broken_defenses_are_found_out(broken: Broken) -> None:
    """The undefended network has no robustness at all here, so 3 points are the limit.

    What plain PGD breaks anyway (k winners at a share that keeps the accuracy) needs no alarm.
    """
    x, y = (t.numpy() for t in cifar_images(RANDOMISED_IMAGES if broken.randomised else IMAGES))
    model = broken.build(load_network("resnet20"))
    eot = 4 if broken.randomised else "auto"  # the fewest draws that are enough: 20 would take minutes
    report = evaluate(model, x, y, threat=ThreatModel("linf", EPS), suite=SUITE, escalate=True, eot=eot, progress=False)
    assert report.verdict != "trusted" or not broken.looks_robust
    assert report.robust_accuracy <= 0.03, str(report)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "honest, scale",
    [
        pytest.param(h, scale, marks=[pytest.mark.data] if h.needs_data else [], id=f"{h.id}, eps x {scale}")
        for h, scale in CASES
    ],
)
def test_honest_networks_are_trusted(honest: Honest, scale: float) -> None:
    x, y = (t.numpy() for t in honest.images(IMAGES))
    threat = ThreatModel("linf", scale * honest.eps)
    report = evaluate(honest.model(), x, y, threat=threat, suite=["pgd-20", "apgd-dlr"], progress=False)
    assert report.verdict == "trusted", str(report)
