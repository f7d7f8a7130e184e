"""What the attacks of one evaluation share, and what is found out about the model before they start."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.engine.precision import InPrecision, resolve_precision
from art_ext.engine.twin import attack_twin
from art_ext.evaluation.draws import MOST_OUTCOMES, choosing, independent, outcomes_of
from art_ext.evaluation.memory import in_halves, out_of_memory
from art_ext.isolation import derive_seed, seeded
from art_ext.model import DefendedModel, Surrogate
from art_ext.nn.soft_vote import SoftVote
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels

PASSES = 8  # that must agree, our decision (auto-attack: 5); a choice of two for the whole batch escapes one in 128
TRIED = 8  # inputs, as in the trial of the model: few enough for any memory
JUDGING_DRAWS = 20  # fresh passes that judge each example of a randomised defense


@dataclass(frozen=True)
class Bench:
    """What the attacks of one evaluation share; ``x`` (N, ...) and ``y`` (N,) stay on the CPU, batches travel.

    ``rows`` are the examples' places among all of the evaluation. ``model`` is the whole defense, which judges in so
    many ``draws``: all ``outcomes`` of its random choices where there are more than one. ``attacked`` is a faster
    `Surrogate` for attacks that confirm their successes with it, and ``copy`` its network where that is another module.
    """

    classifier: PyTorchClassifier
    model: DefendedModel
    x: Tensor
    y: Tensor
    rows: Tensor
    threat: ThreatModel
    batch_size: int
    eot: int
    seed: int
    draws: int = 1
    outcomes: int = 1
    attacked: Surrogate | None = None
    copy: nn.Module | None = None

    @classmethod
    def of(
        cls,
        prepared: tuple[PyTorchClassifier, DefendedModel, Images, Labels],
        threat: ThreatModel,
        batch_size: int,
        seed: int,
        eot: int = 1,
    ) -> Bench:
        """The bench of all examples that `prepare` has returned."""
        classifier, model, images, labels = prepared
        x, y = torch.from_numpy(images), torch.from_numpy(labels)
        return cls(classifier, model, x, y, torch.arange(len(x)), threat, batch_size, eot, seed)

    def take(self, index: Tensor) -> Bench:
        """The bench of some of the examples (indices or mask)."""
        threat = self.threat.select(index)
        return replace(self, x=self.x[index], y=self.y[index], rows=self.rows[index], threat=threat)

    def tried(self) -> Tensor:
        """A few inputs, on the model's device: what is found out about the model is found out on them."""
        return self.x[: min(self.batch_size, TRIED)].to(self.model.device)

    @torch.no_grad()
    def judge(self, x: Tensor) -> Tensor:
        """Predicted labels (draws, N) of ``x``, on the CPU, in full precision whatever the caller set."""
        device, predictions = self.model.device, torch.empty(self.draws, len(x), dtype=torch.int64)

        def look(index: Tensor) -> None:
            batch = x[index.to(x.device)].to(device)
            predictions[:, index] = torch.stack([self._labels(batch, draw) for draw in range(self.draws)]).cpu()

        with torch.autocast(device.type, enabled=False):
            for index in torch.arange(len(x)).split(self.batch_size):
                in_halves(look, index)
        return predictions

    def _labels(self, batch: Tensor, draw: int) -> Tensor:
        with choosing(self.model, draw) if self.outcomes > 1 else nullcontext():
            return self.model(batch).argmax(1)

    def predict(self, label: str) -> Tensor:
        """Predicted labels (draws, N) of all examples; ``label`` selects the random numbers."""
        with seeded(derive_seed(self.seed, label)):
            return self.judge(self.x)


def is_random(bench: Bench) -> bool:
    """Whether passes over the first inputs disagree."""
    with seeded(derive_seed(bench.seed, "clean")):
        return _disagree([_logits(bench) for _ in range(PASSES)])


def listed(bench: Bench) -> int:
    """How many outcomes the random choices of the model have; 1 where they cannot be listed, or change nothing."""
    outcomes, found = outcomes_of(bench.model), []
    mixed = any(part.mixes_outcomes for part in bench.model.modules() if isinstance(part, SoftVote))
    if mixed or not 1 < outcomes <= MOST_OUTCOMES:
        return 1
    for outcome in range(outcomes):
        with choosing(bench.model, outcome), seeded(derive_seed(bench.seed, "listed")):
            one, two = _logits(bench), _logits(bench)
        if _disagree([one, two]):  # other randomness is left
            return 1
        found.append(one)
    return outcomes if _disagree(found) else 1


@torch.no_grad()
def _logits(bench: Bench) -> Tensor:
    return bench.model(bench.tried())


def _disagree(passes: list[Tensor]) -> bool:
    """By the distance between logits, as in auto-attack's own checks (1e-4), relative for large logits."""
    one = passes[0]
    limit = 1e-4 * torch.linalg.vector_norm(one, dim=1).clamp(min=1)
    return any(bool((torch.linalg.vector_norm(one - other, dim=1) > limit).any()) for other in passes[1:])


def draws_apart(bench: Bench) -> bool:
    """Whether the model draws for each example by itself, so that copies in one pass are several draws."""
    try:
        with seeded(derive_seed(bench.seed, "independent")):
            return independent(bench.model, bench.tried(), rows=bench.batch_size)
    except RuntimeError as error:
        if out_of_memory(error):  # then copies would not fit into a pass either
            return False
        raise


def drawing_at_once(bench: Bench) -> Bench:
    """The bench whose gradients take several draws in one pass; for a model whose draws are apart."""
    rows = bench.batch_size * (8 if bench.model.device.type == "cuda" else 1)
    fast = bench.attacked.fast if bench.attacked is not None else bench.model
    return replace(bench, attacked=Surrogate(fast, bench.model, rows=rows))


def in_precision(bench: Bench, precision: str) -> Bench:
    """The bench with gradients in this precision (see `resolve_precision`); a float64 network keeps its own."""
    model, device = bench.model, bench.model.device
    narrow = all(p.dtype == torch.float32 for p in model.parameters())
    if resolve_precision(precision, device) != "bf16" or not narrow or not len(bench.x):
        return bench

    def fast(module: nn.Module) -> nn.Module:
        return InPrecision(module, device, "bf16")

    twin = attack_twin(model, bench.tried(), fast)
    attacked = model if twin is None else twin.model
    copy = None if twin is None else twin.model.network
    return replace(bench, attacked=Surrogate(fast(attacked), model), copy=copy)
