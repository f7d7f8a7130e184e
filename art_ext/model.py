"""An ART classifier seen as one `torch.nn.Module`, and context managers that restore exactly what they change."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from art.defences.preprocessor import Preprocessor
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std.numpy import StandardisationMeanStd
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from art.preprocessing.standardisation_mean_std.utils import broadcastable_mean_std
from torch import Tensor, nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Put ``module`` in eval mode and give every submodule its own mode back on the way out, also after an error."""
    modes = [(m, m.training) for m in module.modules()]
    try:
        yield module.eval()
    finally:
        for m, mode in modes:
            m.training = mode


@contextmanager
def frozen(module: nn.Module) -> Iterator[nn.Module]:
    """Take ``module``'s parameters out of autograd and restore each one's flag on the way out, also after an error."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    try:
        for p in trainable:
            p.requires_grad_(False)
        yield module
    finally:
        for p in trainable:
            p.requires_grad_(True)


class _ArtStep(nn.Module):
    """One ART PyTorch preprocessor inside the chain; autograd runs through its ``forward``."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        super().__init__()
        self.preprocessor = preprocessor  # itself an nn.Module in some ART classes, a plain object in others
        module = getattr(preprocessor, "module", None)
        if isinstance(module, nn.Module):  # what it works with; its tensors go to the network's device
            self.module = module

    def forward(self, x: Tensor) -> Tensor:
        applies = self.preprocessor.apply_fit if self.training else self.preprocessor.apply_predict
        return self.act(x) if applies else x

    def act(self, x: Tensor) -> Tensor:
        return self.preprocessor.forward(x, None)[0]


class _Standardise(_ArtStep):
    """ART's mean/std step with its constants kept on the device instead of copied there in each call."""

    def __init__(self, preprocessor: StandardisationMeanStd | StandardisationMeanStdPyTorch) -> None:
        super().__init__(preprocessor)
        self.register_buffer("mean", torch.as_tensor(preprocessor.mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.as_tensor(preprocessor.std, dtype=torch.float32), persistent=False)

    def act(self, x: Tensor) -> Tensor:
        mean, std = broadcastable_mean_std(x, self.mean, self.std)
        return (x - mean) / std


class DefendedModel(nn.Module):
    """A classifier with all its PyTorch preprocessors as one module: clean inputs in, float32 logits out.

    What an attacker must differentiate through: preprocessors first, in ART's order, then the network. In eval mode the
    preprocessors with ``apply_predict`` act, in train mode those with ``apply_fit``, as in ART. The network is shared
    with the classifier, not copied. Any PyTorch attack library can attack a whole defense through this module.

    Args:
        classifier: an ART `PyTorchClassifier`.

    Raises:
        TypeError: ``classifier`` is not a `PyTorchClassifier`.
        ValueError: a preprocessor in the chain has no PyTorch version, or a postprocessor changes the predictions.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        >>> art_classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 2, 2), 3, clip_values=(0, 1))
        >>> DefendedModel(art_classifier)(torch.rand(5, 3, 2, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, classifier: PyTorchClassifier) -> None:
        super().__init__()
        require_pytorch_classifier(classifier)
        self.steps = nn.ModuleList(filter(None, map(_torch_step, classifier.preprocessing_operations)))
        self.network: nn.Module = classifier.model
        device = next((t.device for t in _tensors(self.network)), classifier.device)
        self.steps.to(device).train(self.network.training)
        self.training = self.network.training

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C), in float32 (float64 for a float64 network), of inputs ``x`` (N, ...)."""
        for step in self.steps:
            x = step(x)
        logits: Tensor = self.network(x)
        if not isinstance(logits, Tensor) or logits.dtype == torch.float64:
            return logits  # whoever asked for logits says what is wrong with a tuple
        return logits.float()

    def around(self, network: nn.Module) -> DefendedModel:
        """The same preprocessors around another network (an average of this one, say)."""
        other = copy.copy(self)
        other._modules = {**self._modules, "network": network}
        return other

    @property
    def device(self) -> torch.device:
        """Where the network's weights live (the CPU for a network without any)."""
        return next((t.device for t in _tensors(self.network)), torch.device("cpu"))


class Surrogate(nn.Module):
    """A faster model (lower precision, say) that attacks differentiate, with the exact one that judges their success.

    Args:
        fast: called by `forward`.
        exact: the undisturbed model, for `judge_of`.
        trusted: the two nearly always agree, so the exact one is asked only about what the fast one believes fooled;
            else (an undefended twin, say) about every point of the way.
        rows: above 0, the model is randomised and draws for each example by itself, so that several draws may share a
            pass of up to so many examples.
    """

    def __init__(self, fast: nn.Module, exact: nn.Module, *, trusted: bool = True, rows: int = 0) -> None:
        super().__init__()
        self.fast, self.exact, self.trusted, self.rows = fast, exact, trusted, rows
        self.training = exact.training

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C) of the fast model."""
        logits: Tensor = self.fast(x)
        return logits


def judge_of(model: nn.Module) -> nn.Module:
    """The model that decides whether an example fools ``model``: the exact one behind a `Surrogate`, else itself."""
    return model.exact if isinstance(model, Surrogate) else model


@torch.no_grad()
def misclassified(model: nn.Module, x: Tensor, y: Tensor, asked: Tensor) -> Tensor:
    """Which of the examples ``asked`` (mask) ``model`` gets wrong, (N,) bool; the others are not passed forward."""
    wrong = asked.clone()
    if bool(asked.any()):
        wrong[asked] = model(x[asked]).argmax(1) != y[asked]
    return wrong


def confirmed(model: nn.Module, x_adv: Tensor, y: Tensor, believed: Tensor) -> Tensor:
    """Which of the examples that ``model`` believes misclassified are so for the exact model behind it, (N,) bool."""
    if not isinstance(model, Surrogate):
        return believed
    return misclassified(model.exact, x_adv, y, believed if model.trusted else torch.ones_like(believed))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _torch_step(preprocessor: Preprocessor) -> nn.Module | None:
    if isinstance(preprocessor, StandardisationMeanStd | StandardisationMeanStdPyTorch):
        plain = not (preprocessor.mean != 0).any() and not (preprocessor.std != 1).any()
        return None if plain else _Standardise(preprocessor)
    if isinstance(preprocessor, PreprocessorPyTorch):
        return _ArtStep(preprocessor)
    name = type(preprocessor).__name__
    raise ValueError(
        f"the preprocessor {name} works on numpy arrays only, so no gradient can pass through it; use a "
        f"PreprocessorPyTorch (ART has {name}PyTorch for several), wrap it in art_ext.preprocessors.StraightThrough, "
        "whose gradient is that of the identity (BPDA), or subclass PreprocessorPyTorch and write its `forward`"
    )


def require_pytorch_classifier(classifier: Any) -> None:
    """Refuse anything that is not an ART `PyTorchClassifier` with logits that a postprocessor leaves alone.

    Raises:
        TypeError: not a `PyTorchClassifier`.
        ValueError: it has postprocessors, which act in ``predict`` only and so hide gradients from an attacker.
    """
    if not isinstance(classifier, PyTorchClassifier):
        raise TypeError(
            f"classifier must be an art.estimators.classification.PyTorchClassifier; got {type(classifier).__name__}"
        )
    if classifier.postprocessing_defences:
        names = ", ".join(type(p).__name__ for p in classifier.postprocessing_defences)
        raise ValueError(f"postprocessing defences ({names}) act outside the gradient; remove them from the classifier")
