"""What a recipe is: a description of a training run and of its evaluation, in sections that are plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from art_ext.engine import EngineOptions

Options = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """The network, an architecture of timm or of `art_ext.nn.cifar`; see `art_ext.adapters.timm.timm_classifier`.

    Args:
        name: of the architecture, e.g. resnet18.
        options: further arguments of the architecture, e.g. {width: 8}.
        stem: of a ResNet; auto takes the one for small images up to 64 pixels.
        pretrained: begin with timm's weights.
        checkpoint: a file of weights to begin with.
        num_classes: outputs; by default as many as the data have.
        input_shape: channels, height and width; by default those of the data.
        mean: per channel on the [0, 1] scale; by default what the architecture was made for.
        std: as mean.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
    """

    name: str
    options: Options = field(default_factory=dict)
    stem: Literal["auto", "cifar", "imagenet"] = "auto"
    pretrained: bool = False
    checkpoint: str | None = None
    num_classes: int | None = None
    input_shape: tuple[int, int, int] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """The images.

    Args:
        name: of the data set, see art-ext list data.
        root: folder of the data set; by default the one that the environment variable ART_EXT_DATA names.
        train_examples: use only so many training images, drawn with the seed of the trainer; by default all.
        test_examples: the same of the test images.
        classes: keep only these, numbered anew in this order; by default all.
        label_noise: share of the training labels to replace by wrong ones.
        validation_split: share of the training images to hold out, for the choice of the best epoch.
    """

    name: str
    root: str | None = None
    train_examples: int | None = None
    test_examples: int | None = None
    classes: list[int] | None = None
    label_noise: float = 0.0
    validation_split: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no data set could give."""
        for name in ("train_examples", "test_examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or null for all; got {value!r}")
        if not 0 <= self.validation_split < 1:
            raise ValueError(f"validation_split must be in [0, 1); got {self.validation_split!r}")


@dataclass(frozen=True, kw_only=True)
class ThreatSection:
    """What the attacker may do, in training and in evaluation.

    Args:
        eps: radius on the [0, 1] scale of the images, e.g. 8/255.
        norm: linf or l2.
    """

    eps: float
    norm: Literal["linf", "l2"] = "linf"


@dataclass(frozen=True, kw_only=True)
class TrainerSection(EngineOptions):
    """How it is trained: a loss, an inner PGD attack, an averaging, and every option of the engine.

    Args:
        loss: see art-ext list losses.
        loss_options: hyper-parameters of the loss, e.g. {beta: 6}.
        averaging: see art-ext list averagings; null for none.
        averaging_options: arguments of the averaging, e.g. {decay: 0.999}.
        steps: of the inner attack.
        step_size: of the inner attack on the [0, 1] scale; by default 2.5 · eps / steps.
        batch_size: images per step.
        nb_epochs: how long.
        augment: crop-flip, crop or flip, see art-ext list augmentations; null for none.
    """

    loss: str = "pgd-at"
    loss_options: Options = field(default_factory=dict)
    averaging: str | None = None
    averaging_options: Options = field(default_factory=dict)
    steps: int = 10
    step_size: float | None = None
    batch_size: int = 128
    nb_epochs: int = 20
    augment: str | None = None  # narrower than the engine's: a function is no data

    def __post_init__(self) -> None:
        """Refuse values out of range before any work."""
        if self.checkpoint_dir is not None:
            raise ValueError("checkpoint_dir is the folder of the run (--output), it cannot be part of a recipe")
        options = {name: getattr(self, name) for name in EngineOptions.__dataclass_fields__}
        EngineOptions(**options | {"checkpoint_dir": "."})  # its own checks: a run will have some folder
        for name in ("batch_size", "nb_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class OptimizerSection:
    """The optimizer of the weights.

    Args:
        name: sgd, adam or adamw.
        lr: learning rate at the start.
        weight_decay: of all parameters.
        options: further arguments of the torch optimizer, e.g. {momentum: 0.9}.
    """

    name: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 0.0
    options: Options = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScheduleSection:
    """How the learning rate changes; all schedules are told in shares of the epochs, so they stretch with nb_epochs.

    Args:
        name: constant, piecewise-linear, multistep or cosine.
        options: arguments of the schedule, e.g. {milestones: [0.5, 0.75]}.
    """

    name: str = "constant"
    options: Options = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """How the trained network is judged; see `art_ext.evaluate`.

    Args:
        suite: name of a suite or of an attack, or a list of attacks; see art-ext list suites.
        n_examples: attack only the first so many test images.
        batch_size: images per pass.
        seed: of all random choices.
        which: the weights of the best or of the last epoch; by default best where there are held-out images.
        escalate: run what the indicators propose, too.
        time_budget: in seconds.
    """

    suite: str | list[str] = "fast"
    n_examples: int | None = None
    batch_size: int = 128
    seed: int = 0
    which: Literal["best", "last"] | None = None
    escalate: bool = False
    time_budget: float | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run and its evaluation, complete: the same recipe gives the same weights on the same machine.

    Args:
        description: one line.
        paper: address of the publication it follows.
        model: the network.
        data: the images.
        threat: what the attacker may do.
        trainer: loss, attack, averaging, epochs.
        optimizer: of the weights.
        schedule: of the learning rate.
        evaluation: suite of attacks.

    Example:
        >>> from dataclasses import replace
        >>> recipe = Recipe(model=ModelSection(name="small_cnn"), data=DataSection(name="digits"),
        ...                 threat=ThreatSection(eps=0.1))
        >>> replace(recipe, trainer=replace(recipe.trainer, loss="trades")).trainer.loss
        'trades'
    """

    description: str = ""
    paper: str = ""
    model: ModelSection
    data: DataSection
    threat: ThreatSection
    trainer: TrainerSection = field(default_factory=TrainerSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)


SECTIONS: Mapping[str, type[Any]] = {
    "model": ModelSection,
    "data": DataSection,
    "threat": ThreatSection,
    "trainer": TrainerSection,
    "optimizer": OptimizerSection,
    "schedule": ScheduleSection,
    "evaluation": EvaluationSection,
}
TEXTS = ("description", "paper")
# a name and the options that belong to it: another name takes over none of the former one's options
NAMED_OPTIONS = (
    ("model", "name", "options"),
    ("trainer", "loss", "loss_options"),
    ("trainer", "averaging", "averaging_options"),
    ("optimizer", "name", "options"),
    ("schedule", "name", "options"),
)
NOT_IN_RECIPES = frozenset({"checkpoint_dir"})  # the engine's option for what the command calls the output
