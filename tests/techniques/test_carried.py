"""Perturbations handed on row by row, whatever the sizes of batches and parts."""

import pytest
import torch

from art_ext.engine.state import pack, unpack
from art_ext.processes import Processes
from art_ext.techniques.carried import Carried


def rows(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def used(carried, *sizes):
    """What a batch in parts of these sizes begins with."""
    carried.begin(sum(sizes))
    return [carried.next(torch.zeros(size, 1)) for size in sizes]


def filled(*values):
    carried = Carried()
    carried.begin(len(values))
    carried.next(torch.zeros(len(values), 1))
    carried.keep(rows(*values))
    return carried


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ([4], [rows(1, 2, 3, 4)]),
        ([2, 2], [rows(1, 2), rows(3, 4)]),
        ([1, 2], [rows(1), rows(2, 3)]),
        ([3, 2], [rows(1, 2, 3), None]),
        ([5], [None]),
    ],
    ids=["whole", "parts", "fewer rows", "more rows, in parts", "more rows"],
)
def test_row_by_row(sizes, expected):
    for found, wanted in zip(used(filled(1, 2, 3, 4), *sizes), expected, strict=True):
        assert wanted is None if found is None else torch.equal(found, wanted)


def test_a_smaller_batch_changes_the_first_rows_only():
    carried = filled(1, 2, 3, 4)
    used(carried, 2)
    carried.keep(rows(8, 9))
    assert torch.equal(used(carried, 4)[0], rows(8, 9, 3, 4))


def test_a_larger_batch_adds_rows():
    carried = filled(1, 2)
    assert used(carried, 3) == [None]
    carried.keep(rows(7, 8, 9))
    assert torch.equal(used(carried, 3)[0], rows(7, 8, 9))


def test_parts_of_the_first_batch_begin_with_nothing_each():
    carried = Carried()
    carried.begin(4)
    for values in ((1, 2), (3, 4)):
        assert carried.next(torch.zeros(2, 1)) is None
        carried.keep(rows(*values))
    assert torch.equal(used(carried, 4)[0], rows(1, 2, 3, 4))


def test_several_times_over_the_same_batch():
    carried = filled(1, 2, 3, 4)
    carried.begin(4)
    found = [carried.next(torch.zeros(2, 1)) for _ in range(4)]
    assert torch.equal(torch.cat(found), rows(1, 2, 3, 4, 1, 2, 3, 4))


def test_images_of_another_shape_begin_anew():
    carried = filled(1, 2)
    carried.begin(2)
    assert carried.next(torch.zeros(2, 5)) is None
    carried.keep(torch.ones(2, 5))
    assert torch.equal(carried.next(torch.zeros(2, 5)), torch.ones(2, 5))


def test_they_are_laid_out_like_the_images():
    x = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    carried = Carried()
    carried.begin(2)
    carried.next(x)
    carried.keep(torch.rand(2, 3, 4, 4))
    carried.begin(2)
    assert carried.next(x).stride() == x.stride()


def test_what_it_gives_may_be_changed():
    carried = filled(1, 2)
    used(carried, 2)[0].zero_()
    assert torch.equal(used(carried, 2)[0], rows(1, 2))


@pytest.mark.parametrize("carried", [Carried(), filled(1, 2, 3)], ids=["empty", "filled"])
def test_state(carried):
    other = Carried()
    other.load_state_dict(unpack(*pack(carried.state_dict())))
    found, expected = used(other, 3)[0], used(carried, 3)[0]
    assert expected is None if found is None else torch.equal(found, expected)


def test_state_of_another_number_of_processes():
    other = Carried(Processes(0, 2))
    with pytest.raises(ValueError, match="those of 1 processes, now there are 2: start as many as before"):
        other.load_state_dict(filled(1).state_dict())
