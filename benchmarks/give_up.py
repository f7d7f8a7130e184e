"""What FAB-T and Square of the suite ``standard`` would lose by giving up: how far they come after that point.

On images that PGD-20 left, FAB-T goes on to its last step: how many times nearer is the boundary then than after a
fifth of the steps? Square goes on to its last query: how many times its gain in the second eighth of the queries does
the margin rise after the first quarter? Below the limits of the suite (1.5 and 8) nothing is lost.

    python benchmarks/give_up.py --out FILE [--networks cnn-a-2 …] [--images 24]

Checkpoints and CIFAR-10 are read from the folder ART_EXT_DATA or ``--data``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from strong_attacks import SUBJECTS
from torch import Tensor

from art_ext import DefendedModel, ThreatModel
from art_ext.attacks import pgd
from art_ext.attacks.fab import _Descent
from art_ext.attacks.hunt import Hunt, likely_targets
from art_ext.attacks.square import _Linf
from art_ext.files import atomic_write

STEPS, TARGETS, QUERIES = 100, 5, 5000


class Endless(Hunt):
    """Nobody is ever fooled, so every example goes on to the end."""

    def confirm(self, index: Tensor, x_adv: Tensor, believed: Tensor) -> Tensor:
        return torch.zeros_like(believed)


def nearer(model: DefendedModel, x: Tensor, y: Tensor) -> float:
    """Largest ratio of the distances to the boundary after a fifth of FAB's steps and after all of them."""
    seen: list[Tensor] = []

    class Watched(_Descent):
        def _without_fooled(self, s, across):
            state = super()._without_fooled(s, across)
            seen.append(state.nearest)
            return state

    ratios = []
    for target in likely_targets(model(x), y, TARGETS).unbind(1):
        seen.clear()
        Watched(model, ThreatModel("linf", 1e-6), STEPS, None, Hunt(model, x, y)).run(x, y, target)
        ratios.append(seen[STEPS // 5] / seen[-1])
    return torch.cat(ratios).max().item()


def risen(model: DefendedModel, x: Tensor, y: Tensor, threat: ThreatModel) -> float:
    """Largest rise of Square's margin after a quarter of the queries, over its gain in the second eighth of them."""
    seen: dict[int, Tensor] = {}

    class Watched(_Linf):
        def propose(self, s, threat, length):
            seen[len(seen) + 1] = s.value
            return super().propose(s, threat, length)

    with torch.no_grad():
        search = Watched(model, threat, Endless(model, x, y), torch.Generator().manual_seed(0))
        search.run(x, y, QUERIES, 0.8, None)
    early, quarter, last = (seen[query] for query in (QUERIES // 8, QUERIES // 4, QUERIES - 1))
    return ((last - quarter) / (quarter - early).clamp(min=1e-9)).max().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--networks", nargs="+", choices=list(SUBJECTS), default=["cnn-a-2", "cnn-a-8", "wide-kw-2", "resnet20-1"]
    )
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--data", type=Path, default=os.environ.get("ART_EXT_DATA"))
    args = parser.parse_args()
    results = {}
    for name in args.networks:
        subject, threat = SUBJECTS[name], ThreatModel("linf", SUBJECTS[name].eps)
        model = DefendedModel(subject.classifier(args.data)).eval().requires_grad_(False)
        x, y = (torch.from_numpy(a) for a in subject.images(args.data, 10 * args.images))
        x_adv = pgd(model, x, y, threat=threat, steps=20, generator=torch.Generator().manual_seed(0))
        left = (model(x_adv).argmax(1) == y).nonzero().squeeze(1)[: args.images]
        x, y = x[left], y[left]
        results[name] = {"images": len(x), "nearer": nearer(model, x, y), "risen": risen(model, x, y, threat)}
        print(name, results[name], file=sys.stderr, flush=True)
    with atomic_write(args.out) as temporary:
        temporary.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
