"""Running foreign code without a trace: random generators and gradients are afterwards what they were before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn


def derive_seed(seed: int, label: str) -> int:
    """A seed for the attack ``label``, in [0, 2³²): the same whatever else is in the suite and in what order.

    Example:
        >>> derive_seed(0, "PGD-20") == derive_seed(0, "PGD-20") != derive_seed(0, "margin-PGD-20")
        True
    """
    return int.from_bytes(sha256(f"{seed}/{label}".encode()).digest()[:4], "big")


def fingerprint(*tensors: Tensor) -> str:
    """A short hash of shapes, dtypes and values."""
    digest = sha256()
    for tensor in tensors:
        digest.update(f"{tensor.shape} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def keeping_random() -> Iterator[None]:
    """Give the global generators of torch (CPU, and CUDA where in use), numpy and Python the state back they had.

    Example:
        >>> before = random.getstate()
        >>> with keeping_random():
        ...     _ = random.random()
        >>> random.getstate() == before
        True
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch (CPU, and CUDA where in use), numpy and Python, and restore all of them.

    ART's attacks draw from numpy's global generator, torchattacks' from torch's.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(0):
        ...     _ = torch.rand(3)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    with keeping_random():
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # pragma: no cover
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield


@contextmanager
def keeping_gradients(module: nn.Module) -> Iterator[None]:
    """Give every parameter the ``.grad`` back that it had: ART's attacks clear and fill it.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> with keeping_gradients(net):
        ...     net(torch.rand(1, 2)).sum().backward()
        >>> net.weight.grad is None
        True
    """
    gradients = [(p, p.grad) for p in module.parameters()]
    try:
        yield
    finally:
        for p, grad in gradients:
            p.grad = grad
