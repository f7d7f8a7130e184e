"""Attention random dropping, ARD (Mo et al. 2022, https://arxiv.org/abs/2210.07540), as in the authors' code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.vit.blocks import attention_branches, check_keep


@contextmanager
def attention_dropping(
    model: nn.Module, *, keep: float, generator: torch.Generator | None = None
) -> Iterator[nn.Module]:
    """Meanwhile, gradients go through the attention of each block of ``model`` with probability ``keep`` only.

    In each backward pass and for each block one u ~ U(0, 1) is drawn, for the whole batch: dx_out/dx_in of the
    attention branch is I + 1[u < keep] · J instead of I + J. The forward is the same bit for bit, as is the gradient
    through the MLPs. What is dropped costs no backward. Meant for the gradient with respect to the input: weights of
    a dropped attention get none either.

    Args:
        model: a transformer of timm or torchvision, or one inside wrappers; on any device.
        keep: q in [0, 1].
        generator: of u, on the CPU; default torch's global one.

    Yields:
        ``model``, which has no hook of ours afterwards, whatever happens.

    Raises:
        ValueError: a model without attention that is known; ``keep`` outside [0, 1]; a generator on a GPU.

    Example:
        >>> import timm
        >>> options = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "num_heads": 1, "depth": 2, "num_classes": 2}
        >>> vit = timm.create_model("vit_tiny_patch16_224", **options).eval()
        >>> x = torch.rand(1, 3, 8, 8, requires_grad=True)
        >>> with attention_dropping(vit, keep=0.0):
        ...     (grad,) = torch.autograd.grad(vit(x)[0, 0], x)
        >>> grad.abs().max().item()  # the class token sees the image through attention alone
        0.0
    """
    check_keep(keep, generator)
    dropped = partial(_gated, keep=float(keep), generator=generator)
    with ExitStack() as stack:
        for branch in attention_branches(model):
            stack.callback(branch.register_forward_hook(dropped).remove)
        yield model


def _gated(module: nn.Module, args: Any, out: Any, *, keep: float, generator: torch.Generator | None) -> Any:
    if isinstance(out, tuple):  # torch's own attention returns its weights too, some of timm's the size of the grid
        return _Gate.apply(out[0], keep, generator), *out[1:]
    return _Gate.apply(out, keep, generator)


class _Gate(torch.autograd.Function):
    """The identity, whose backward lets the gradient pass or not."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, keep: float, generator: torch.Generator | None) -> Tensor:
        ctx.keep, ctx.generator = keep, generator
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, None, None]:
        # u < keep and not ≤, as in the paper: u may be 0 and is never 1, so both ends of keep are exact
        passes = torch.rand((), generator=ctx.generator).item() < ctx.keep
        return grads[0] if passes else None, None, None  # None, unlike zeros, spares the branch's backward
