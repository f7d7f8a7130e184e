"""Epochs in numbers, against closed forms."""

import pytest
import torch
from torch import Tensor, nn

from art_ext.averaging import Averaging
from art_ext.evaluation.figures import Landscape
from art_ext.reproduce.piat_toy import Method, Settings, judging
from art_ext.reproduce.piat_toy.judging import Run, held_by, judge, plane_points, rise, survives_grid, weights_around
from art_ext.reproduce.piat_toy.results import Results
from art_ext.reproduce.piat_toy.settings import METHODS
from art_ext.reproduce.piat_toy.training import Album, Trained

NORMAL, OFFSET = torch.tensor([0.5, -1.0, 0.25]), 0.3


def linear(normal: Tensor = NORMAL, offset: float = OFFSET) -> nn.Linear:
    """Class 1 where normal · x + offset > 0."""
    network = nn.Linear(3, 2)
    weight, bias = torch.stack([torch.zeros(3), normal]), torch.tensor([0.0, offset])
    network.load_state_dict({"weight": weight, "bias": bias})
    return network.eval()


@pytest.fixture
def labelled() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(300, 3, generator=generator) * 2 - 1, torch.randint(2, (300,), generator=generator)


def truth(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Of a linear classifier: the signed distance must be more than ε ‖normal‖₁."""
    return (x @ NORMAL + OFFSET) * (2 * y - 1) > eps * NORMAL.abs().sum()


def test_a_search_of_the_ball_is_exact_for_a_linear_classifier(labelled: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(survives_grid(linear(), *labelled, eps=0.2, per_side=3), truth(*labelled, 0.2))


def test_pgd_is_exact_for_a_linear_classifier(labelled: tuple[Tensor, Tensor], small: Settings) -> None:
    clean, robust = held_by(linear(), *labelled, small, 0)
    assert torch.equal(clean, truth(*labelled, 0.0))
    assert torch.equal(robust, truth(*labelled, small.eps))


def test_what_an_epoch_moves_is_the_area_between_two_boundaries(small: Settings, coarse: None) -> None:
    album = Album(Averaging())
    network = linear(torch.tensor([1.0, 0.0, 0.0]), 0.0)
    album.start(network)
    network.bias.data[1] = -1.0  # from x₁ = 0 to x₁ = 1: a fifth of a plane that is five wide
    album.after_epoch(0, 1, lambda _: None)
    run = judge(Trained(network=network, album=album, seconds=1.0), Method(0.0, 0.5), 0, small)
    line, flat = plane_points()
    between = (flat[:, 0] > 0) & (flat[:, 0] <= 1)
    assert run.moved == (between.double().mean().item(),)
    assert run.moved[0] == pytest.approx(1 / 5, abs=1 / len(line))
    assert run.rise is None


def test_the_plane_is_square_and_runs_along_x1_first() -> None:
    line, flat = plane_points()
    assert len(flat) == len(line) ** 2
    assert torch.equal(flat[: len(line), 0], line)
    assert flat[: len(line), 1].unique().tolist() == [line[0].item()]
    assert not flat[:, 2].any()


def test_every_epoch_is_judged(results: Results, small: Settings) -> None:
    assert [(run.method, run.seed) for run in results.runs] == small.plan()
    for run in results.runs:
        assert len(run.clean) == len(run.robust) == len(run.moved) + 1 == small.epochs + 1
        assert all(0 <= robust <= clean <= 1 for robust, clean in zip(run.robust, run.clean, strict=True))
        assert run.exhaustive <= run.robust[-1]
        assert (run.rise is None) == (run.method not in METHODS.values())


def test_the_loss_around_weights_is_the_loss_at_the_weights_in_the_middle(small: Settings, coarse: None) -> None:
    network = nn.Sequential(linear())
    plane = weights_around(network, 0, small)
    x, y = judging.test_points(small, 0)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(network(judging.adversarial(network, x, y, small, 0)), y)
    assert plane.values[2][2] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("slope, bend, wanted", [(1.0, 0.0, 0.0), (0.0, 1.0, 2 / 3), (5.0, -1.0, -2 / 3)])
def test_a_slope_is_no_rise_and_a_bowl_is(slope: float, bend: float, wanted: float) -> None:
    places = (-1.0, 0.0, 1.0)
    values = tuple(tuple(7 + slope * x + bend * x * x for x in places) for _ in places)
    plane = Landscape(title="", x_label="", y_label="", z_label="", x=places, y=places, values=values)
    assert rise(plane) == pytest.approx(wanted)


def test_runs_are_values(results: Results) -> None:
    first = results.runs[0]
    assert isinstance(first, Run)
    with pytest.raises(AttributeError):
        first.seed = 3  # type: ignore[misc]
