"""ART's numpy-only preprocessors in a chain of PyTorch ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.defences.preprocessor import Preprocessor
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from torch import Tensor

from art_ext.bpda import straight_through


class StraightThrough(PreprocessorPyTorch):
    """A numpy preprocessor of ART, such as `JpegCompression`, that PyTorch chains take and attacks get through.

    ART refuses chains in which numpy and PyTorch preprocessors are mixed, and so do we, for want of a gradient. This
    one computes the values with numpy, on the CPU, and has the gradient of the identity (BPDA), as it declares.

    Args:
        preprocessor: an ART preprocessor that keeps the shape of its inputs.
        device_type: ``"gpu"`` or ``"cpu"``, as in ART: where a call on numpy arrays returns from.

    Raises:
        TypeError: not an ART preprocessor, or one that is PyTorch's already.

    References:
        Athalye et al. 2018, https://arxiv.org/abs/1802.00420

    Example:
        >>> from art.defences.preprocessor import JpegCompression
        >>> jpeg = StraightThrough(JpegCompression(clip_values=(0, 1), quality=50, channels_first=True))
        >>> x = torch.rand(2, 3, 8, 8, requires_grad=True)
        >>> torch.autograd.grad(jpeg.forward(x)[0].sum(), x)[0].unique()
        tensor([1.])
    """

    bpda = "identity"

    def __init__(self, preprocessor: Preprocessor, *, device_type: str = "gpu") -> None:
        if not isinstance(preprocessor, Preprocessor) or isinstance(preprocessor, PreprocessorPyTorch):
            told = type(preprocessor).__name__
            raise TypeError(f"preprocessor must be one of ART's that work on numpy arrays; got {told}")
        super().__init__(
            device_type=device_type,
            is_fitted=preprocessor.is_fitted,
            apply_fit=preprocessor.apply_fit,
            apply_predict=preprocessor.apply_predict,
        )
        self.preprocessor = preprocessor
        self.params = ["preprocessor", "_apply_fit", "_apply_predict"]

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        """What the numpy preprocessor makes of ``x``, with the gradient of the identity; ``y`` as it is.

        Raises:
            ValueError: it changes the shape.
        """
        made, _ = self.preprocessor(x.detach().float().cpu().numpy().copy(), None)
        exact = torch.from_numpy(np.ascontiguousarray(made)).to(x)
        if exact.shape != x.shape:
            name = type(self.preprocessor).__name__
            raise ValueError(f"{name} turns {tuple(x.shape)} into {tuple(exact.shape)}; the shape must stay as it is")
        return straight_through(exact, x), y

    def __repr__(self) -> str:
        """The preprocessor inside."""
        return f"StraightThrough({type(self.preprocessor).__name__})"
