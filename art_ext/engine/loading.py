"""A loader whose workers live on from epoch to epoch and are told what to decode, and what else its batches need."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from art_ext.engine.decoding import Decoded, Decoder, Job, be_a_worker


def batches_in(size: int, batch_size: int) -> int:
    """Batches in an epoch: a single example left over is left out, BatchNorm cannot train on it.

    Example:
        >>> batches_in(8, 4), batches_in(9, 4), batches_in(10, 4), batches_in(1, 4)
        (2, 2, 3, 1)
    """
    full, rest = divmod(size, batch_size)
    return full + (rest > 1 or full == 0)


def default_workers() -> int:
    """Half of the cores that this process may use, eight at most, shared among the processes of ``torchrun`` here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // 2 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def draw_seed(generator: torch.Generator) -> int:
    """The seed of an epoch's random crops."""
    return int(torch.randint(2**62, (), generator=generator))


class Feed:
    """What a loader asks for jobs; each epoch puts its own here."""

    jobs: Iterator[Job] = iter(())

    def __iter__(self) -> Iterator[Job]:
        return self.jobs


def as_it_is(batch: Any) -> Any:
    """A batch is complete when it leaves the decoder."""
    return batch


def loader(decoder: Decoder, feed: Feed, workers: int, prefetch: int, *, pin: bool) -> DataLoader[Decoded]:
    """Each pass over it decodes the jobs that ``feed`` holds when it begins."""
    more: dict[str, Any] = {"prefetch_factor": prefetch, "persistent_workers": True} if workers else {}
    return DataLoader(
        decoder,
        batch_size=None,
        sampler=feed,
        collate_fn=as_it_is,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=be_a_worker,
        generator=torch.Generator(),  # else it draws a seed, which no worker uses, from torch's global generator
        **more,
    )


def ahead(jobs: Iterator[Job], count: int) -> Iterator[Job]:
    """The same jobs, so many of them read from disk or net in a thread before they are asked for."""
    with ThreadPoolExecutor(1) as reader:
        pending: deque[Future[Job | None]] = deque(reader.submit(next, jobs, None) for _ in range(count))
        while (job := pending.popleft().result()) is not None:
            pending.append(reader.submit(next, jobs, None))
            yield job


def floats(images: Tensor, device: torch.device, layout: torch.memory_format) -> Tensor:
    """Bytes (N, H, W, C) → float32 (N, C, H, W) in [0, 1] on the device.

    Example:
        >>> floats(torch.full((2, 4, 4, 3), 255, dtype=torch.uint8), torch.device("cpu"), torch.channels_last).unique()
        tensor([1.])
    """
    moved = images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return moved.to(torch.float32, memory_format=layout).div_(255)


def numbered(device: torch.device | str) -> torch.device:
    """``cuda`` → ``cuda:0``, as ART names the device of a classifier.

    Example:
        >>> numbered("cpu")
        device(type='cpu')
    """
    given = torch.device(device)
    return torch.device("cuda", torch.cuda.current_device()) if given == torch.device("cuda") else given
