"""The grid of images on their way through a purifier."""

import pytest
import torch

from art_ext.evaluation.figures import Stages, stages
from art_ext.nn.masking import Masking
from art_ext.nn.purifiers import UNet


@pytest.mark.parametrize("transform", [None, Masking("rt1", grid=4), Masking("rt3", grid=4)], ids=repr)
def test_rows_are_one_draw_of_the_defense(transform, images):
    torch.manual_seed(0)
    purifier, x = UNet(3, width=4).train(), images[0]
    state = torch.get_rng_state()
    rows = stages(purifier, transform, x, x).rows
    assert torch.equal(torch.get_rng_state(), state)
    assert purifier.training
    assert torch.equal(rows["purified"], rows["adversarial, purified"])
    assert torch.equal(rows["clean"], x)
    hidden = (rows["adversarial, transformed"] == 0).float().mean()
    assert float(hidden) == pytest.approx(0 if transform is None else 0.25, abs=0.01)
    assert list(stages(purifier, transform, x).rows) == ["clean", "purified"]


def test_a_grid_with_a_row_for_each_stage(images):
    figure = Stages(rows={"clean": images[0][:3], "purified": images[0][3:6]}, note="one draw").figure()
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["clean", "purified"]
    assert figure.get_supxlabel() == "one draw"
    shown = figure.axes[4].images[0].get_array()
    torch.testing.assert_close(torch.as_tensor(shown), images[0][4].movedim(0, -1))


BAD = {
    "nothing": {},
    "shapes": {"a": torch.zeros(2, 1, 4, 4), "b": torch.zeros(3, 1, 4, 4)},
    "channels": {"a": torch.zeros(2, 2, 4, 4)},
    "no images": {"a": torch.zeros(4, 4)},
}


@pytest.mark.parametrize("rows", BAD.values(), ids=BAD)
def test_bad_rows_are_refused(rows):
    with pytest.raises(ValueError, match="rows must be images"):
        Stages(rows=rows)
