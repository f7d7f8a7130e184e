"""Curves against the exact worst case of linear models, against single runs of PGD, and as pictures."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch import Tensor, nn

from art_ext.attacks import pgd
from art_ext.evaluation.cost import counting
from art_ext.evaluation.figures import (
    Curve,
    accuracy_over_eot,
    accuracy_over_eps,
    accuracy_over_steps,
    figure_of,
    save,
    svg,
)
from art_ext.evaluation.figures.drawing import INK, decorate
from art_ext.evaluation.native import PGDAttack
from art_ext.threat import NORMS, ThreatModel

THREATS = {
    "linf": ThreatModel("linf", 0.1),
    "linf, unbounded": ThreatModel("linf", 0.1, clip=None),
    "l2, unbounded": ThreatModel("l2", 1.0, clip=None),
}
threats = pytest.mark.parametrize("threat", THREATS.values(), ids=THREATS)
FGSM = PGDAttack(name="FGSM", steps=1, relative_step=1.0, random_start=False)
CREEP = PGDAttack(name="creep", steps=1, step_size=0.1, random_start=False)


class Line(nn.Module):
    """Points on a line: class 1 wins where ``score`` is positive."""

    def __init__(self, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.score = score

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((torch.zeros_like(x), self.score(x)), dim=1)


class NoisyGradient(nn.Module):
    """The values of ``body``, and its gradient with noise that fresh draws average away."""

    def __init__(self, body: nn.Module, scale: float) -> None:
        super().__init__()
        self.body, self.scale = body, scale

    def forward(self, x: Tensor) -> Tensor:
        logits, moved = self.body(x), (x - x.detach()).flatten(1)
        return logits + self.scale * moved @ torch.randn(moved.shape[1], logits.shape[1])


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


# Over the radius


@threats
def test_over_eps_is_exact_for_a_linear_model(linear, threat):
    eps = [0.0] + [share * threat.eps for share in (0.05, 0.2, 0.5, 1.0, 3.0)]
    expected = [np.mean(linear.worst_margins(ThreatModel(threat.norm, e or 1e-9, threat.clip)) > 0) for e in eps]
    curve = accuracy_over_eps(linear.classifier, linear.x, linear.y, threat=threat, eps=eps)
    assert curve.x == tuple(eps)
    assert curve.lines == {"worst case": pytest.approx(expected)}
    assert len(set(expected)) >= 4
    assert curve.note == "worst case of margin-PGD-20 and PGD-20; 60 images; seed 0"


def test_over_eps_starts_from_where_the_smaller_radius_ended():
    """One step of 0.1 each: only three of them in a row reach 0.25."""
    x, y = np.zeros((1, 1), np.float32), np.array([0])
    run = {"threat": ThreatModel("linf", 1.0), "attack": CREEP}
    model = Line(lambda x: x - 0.25)
    assert accuracy_over_eps(model, x, y, eps=[0.1, 0.2, 0.3], **run).lines["creep"] == (1.0, 1.0, 0.0)
    assert accuracy_over_eps(model, x, y, eps=[0.3], **run).lines["creep"] == (1.0,)


def test_over_eps_what_was_broken_stays_broken_and_costs_nothing_more():
    """Class 1 wins near 0.25 only: one step of 1 goes beyond it."""
    x, y = np.zeros((3, 1), np.float32), np.array([0, 0, 1])
    run = {"threat": ThreatModel("linf", 1.0), "attack": FGSM}
    model = Line(lambda x: 0.1 + 0.02 * x - (x - 0.25).abs())
    with counting(model) as once:
        assert accuracy_over_eps(model, x, y, eps=[0.25], **run).lines["FGSM"] == (0.0,)
    with counting(model) as twice:
        assert accuracy_over_eps(model, x, y, eps=[0.25, 1.0], **run).lines["FGSM"] == (0.0, 0.0)
    assert (twice.forwards, twice.backwards) == (once.forwards, once.backwards) == (once.forwards, 2)
    assert accuracy_over_eps(model, x, y, eps=[1.0], **run).lines["FGSM"] == (pytest.approx(2 / 3),)


# Over the iterations


@pytest.mark.parametrize("objective", ["ce", "margin", "kl"])
@pytest.mark.parametrize("eot", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_over_steps_equals_runs_of_every_length(conv_model, images, norm, eot, objective):
    x, _ = images
    with torch.no_grad():
        conv_model[-1].bias.sub_(conv_model(x).mean(0))
        y = conv_model(x).argmax(1)
    y[:2] = (y[:2] + 1) % 4  # misclassified without attack
    threat, size = ThreatModel(norm, 0.016 if norm == "linf" else 0.16), 0.004 if norm == "linf" else 0.04
    attack = PGDAttack(name="PGD-6", steps=6, step_size=size, objective=objective, random_start=False)
    curve = accuracy_over_steps(conv_model, x.numpy(), y.numpy(), threat=threat, attack=attack, eot=eot, batch_size=5)
    alive = conv_model(x).argmax(1) == y
    expected = [alive.double().mean().item()]
    for k in range(1, 7):
        run = {"threat": threat, "steps": k, "step_size": size, "objective": objective, "random_start": False}
        alive &= conv_model(pgd(conv_model, x, y, **run)).argmax(1) == y
        expected.append(alive.double().mean().item())
    assert curve.x == tuple(range(7))
    assert curve.lines == {"PGD-6": pytest.approx(expected)}
    if objective != "kl":  # whose gradient is zero at the clean inputs
        assert len(set(expected)) > 2


def test_over_steps_is_one_run(linear):
    attack = PGDAttack(name="PGD-9", steps=9)
    net = linear.net
    with counting(net) as cost:
        accuracy_over_steps(net, linear.x[5:], linear.y[5:], threat=THREATS["linf"], attack=attack)
    tried = 2 * 8  # by `prepare`, once as a module and once as a classifier
    assert (cost.forwards - tried, cost.backwards) == (55 + 10 * 55, 10 * 55)


def test_over_steps_knows_the_worst_of_several(linear):
    attacks = [PGDAttack(name="a", steps=3), PGDAttack(name="b", steps=3, objective="margin", step_size=0.001)]
    curve = accuracy_over_steps(linear.net, linear.x, linear.y, threat=THREATS["linf"], attack=attacks)
    assert [*curve.lines] == ["worst case", "a", "b"]
    assert np.all(np.array(curve.lines["worst case"]) <= np.min([curve.lines["a"], curve.lines["b"]], axis=0))
    assert all(np.all(np.diff(line) <= 0) for line in curve.lines.values())


@pytest.mark.parametrize("function", [accuracy_over_steps, accuracy_over_eps])
def test_nothing_is_left_to_attack(linear, function):
    more = {"eps": [0.0, 0.1]} if function is accuracy_over_eps else {"attack": FGSM}
    curve = function(linear.net, linear.x[:5], linear.y[:5], threat=THREATS["linf"], **more)
    assert list(curve.lines.values()) == [(0.0, 0.0)]


# Over the draws of a gradient


def test_over_eot_more_draws_find_the_worst_case(linear):
    threat = ThreatModel("linf", 0.05, clip=None)
    exact = np.mean(linear.worst_margins(threat) > 0)
    model = NoisyGradient(linear.net, 4.0)
    run = {"threat": threat, "draws": [1, 8, 256], "attack": FGSM, "seeds": [0, 1, 2], "judged": 1}
    curve = accuracy_over_eot(model, linear.x, linear.y, **run)
    one, some, many = curve.lines["FGSM"]
    assert one > some + 0.03 > exact + 0.06
    assert many == pytest.approx(exact, abs=0.03)
    assert curve.lines["FGSM std"][0] > 0


def test_over_eot_mean_and_std_are_of_the_seeds(linear):
    model, threat = NoisyGradient(linear.net, 20.0), ThreatModel("linf", 0.05, clip=None)
    run = {"threat": threat, "draws": [1, 2], "attack": FGSM, "judged": 1}
    alone = [accuracy_over_eot(model, linear.x, linear.y, seeds=[s], **run).lines for s in (0, 1, 2)]
    assert all([*lines] == ["FGSM"] for lines in alone)
    table = np.array([lines["FGSM"] for lines in alone])
    together = accuracy_over_eot(model, linear.x, linear.y, seeds=[0, 1, 2], **run).lines
    assert together == {"FGSM": pytest.approx(table.mean(0)), "FGSM std": pytest.approx(table.std(0, ddof=1))}
    assert table.std(0).max() > 0


def test_over_eot_judges_by_fresh_draws():
    """Heads or tails whatever the attack does: in one draw in four the label is right."""
    model = Line(lambda x: 0 * x + 0.5 - (torch.rand(len(x), 1) < 0.25).float())
    x, y = np.zeros((200, 1), np.float32), np.zeros(200, np.int64)
    run = {"threat": ThreatModel("linf", 0.1), "attack": PGDAttack(name="PGD-3", steps=3), "judged": 20}
    curve = accuracy_over_eot(model, x, y, draws=[1, 4], seeds=[0], **run)
    assert curve.lines["PGD-3"] == pytest.approx([0.25, 0.25], abs=4 * (0.25 * 0.75 / 4000) ** 0.5)


# What all measurements share

SHORT = {"attack": PGDAttack(name="PGD-3", steps=3)}
MEASURES = {
    "eps": lambda *a, seed=0, **options: accuracy_over_eps(*a, eps=[0.01, 0.05], seed=seed, **SHORT, **options),
    "steps": lambda *a, seed=0, **options: accuracy_over_steps(*a, seed=seed, **SHORT, **options),
    "eot": lambda *a, seed=0, **options: accuracy_over_eot(
        *a, draws=[1, 2], seeds=[seed, seed + 1], **SHORT, **options
    ),
}
measures = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


@measures
def test_the_seed_decides_and_nothing_is_left_behind(conv_model, images, measure):
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = conv_model

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x + 0.1 * torch.randn_like(x))

    x, y = (t.numpy() for t in images)
    model = Noisy().train()
    model.body[1].eval()
    model.body[0].weight.requires_grad_(False)
    states = {n: t.clone() for n, t in model.state_dict().items()}
    before, given = torch.get_rng_state(), (x.copy(), y.copy())
    first = measure(model, x, y, threat=THREATS["linf"])
    torch.rand(1)
    assert measure(model, x, y, threat=THREATS["linf"]) == first
    assert any(measure(model, x, y, threat=THREATS["linf"], seed=s).lines != first.lines for s in (1, 2, 3, 4))
    torch.set_rng_state(before)
    measure(model, x, y, threat=THREATS["linf"])
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in model.modules()].count(False) == 1
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(t, states[n]) for n, t in model.state_dict().items())
    assert np.array_equal(x, given[0])


@measures
def test_one_eps_per_example(linear, measure):
    threat = ThreatModel("linf", torch.linspace(0.01, 0.1, len(linear.x)))
    together = measure(linear.net, linear.x, linear.y, threat=threat, batch_size=7)
    assert all(0 <= v <= 1 for line in together.lines.values() for v in line)


BAD = {
    "eps falling": (accuracy_over_eps, {"eps": [0.2, 0.1]}, r"eps must hold ascending finite .*least 0; got \[0.2"),
    "eps negative": (accuracy_over_eps, {"eps": [-0.1]}, "eps must hold ascending finite numbers, at least 0"),
    "eps NaN": (accuracy_over_eps, {"eps": [nan]}, "eps must hold"),
    "no eps": (accuracy_over_eps, {"eps": []}, "eps must hold"),
    "one eps": (accuracy_over_eps, {"eps": 0.1}, "eps must be a sequence of numbers; got 0.1"),
    "eot": (accuracy_over_eps, {"eps": [0.1], "eot": 0}, "eot must be"),
    "eot auto": (accuracy_over_steps, {"eot": "auto"}, "eot must be a whole number"),
    "name of an attack": (accuracy_over_steps, {"attack": "pgd-20"}, "attack must be a PGDAttack or several"),
    "no attack": (accuracy_over_steps, {"attack": []}, "attack must be a PGDAttack or several"),
    "restarts": (accuracy_over_steps, {"attack": replace(FGSM, restarts=2)}, "without restarts"),
    "twice": (accuracy_over_eps, {"eps": [0.1], "attack": [FGSM, FGSM]}, "different names"),
    "lengths": (accuracy_over_steps, {"attack": [FGSM, PGDAttack(name="b", steps=2)]}, "equal steps; got 1, 2"),
    "half a draw": (accuracy_over_eot, {"draws": [1.5]}, "draws must hold ascending whole numbers, at least 1"),
    "no draw": (accuracy_over_eot, {"draws": [0, 1]}, "draws must hold ascending whole numbers, at least 1"),
    "no seeds": (accuracy_over_eot, {"seeds": []}, "seeds must hold at least one"),
    "seed": (accuracy_over_eot, {"seeds": [-1]}, "seed must be a whole number of at least 0; got -1"),
    "judged": (accuracy_over_eot, {"judged": 0}, "judged must be a whole number of at least 1; got 0"),
    "threat": (accuracy_over_steps, {"threat": 0.1}, "threat must be a ThreatModel"),
    "batch": (accuracy_over_eps, {"eps": [0.1], "batch_size": 0}, "batch_size must be"),
}


@pytest.mark.parametrize("function, options, message", BAD.values(), ids=BAD)
def test_bad_options_before_any_work(linear, function, options, message):
    with counting(linear.net) as cost, pytest.raises((TypeError, ValueError), match=message):
        function(linear.net, linear.x, linear.y, **{"threat": THREATS["linf"]} | options)
    assert cost.forwards == 0


# A start of one's own


@pytest.mark.parametrize("options", [{}, {"track_best": True}], ids=["plain", "track best"])
@pytest.mark.parametrize("norm", NORMS)
def test_pgd_goes_on_from_a_start(conv_model, images, norm, options):
    x, y = images
    run = {"threat": ThreatModel(norm, 0.1), "step_size": 0.03, "random_start": False}
    first = pgd(conv_model, x, y, steps=3, **run)
    kept = first.clone()
    whole, continued = pgd(conv_model, x, y, steps=7, **run), pgd(conv_model, x, y, steps=4, start=first, **run)
    torch.testing.assert_close(continued, whole, rtol=0, atol=1e-6)
    assert torch.equal(first, kept)
    assert not torch.equal(first, whole)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_projects_its_start(conv_model, images, norm):
    x, y = images
    threat = ThreatModel(norm, 0.1)
    far = pgd(conv_model, x, y, threat=threat, steps=1, step_size=1e-9, random_start=False, start=x + 3)
    torch.testing.assert_close(far, threat.project(x + 3, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "start takes the place of the random start: give random_start=False and restarts=1.*random_start=True"),
        ({"random_start": False, "restarts": 2}, "restarts=2"),
        ({"random_start": False, "start": torch.zeros(1, 3, 8, 8)}, r"start must have the shape of x, \(16, 3, 8, 8\)"),
    ],
    ids=["random start", "restarts", "shape"],
)
def test_pgd_refuses_a_start_that_would_not_be_used(conv_model, images, options, message):
    x, y = images
    with pytest.raises(ValueError, match=message):
        pgd(conv_model, x, y, threat=ThreatModel("linf", 0.1), **{"start": x} | options)


# The value, and its picture

CURVE = Curve(
    title="costs $5 or $6",
    x_label="draws",
    x=(1, 2, 4),
    lines={"a": (0.9, 0.5, 0.25), "a std": (0.1, 0.0, 0.05), "b": (0.8, 0.7, 0.6)},
    log_x=True,
    note="PGD-20, ℓ∞ ε=0.1; 4 images; seed 0",
)


def test_curve_as_json():
    assert Curve.from_dict(json.loads(json.dumps(CURVE.to_dict()))) == CURVE
    assert CURVE.x == (1.0, 2.0, 4.0)
    with pytest.raises(ValueError, match=r"missing or unknown: \['colour', 'title'\]"):
        Curve.from_dict({k: v for k, v in CURVE.to_dict().items() if k != "title"} | {"colour": "red"})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"lines": {}}, "lines must hold at least one line"),
        ({"lines": {"a": (0.5, 0.5)}}, r"lines\['a'\] must hold 3 finite values, as many as x; got \(0.5, 0.5\)"),
        ({"lines": {"a": (0.5, 0.5, nan)}}, "3 finite values"),
        ({"x": (1, 1, 2)}, "x must hold ascending finite numbers"),
        ({"x": (-inf, 1, 2)}, "x must hold ascending finite numbers"),
        ({"x": (-1, 1, 2)}, "x must be ≥ 0 on a logarithmic axis; got -1"),
    ],
    ids=["no lines", "length", "NaN", "not ascending", "infinite", "log of negative"],
)
def test_curve_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CURVE, **changes)


def test_curve_is_drawn():
    axes = CURVE.figure().axes[0]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.9, 0.5, 0.25], [0.8, 0.7, 0.6]]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a, mean ± std", "b"]
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((0.2, 1.0))
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "4"]
    assert axes.get_ylim() == (0, 1.02)
    assert axes.texts[0].get_text() == CURVE.note


def test_a_logarithmic_axis_may_begin_at_zero():
    curve = Curve(title="", x_label="", x=range(33), lines={"a": [0.5] * 33}, log_x=True, y_label="loss")
    axes = curve.figure().axes[0]
    assert axes.get_xscale() == "symlog"
    assert axes.get_xticks().tolist() == [0, 1, 2, 4, 8, 16, 32]
    assert axes.get_legend() is None


# Figures


def test_svg_is_one_element_that_fits_into_a_page():
    text = svg(CURVE)
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    texts = ["".join(e.itertext()) for e in root.iter() if e.tag.endswith("text")]
    assert {"costs $5 or $6", "draws", "a, mean ± std", CURVE.note} <= set(texts)
    assert "<style" not in text
    assert "<metadata" not in text
    assert INK not in text
    assert text.count("currentColor") > 10
    assert not re.search(r"fill: (#ffffff|#fff|white|#000000)\b", text), "a background, or text in fixed black"


def test_svg_is_deterministic_and_has_identifiers_of_its_own():
    one, again, other = svg(CURVE), svg(CURVE), svg(replace(CURVE, title="another"))
    assert one == again
    marks = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    assert len(marks[0]) > 10
    assert not marks[0] & marks[1]
    for text, known in zip((one, other), marks, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', text)) <= known


def test_pictures_leave_matplotlib_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    svg(CURVE)
    save(CURVE, tmp_path / "curve.pdf")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("suffix, head", [("svg", b"<svg "), ("png", b"\x89PNG"), ("PDF", b"%PDF")])
def test_save_by_suffix(tmp_path, suffix, head):
    one, two = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    save(CURVE, one)
    save(CURVE.figure(), two)
    assert one.read_bytes().startswith(head)
    assert one.read_bytes() == two.read_bytes()
    assert sorted(tmp_path.iterdir()) == [one, two]


def test_save_has_a_white_background(tmp_path):
    save(CURVE, tmp_path / "a.png")
    assert imread(tmp_path / "a.png")[0, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["curve.xyz", "curve"])
def test_save_refuses_an_unknown_format(tmp_path, name):
    with pytest.raises(ValueError, match=r"path must end in one of .*\.png, .*; got '.*curve"):
        save(CURVE, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", [svg, lambda f: save(f, "a.png")], ids=["svg", "save"])
def test_only_figures_are_drawn(function):
    with pytest.raises(TypeError, match=r"figure_like must be a matplotlib Figure or have a method figure.*got str"):
        function("curve")


def test_decorated_axes_are_in_one_ink():
    figure = figure_of(lambda axes: decorate(axes, title="t", x_label="x", y_label="y", note="word " * 40))
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.texts]
    assert {to_rgba(t.get_color()) for t in texts if t.get_text()} == {to_rgba(INK)}
    assert axes.texts[0].get_text().count("\n") >= 1
