"""What our preprocessors have in common, and the registry they enter."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from torch import Tensor, nn

from art_ext.evaluation.adaptive import adaptive_suite
from art_ext.naming import lookup
from art_ext.threat import ThreatModel
from art_ext.validation import Images, check_images


class ModulePreprocessor(PreprocessorPyTorch):
    """An ART preprocessor of images (N, C, H, W) in [0, 1] around a module, which does the work.

    A subclass names its hyper-parameters in ``options``, stores them, calls `_check_params` at the end of its
    constructor, and builds its module of them in `_build`, which refuses bad values. `set_params` changes the module in
    place: a `art_ext.DefendedModel` of it goes on with the new values.

    Args:
        apply_fit: act while a classifier is trained. ART's own ``fit`` applies a preprocessor once to the whole data
            set, so one draw of a random defense stays for all epochs; the trainers of art_ext draw anew for each batch.
        apply_predict: act at prediction, and so in attacks.
        device_type: ``"gpu"`` or ``"cpu"``, as in ART: where a call on numpy arrays computes.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    options: ClassVar[tuple[str, ...]] = ()
    by_trainer: ClassVar[str | None] = None  # the kind of trainer that makes it: plain data, a recipe, cannot
    module: nn.Module | None = None

    def __init__(self, *, apply_fit: bool, apply_predict: bool, device_type: str) -> None:
        super().__init__(device_type=device_type, is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)
        self.params = [*self.options, "_apply_fit", "_apply_predict"]

    @abstractmethod
    def _build(self) -> nn.Module:
        """The module with the present hyper-parameters.

        Raises:
            ValueError: one of them is out of its range.
        """

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        """The defense on ``x`` (N, C, H, W), differentiable or with its BPDA gradient; ``y`` as it is."""
        if x.ndim != 4:
            raise ValueError(f"x must be images (N, C, H, W); got shape {tuple(x.shape)}")
        assert self.module is not None
        return self.module(x), y

    def __call__(self, x: Images, y: Any = None) -> tuple[Images, Any]:
        """As `forward`, on arrays.

        Args:
            x: (N, C, H, W) in [0, 1]; not modified.
            y: returned as it is.

        Raises:
            TypeError: ``x`` is no array of floating point.
            ValueError: of another shape, or outside [0, 1].
        """
        images = torch.from_numpy(check_images(x, input_shape=None, clip=(0.0, 1.0)))
        with torch.no_grad():
            return self.forward(images.to(self.device))[0].cpu().numpy(), y

    def set_params(self, **kwargs: Any) -> None:
        """Change hyper-parameters, or ``_apply_fit`` and ``_apply_predict``; where one is refused, none is changed.

        Raises:
            ValueError: an unknown name (the nearest is proposed), or a value out of its range.
        """
        for key in kwargs:
            lookup(dict.fromkeys(self.params), key, what=f"parameter of {type(self).__name__}")
        before = {key: getattr(self, key) for key in kwargs}
        try:
            super().set_params(**kwargs)
        except (TypeError, ValueError):
            for key, value in before.items():
                setattr(self, key, value)
            raise

    def adaptive_suite(self, threat: ThreatModel | None = None) -> list[Any]:
        """The attacks that this defense has to face, as `art_ext.evaluate` takes them in a list.

        `art_ext.evaluate` runs them by itself where it is given no suite.

        Args:
            threat: what the evaluation is about; the attacks of the present defenses are the same for all.
        """
        return adaptive_suite(self.module, threat)

    def _check_params(self) -> None:
        built = self._build()
        if self.module is None:
            self.module = built.to(self.device)
            return
        for key in filter(partial(hasattr, built), self.options):  # in place: whoever holds the module sees it
            old, new = getattr(self.module, key), getattr(built, key)
            setattr(self.module, key, new.to(old.device) if isinstance(new, Tensor) else new)

    def __repr__(self) -> str:
        """Class and hyper-parameters."""
        told = self.module.extra_repr() if self.module is not None else ""
        return f"{type(self).__name__}({told}, apply_fit={self.apply_fit}, apply_predict={self.apply_predict})"


PREPROCESSORS: dict[str, type[ModulePreprocessor]] = {}
P = TypeVar("P", bound=type[ModulePreprocessor])


def register(name: str, description: str, *, paper: str) -> Callable[[P], P]:
    """Class decorator: put a preprocessor into the registry, from which README, command line and tests read."""

    def enter(cls: P) -> P:
        if name in PREPROCESSORS:
            raise ValueError(f"a preprocessor named {name!r} is registered already: {PREPROCESSORS[name].__name__}")
        cls.name, cls.description, cls.paper = name, description, paper
        PREPROCESSORS[name] = cls
        return cls

    return enter
