"""Training of a `ForensicNet` on crafted images, and the threshold that keeps a rate of false alarms."""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.isolation import derive_seed
from art_ext.nn.forensics import ForensicNet
from art_ext.progress import progress_bar

Row = dict[str, float]


def score(logits: Tensor) -> Tensor:
    """Log-odds that an image was attacked, (N,), of logits of families (N, F) with "none" first.

    Example:
        >>> score(torch.tensor([[0.0, 1.0, 1.0]])).item() == 1 + torch.tensor(2.0).log().item()
        True
    """
    return logits[:, 1:].logsumexp(1) - logits[:, 0]


def verdict(logits: Tensor, threshold: float) -> Tensor:
    """The family that is said, (N,) int64: 0 where the score is not above the threshold, else the likeliest attack.

    Example:
        >>> verdict(torch.tensor([[0.0, 1.0, 2.0], [0.0, -5.0, -6.0]]), 0.5)
        tensor([2, 0])
    """
    attack = logits[:, 1:].argmax(1) + 1
    return torch.where(score(logits) > threshold, attack, torch.zeros_like(attack))


def conformal_threshold(clean: Tensor, rate: float) -> float:
    """The score that a clean image exceeds with a probability of at most ``rate``: split conformal prediction.

    It is the ⌈(n + 1)(1 − rate)⌉-th smallest of ``n`` scores, and holds for new images from where these came, whatever
    the detector is worth (Vovk et al. 2005).

    Args:
        clean: scores (n,) of clean images that the detector was not trained on.
        rate: of false alarms, in (0, 1).

    Raises:
        ValueError: too few scores for such a rate.

    Example:
        >>> conformal_threshold(torch.arange(1.0, 20.0), 0.05), conformal_threshold(torch.arange(1.0, 20.0), 0.5)
        (19.0, 10.0)
    """
    check_enough(len(clean), rate)
    rank = ceil(round((len(clean) + 1) * (1 - rate), 9))  # 20 · 0.95 is 19, not the next number
    return float(clean.sort().values[rank - 1])


def check_enough(count: int, rate: float) -> None:
    """Refuse too few clean images for a rate of false alarms, see `images_needed`."""
    if count < (needed := images_needed(rate)):
        raise ValueError(
            f"a false positive rate of {rate:g} takes at least {needed} clean images that are not trained on; there "
            f"are {count}: give more images, a larger held_out, or calibration="
        )


def images_needed(rate: float) -> int:
    """How many clean images a threshold takes: ⌈1 / rate⌉ − 1.

    Example:
        >>> images_needed(0.05), images_needed(0.01)
        (19, 99)
    """
    return ceil(round(1 / rate, 9)) - 1


def held_out(source: Tensor, share: float, *, among: Tensor | None = None, seed: int = 0) -> Tensor:
    """Which rows are kept from training, (N,) bool: all that come from a share of the sources, drawn at random.

    Args:
        source: number of the clean image that each row was made of, (N,).
        share: of the sources, in [0, 1).
        among: rows (N,) whose sources can be drawn; None: all.
        seed: of the draw.

    Example:
        >>> held_out(torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]), 0.5).view(2, 4).sum(1)
        tensor([2, 2])
    """
    known = (source if among is None else source[among]).unique()
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(derive_seed(seed, "held out")))
    return torch.isin(source, known[order[: round(share * len(known))]])


def train(
    net: ForensicNet,
    x: Tensor,
    evidence: Tensor,
    family: Tensor,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    progress: bool = False,
) -> list[Row]:
    """Adam on the cross entropy, each family weighing the same; the learning rate falls to 0 along a cosine.

    Args:
        net: is trained in place, and left in eval mode.
        x: images (M, C, H, W), on the CPU.
        evidence: of each (M, E), on the CPU.
        family: of each (M,) int64.
        epochs: passes.
        batch_size: at least 2.
        learning_rate: of the first step.
        generator: of the order, on the CPU.
        progress: show a progress bar.

    Returns:
        ``loss`` and ``accuracy`` of each epoch, in training.
    """
    device = next(net.parameters()).device
    counts = torch.bincount(family, minlength=net.verdict.out_features)
    weight = (1 / counts.clamp(min=1).double()).float()
    weight = (weight / weight[family].mean()).to(device)
    steps = max(len(x) // batch_size, 1)
    adam = torch.optim.Adam(net.parameters(), lr=learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs * steps)
    rows: list[Row] = []
    net.train()
    try:
        with progress_bar(epochs, "epoch", show=progress) as bar:
            for _ in range(epochs):
                order = torch.randperm(len(x), generator=generator)[: max(steps * batch_size, 2)]
                total = torch.zeros(2, device=device)
                for index in order.split(batch_size):
                    batch = (t[index].to(device) for t in (x, evidence, family))
                    total += _step(net, adam, weight, *batch)
                    cosine.step()
                loss, right = (total / len(order)).tolist()
                rows.append({"loss": loss, "accuracy": right})
                bar.set_postfix_str(f"loss {loss:.3f}, accuracy {right:.1%}")
                bar.update()
    finally:
        net.eval()
        net.zero_grad(set_to_none=True)
    return rows


def _step(
    net: nn.Module, adam: torch.optim.Optimizer, weight: Tensor, x: Tensor, evidence: Tensor, family: Tensor
) -> Tensor:
    """Sum of the losses, and number of images whose family is said right."""
    with torch.enable_grad():
        logits = net(x, evidence)
        loss = (weight[family] * F.cross_entropy(logits, family, reduction="none")).mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
    with torch.no_grad():
        return torch.stack((loss.detach() * len(x), (logits.argmax(1) == family).sum()))
