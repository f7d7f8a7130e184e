"""Backward pass differentiable approximation: what a defense without a useful gradient gives to an attacker.

A module (a preprocessor, or a part of the network) applies it inside its ``forward`` and declares it with an attribute
``bpda``, a few words such as ``"identity"``; `art_ext.evaluate` lists what is declared in its report.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def straight_through(exact: Tensor, surrogate: Tensor) -> Tensor:
    """The values of ``exact`` with the gradient of ``surrogate`` (Athalye et al. 2018).

    Args:
        exact: what the defense computes, of any shape; its own gradient is dropped.
        surrogate: a differentiable approximation of the same shape: the input itself (identity), or a softer form of
            the same operation (a temperature, a neighbour that has a gradient).

    Example:
        >>> import torch
        >>> x = torch.tensor([0.26], requires_grad=True)
        >>> y = straight_through((x * 4).round() / 4, x)
        >>> y.item(), torch.autograd.grad(y, x)[0].item()
        (0.25, 1.0)
    """
    return exact.detach() + (surrogate - surrogate.detach())


def declared(module: nn.Module) -> tuple[str, ...]:
    """``"Class: approximation"`` of each part of ``module`` that declares one, in the order of the parts.

    Example:
        >>> class Rounded(nn.Module):
        ...     bpda = "identity"
        >>> declared(nn.Sequential(Rounded(), nn.Linear(2, 2)))
        ('Rounded: identity',)
    """
    told = ((type(part).__name__, getattr(part, "bpda", None)) for part in parts(module))
    return tuple(dict.fromkeys(f"{name}: {words}" for name, words in told if isinstance(words, str)))


def parts(module: nn.Module) -> Iterator[object]:
    """All modules inside, and the ART preprocessors that some of them hold without being their modules."""
    for part in module.modules():
        yield part
        held = getattr(part, "preprocessor", None)
        if held is not None and not isinstance(held, nn.Module):
            yield held
