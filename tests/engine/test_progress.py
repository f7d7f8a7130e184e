"""The figures of an epoch, and the bar that shows them."""

import math

import pytest
import torch
from torch import nn

from art_ext.engine import NonFiniteLossError
from art_ext.engine import meter as meter_module
from art_ext.engine.meter import Meter, require_finite
from art_ext.engine.progress import Bar


def meter(losses, *, batches: int | None = None, lr: float = 0.1) -> Meter:
    """After batches of two examples, the first of which is classified correctly."""
    filled = Meter(3, batches or len(losses), torch.device("cpu"), Bar(5, batches or len(losses), False), lr)
    for loss in losses:
        filled.add(torch.tensor(loss), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
        filled.finish_batch(2)
    return filled


def test_means_over_the_batches_so_far():
    row = meter([1.0, 2.0, 6.0], batches=10).look()
    assert row["loss"] == 3.0
    assert row["train_robust"] == 0.5
    assert row["seconds"] > 0
    assert row["images_per_second"] == pytest.approx(6 / row["seconds"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_epoch_batch_and_rate(bad):
    with pytest.raises(
        NonFiniteLossError, match=rf"loss is {bad} at epoch 3, batch 2, learning rate 0\.05; .*grad_clip"
    ):
        meter([1.0, bad, bad, 1.0], lr=0.05).look()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_names_epoch_and_rate(bad):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    require_finite(net, 4, 0.1)
    with torch.no_grad():
        net[1].bias[0] = bad
    with pytest.raises(NonFiniteLossError, match=r"weights are NaN or infinite .* epoch 4, learning rate 0\.1"):
        require_finite(net, 4, 0.1)


def test_the_device_is_read_now_and_then(monkeypatch):
    looks = []
    monkeypatch.setattr(Meter, "look", lambda self: looks.append(self.batch))
    meter([1.0] * 5)
    assert not looks
    monkeypatch.setattr(meter_module, "READ_EVERY", -1.0)
    meter([1.0] * 5)
    assert looks == [1, 2, 3, 4, 5]


def test_counting_a_batch_reads_nothing_back(monkeypatch):
    def read(self):
        pytest.fail("a value was read from the device")

    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, read)
    meter([1.0, 2.0])


def test_the_bar_shows_epoch_loss_accuracies_and_speed(capsys):
    bar = Bar(5, 4, True)
    row = {"loss": 1.23456, "train_robust": 0.125, "images_per_second": 99.6}
    bar.finish(row | {"epoch": 1, "clean": 0.5, "robust": 0.25})
    bar.show(2, 3, row)
    bar.close()
    shown = capsys.readouterr().err
    for part in (
        "epoch 2/5",
        "7/20",
        "loss=1.235",
        "train robust=12.5%",
        "clean=50.0%",
        "robust=25.0%",
        "images/s=100",
    ):
        assert part in shown


def test_a_bar_that_is_off_shows_nothing(capsys):
    bar = Bar(5, 4, False)
    bar.show(1, 1, {"loss": 1.0, "train_robust": 0.0, "images_per_second": 1.0})
    bar.close()
    assert capsys.readouterr() == ("", "")


ROW = {"epoch": 2, "loss": 1.23456, "train_robust": 0.125, "images_per_second": 99.6}


@pytest.mark.parametrize(
    "row, validated",
    [(ROW, ""), (ROW | {"clean": 0.5, "robust": 0.25}, "clean=50.0%, robust=25.0%, ")],
    ids=["no validation", "validation"],
)
def test_a_log_file_gets_one_line_for_an_epoch(capsys, row, validated):
    bar = Bar(5, 4, True)
    for batch in range(1, 5):
        bar.show(2, batch, row)
    bar.finish(row)
    bar.close()
    start, _, figures = capsys.readouterr().err.partition(" [")
    assert start == "epoch 2/5: 8/20 batch"
    assert figures.partition("], ")[2] == f"loss=1.235, train robust=12.5%, {validated}images/s=100\n"


def test_a_log_file_holds_no_control_characters(capfd, make_run):
    make_run(progress=True).train(2)
    assert {c for c in capfd.readouterr().err if ord(c) < 32} == {"\n"}
