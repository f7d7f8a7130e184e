"""What a recipe is: a description of a training run and of its evaluation, in sections that are plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from art_ext.recipes.data_section import DataSection
from art_ext.recipes.training_sections import OptimizerSection, Options, ScheduleSection, TrainerSection


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """The network, an architecture of timm or of `art_ext.nn.cifar`; see `art_ext.adapters.timm.timm_classifier`.

    Args:
        name: of the architecture, e.g. resnet18.
        options: further arguments of the architecture, e.g. {width: 8}.
        preprocessors: in front of the network, in this order, e.g. [{name: noise-injection, scale: 0.1}]; see art-ext
            list preprocessors.
        stem: of a ResNet; auto takes the one for small images up to 64 pixels.
        pretrained: begin with timm's weights.
        checkpoint: a file of weights to begin with.
        parametric_noise: noise on the weights, of a size that is learnt for each layer, channel or element; null for
            none. Its loss is alp with {weight: 0}.
        num_classes: outputs; by default as many as the data have.
        input_shape: channels, height and width; by default those of the data.
        mean: per channel on the [0, 1] scale; by default what the architecture was made for.
        std: as mean.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
    """

    name: str
    options: Options = field(default_factory=dict)
    preprocessors: list[dict[str, Any]] = field(default_factory=list)
    stem: Literal["auto", "cifar", "imagenet"] = "auto"
    pretrained: bool = False
    checkpoint: str | None = None
    parametric_noise: Literal["layer", "channel", "element"] | None = None
    num_classes: int | None = None
    input_shape: tuple[int, int, int] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    device: str = "auto"


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
class EvaluationSection:
    """How the trained network is judged; see `art_ext.evaluate`.

    Args:
        suite: name of a suite or of an attack, or a list of attacks; see art-ext list suites. By default fast, and what
            the defenses in the network have to face.
        n_examples: attack only the first so many test images.
        batch_size: images per pass.
        seed: of all random choices.
        which: best or last; the weights of that epoch. By default last for the trainers inn and noisy, and else best
            where there are held-out images.
        escalate: run what the indicators propose, too.
        time_budget: in seconds.
    """

    suite: str | list[str] | None = None
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
    ("data", "name", "options"),
    ("data", "name", "root"),
    ("trainer", "kind", "kind_options"),
    ("trainer", "loss", "loss_options"),
    ("trainer", "averaging", "averaging_options"),
    ("trainer", "attack", "attack_options"),
    ("trainer", "attack", "steps"),
    ("trainer", "attack", "step_size"),
    ("optimizer", "name", "options"),
    ("schedule", "name", "options"),
)
NOT_IN_RECIPES = frozenset({"checkpoint_dir"})  # the engine's option for what the command calls the output
