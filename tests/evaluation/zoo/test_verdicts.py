"""Every broken defense raises an alarm and loses it all to an escalation; no honest network raises one."""

import pytest

from art_ext.evaluation import evaluate
from art_ext.threat import ThreatModel
from tests.evaluation.zoo.broken import ZOO, Broken
from tests.evaluation.zoo.honest import HONEST, Honest
from tests.evaluation.zoo.networks import cifar_images, load_network

IMAGES, RANDOMISED_IMAGES = 24, 8
EPS = 8 / 255


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
    report = evaluate(model, x, y, threat=ThreatModel("linf", EPS), escalate=True, eot=eot, progress=False)
    assert report.verdict != "trusted" or not broken.looks_robust
    assert report.robust_accuracy <= 0.03, str(report)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "honest", [pytest.param(h, marks=[pytest.mark.data] if h.needs_data else []) for h in HONEST], ids=lambda h: h.id
)
@pytest.mark.parametrize("scale", [0.0625, 1.0, 2.0], ids=lambda s: f"eps x {s}")
def test_honest_networks_are_trusted(honest: Honest, scale: float) -> None:
    x, y = (t.numpy() for t in honest.images(IMAGES))
    report = evaluate(honest.model(), x, y, threat=ThreatModel("linf", scale * honest.eps), progress=False)
    assert report.verdict == "trusted", str(report)
