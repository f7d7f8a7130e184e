"""Batches: every example once, in a fresh order, never a single one for BatchNorm."""

from itertools import chain

import numpy as np
import pytest
import torch
from art.data_generators import DataGenerator, NumpyDataGenerator, PyTorchDataGenerator
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from art_ext.engine.batches import GeneratorBatches, TensorBatches, fits
from art_ext.engine.memory import SHARE

CPU = torch.device("cpu")


def numbered(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that are filled with their label."""
    y = np.arange(n)
    return np.tile(y[:, None, None, None], (1, 3, 2, 2)).astype(np.float32), y


def of_tensors(n: int, batch_size: int, *, shuffle: bool = True, channels_last: bool = False) -> TensorBatches:
    return TensorBatches(*numbered(n), batch_size=batch_size, device=CPU, shuffle=shuffle, channels_last=channels_last)


def labels(batches, seed: int = 0) -> list[list[int]]:
    """The labels of one epoch; inputs must belong to them."""
    out = []
    for x, y in batches.epoch(torch.Generator().manual_seed(seed)):
        assert torch.equal(x[:, 0, 0, 0], y.to(x))
        out.append(y.tolist())
    return out


SIZES = {  # examples, batch size -> sizes of the batches
    "exact": (8, 4, [4, 4]),
    "incomplete": (10, 4, [4, 4, 2]),
    "a single one left": (9, 4, [4, 4]),
    "one batch": (3, 4, [3]),
    "one example": (1, 4, [1]),
    "batches of one": (3, 1, [1, 1, 1]),
}


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
@pytest.mark.parametrize("n, batch_size, sizes", SIZES.values(), ids=SIZES)
def test_sizes(n, batch_size, sizes, shuffle):
    batches = of_tensors(n, batch_size, shuffle=shuffle)
    drawn = labels(batches)
    assert [len(y) for y in drawn] == sizes
    assert batches.per_epoch() == len(sizes)
    assert (batches.size, batches.batch_size) == (n, batch_size)
    seen = list(chain(*drawn))
    assert len(set(seen)) == len(seen)
    if not shuffle:
        assert seen == list(range(sum(sizes)))


def test_each_epoch_has_a_new_order_and_leaves_out_another_example():
    batches, order = of_tensors(9, 4), torch.Generator().manual_seed(0)
    epochs = [torch.cat([y for _, y in batches.epoch(order)]).tolist() for _ in range(20)]
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert len({(set(range(9)) - set(epoch)).pop() for epoch in epochs}) > 1


def test_the_order_is_the_seed_s():
    assert labels(of_tensors(16, 4), seed=1) == labels(of_tensors(16, 4), seed=1) != labels(of_tensors(16, 4), seed=2)


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_format_of_each_batch(channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for x, _ in of_tensors(10, 4, channels_last=channels_last).epoch(torch.Generator()):
        assert x.is_contiguous(memory_format=layout)


def test_points_have_no_channels_to_be_last():
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    batches = TensorBatches(x, np.arange(6), batch_size=4, device=CPU, shuffle=False, channels_last=True)
    drawn = torch.cat([points for points, _ in batches.epoch(torch.Generator())])
    np.testing.assert_array_equal(drawn.numpy(), x)


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_a_batch_is_no_view_of_the_users_array(shuffle):
    x, y = numbered(8)
    batches = TensorBatches(x, y, batch_size=4, device=CPU, shuffle=shuffle, channels_last=False)
    for images, targets in batches.epoch(torch.Generator()):
        images.fill_(-1)
        targets.fill_(-1)
    np.testing.assert_array_equal(x, numbered(8)[0])
    np.testing.assert_array_equal(y, np.arange(8))


def test_half_of_the_free_memory_is_for_the_data(monkeypatch):
    free = 1000
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 16 * free))
    most = int(SHARE * free) // 4  # float32
    assert fits(torch.zeros(most), torch.device("cuda"))
    assert not fits(torch.zeros(most + 1), torch.device("cuda"))
    assert fits(torch.zeros(most + 1), CPU)


class Endless(DataGenerator):
    """A generator that knows neither batches nor an end."""

    def __init__(self, x, y, batch_size):
        super().__init__(size=len(x), batch_size=batch_size)
        self._data = x, y
        self._next = 0

    def get_batch(self):
        index = np.arange(self._next, self._next + self.batch_size) % self.size
        self._next += self.batch_size
        return tuple(a[index] for a in self._data)


class Streamed(IterableDataset):
    """A data set without a length."""

    def __init__(self, x, y):
        super().__init__()
        self.pairs = list(zip(torch.from_numpy(x), torch.from_numpy(y), strict=True))

    def __iter__(self):
        return iter(self.pairs)


def of_loader(x, y, batch_size, drop_last=False):
    loader = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size, drop_last=drop_last)
    return PyTorchDataGenerator(loader, len(x), batch_size)


GENERATORS = {  # n, generator of batches of 4 -> sizes of the batches in two epochs
    "PyTorch": (10, of_loader, [[4, 4, 2], [4, 4, 2]]),
    "PyTorch, last dropped": (10, lambda *a: of_loader(*a, drop_last=True), [[4, 4], [4, 4]]),
    "PyTorch, a single one left": (9, of_loader, [[4, 4], [4, 4]]),
    "PyTorch, batches of one": (2, lambda x, y, _: of_loader(x, y, 1), [[1, 1], [1, 1]]),
    "PyTorch, no length": (
        10,
        lambda x, y, size: PyTorchDataGenerator(DataLoader(Streamed(x, y), size), len(x), size),
        [[4, 4, 2], [4, 4, 2]],
    ),
    "NumPy": (10, NumpyDataGenerator, [[4, 4], [4, 4]]),
    "NumPy, whole": (10, lambda *a: NumpyDataGenerator(*a, drop_remainder=False), [[4, 4, 2], [4, 4, 2]]),
    "endless": (10, Endless, [[4, 4, 4], [4, 4, 4]]),
}


@pytest.mark.parametrize("n, make, sizes", GENERATORS.values(), ids=GENERATORS)
def test_generators(n, make, sizes):
    trials = []

    def check(x, y, *, trial):
        trials.append(trial)
        return x, y

    batches = GeneratorBatches(make(*numbered(n), 4), check, device=CPU)
    assert [[len(y) for y in labels(batches)] for _ in range(2)] == sizes
    assert batches.per_epoch() >= len(sizes[0])
    assert trials[0]
    assert not any(trials[1:])


def test_a_generator_keeps_its_own_order():
    batches = GeneratorBatches(of_loader(*numbered(10), 4), lambda x, y, trial: (x, y), device=CPU)
    assert list(chain(*labels(batches), *labels(batches))) == 2 * list(range(10))
