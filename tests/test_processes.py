"""Which rows of a batch are whose, and which random numbers go with them."""

import pytest
import torch

from art_ext.processes import Processes, SharedGenerator, drawn

BATCHES = {"full": 8, "uneven": 7, "last of 26 in batches of 8": 2, "one row": 1}


def numbers_of(rank: int, count: int, n: int) -> tuple[list[float], list[float]]:
    """The random numbers of this process's rows in a batch of ``n``, and of the batch after it."""
    generator = SharedGenerator().manual_seed(0)
    (part,) = Processes(rank, count).parts(n)
    rows = part.rows.stop - part.rows.start
    found = []
    for _ in range(2):
        generator.share(*part.shared, rows)
        found.append(drawn(lambda k: torch.rand(k, generator=generator), rows, generator).tolist())
    return found[0], found[1]


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("n", BATCHES.values(), ids=BATCHES)
def test_a_row_has_the_random_numbers_that_it_has_in_one_process(n, processes):
    alone = numbers_of(0, 1, n)
    for rank in range(processes):
        rows = Processes(rank, processes).rows(n)
        assert numbers_of(rank, processes, n) == tuple(numbers[rows] for numbers in alone)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("n", BATCHES.values(), ids=BATCHES)
def test_weights_make_the_mean_over_the_batch(n, parts):
    found = [Processes(rank, 3).parts(n, parts) for rank in range(3)]
    assert len({len(own) for own in found}) == 1
    assert sum(part.weight for own in found for part in own) / 3 == pytest.approx(1)
    assert sum(own[i].shared[0] for own in found[:1] for i in range(len(own))) == n
