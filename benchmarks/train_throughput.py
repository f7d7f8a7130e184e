"""Training speed and memory: ours against ART's trainers, a torchattacks loop, and the limit of the hardware.

PGD-10 adversarial training of three networks on random images. All contestants of a network train in turn in one
process, several rounds; the figures are medians, and ratios are taken within each round. The limit is the time that the
convolutions and matrix products of 11 forwards, 10 input-only backwards and 1 full backward take when each layer and
pass runs alone, in the same number format and in the same run: no normalisation, activation, addition, optimizer or
augmentation. Memory is the growth of the resident set's peak over that of the finished set-up, one process per
contestant (on a GPU the peak of allocated memory).

    python benchmarks/train_throughput.py --out DIR [--networks resnet18 cnn vit] [--rounds 5] [--precision auto]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.trainer import AdversarialTrainerMadryPGD, AdversarialTrainerTRADESPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import RobustTrainer, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.engine.precision import resolve_precision
from art_ext.files import atomic_write

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10
Round = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Network:
    timm_name: str
    shape: tuple[int, int, int]
    batch: int
    batches: int
    options: dict[str, Any] = field(default_factory=dict)

    def classifier(self) -> PyTorchClassifier:
        torch.manual_seed(0)
        optimizer = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
        return timm_classifier(
            self.timm_name, num_classes=10, input_shape=self.shape, optimizer=optimizer, **self.options
        )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        n = self.batch * self.batches
        return np.random.default_rng(0).random((n, *self.shape), np.float32), np.arange(n) % 10


NETWORKS = {
    "resnet18": Network("resnet18", (3, 32, 32), 64, 4),
    "cnn": Network("small_cnn", (1, 28, 28), 128, 16),
    "vit": Network("vit_tiny_patch16_224", (3, 32, 32), 64, 4, {"patch_size": 4}),
}


def ours(network: Network, precision: str, **options: Any) -> Round:
    options |= {"precision": precision, "progress": False}
    trainer = RobustTrainer(
        network.classifier(), threat=ThreatModel("linf", EPS), steps=STEPS, step_size=STEP, **options
    )
    return lambda x, y: trainer.fit(x, y, batch_size=network.batch, nb_epochs=1)


def art_madry(network: Network, precision: str) -> Round:
    trainer = AdversarialTrainerMadryPGD(
        network.classifier(), nb_epochs=1, batch_size=network.batch, eps=EPS, eps_step=STEP, max_iter=STEPS
    )
    return lambda x, y: trainer.fit(x, y)


def art_trades(network: Network, precision: str) -> Round:
    classifier = network.classifier()
    attack = ProjectedGradientDescent(
        classifier, eps=EPS, eps_step=STEP, max_iter=STEPS, num_random_init=1, batch_size=network.batch, verbose=False
    )
    trainer = AdversarialTrainerTRADESPyTorch(classifier, attack, beta=6.0)
    return lambda x, y: trainer.fit(x, y, batch_size=network.batch, nb_epochs=1)


def torchattacks_loop(network: Network, precision: str) -> Round:
    import torchattacks

    classifier = network.classifier()
    model, optimizer = classifier.model, classifier.optimizer
    attack = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS)

    def run(x: np.ndarray, y: np.ndarray) -> None:
        batches = (torch.from_numpy(a).to(classifier.device).split(network.batch) for a in (x, y))
        for images, labels in zip(*batches, strict=True):
            model.eval()
            adversarial = attack(images, labels)
            model.train()
            loss = nn.functional.cross_entropy(model(adversarial), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return run


CONTESTANTS: dict[str, Callable[[Network, str], Round]] = {
    "art_ext": ours,
    "art_ext compiled": partial(ours, compile=True),
    "art_ext fp32": lambda network, _: ours(network, "fp32"),
    "ART Madry PGD": art_madry,
    "ART TRADES": art_trades,
    "torchattacks loop": torchattacks_loop,
}


def limit_seconds(network: Network, precision: str) -> dict[str, float]:
    """Seconds per batch of the convolutions and matrix products alone, each layer and pass measured in isolation."""
    classifier = network.classifier()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    layers: list[tuple[nn.Module, torch.Size]] = []
    hooks = [
        m.register_forward_hook(lambda module, args, _: layers.append((module, args[0].shape)))
        for m in classifier.model.modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        classifier.model(torch.rand(network.batch, *network.shape, device=classifier.device))
    for hook in hooks:
        hook.remove()
    total = {"forward": 0.0, "input": 0.0, "weight": 0.0, "flop": 0.0}
    for module, shape in layers:
        for name, value in isolated(module.to(dtype), torch.rand(shape, device=classifier.device, dtype=dtype)).items():
            total[name] += value
    return {
        "seconds": 11 * total["forward"] + 11 * total["input"] + total["weight"],
        "gflop_forward": total["flop"] / 1e9,
        **{f"gflops_per_second_{name}": total["flop"] / total[name] / 1e9 for name in ("forward", "input", "weight")},
    }


def isolated(layer: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Seconds of a layer's forward, of its gradient to the input and to the weight, and the FLOPs of each."""
    if x.ndim == 4:
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        forward = median(timed(partial(layer, x)) for _ in range(7))
    out = layer(x.requires_grad_())
    upward = torch.rand_like(out)
    gradient = partial(torch.autograd.grad, out, grad_outputs=upward, retain_graph=True)
    to_input, to_weight = partial(gradient, x), partial(gradient, layer.weight)
    return {
        "forward": forward,
        "input": median(timed(to_input) for _ in range(7)),
        "weight": median(timed(to_weight) for _ in range(7)),
        "flop": 2 * layer.weight.numel() * out.numel() / layer.weight.shape[0],
    }


def timed(call: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter() - began


def measure(name: str, rounds: int, precision: str) -> dict[str, Any]:
    network = NETWORKS[name]
    x, y = network.data()
    contestants = {label: build(network, precision) for label, build in CONTESTANTS.items()}
    times: dict[str, list[float]] = {label: [] for label in [*contestants, "limit"]}
    for number in range(rounds + 1):
        seconds = {label: timed(lambda: run(x, y)) / network.batches for label, run in contestants.items()}  # noqa: B023
        limit = limit_seconds(network, precision)
        print(f"{name} round {number}: " + ", ".join(f"{k} {v:.2f} s" for k, v in seconds.items()), flush=True)
        if number:  # the first warms up
            for label, value in (seconds | {"limit": limit["seconds"]}).items():
                times[label].append(value)
    return {
        "batch": network.batch,
        "seconds_per_batch": {label: median(values) for label, values in times.items()},
        "ratio_to_art_ext": {k: median(ratios(v, times["art_ext"])) for k, v in times.items()},
        "share_of_limit": median(ratios(times["limit"], times["art_ext"])),
        "limit": limit,
        "rounds": times,
        "memory_mib": {label: memory(name, label, precision) for label in CONTESTANTS},
    }


def ratios(numerators: list[float], denominators: list[float]) -> list[float]:
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def memory(name: str, label: str, precision: str) -> float:
    command = [sys.executable, __file__, "--memory-of", name, label, "--precision", precision]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def resident_growth(name: str, label: str, precision: str) -> float:
    network = NETWORKS[name]
    x, y = network.data()
    run = CONTESTANTS[label](network, precision)
    before = peak_resident_kib()
    run(x, y)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return (peak_resident_kib() - before) / 1024


def peak_resident_kib() -> int:
    """Linux only; getrusage would report the parent's peak, which a child inherits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def table(results: list[dict[str, Any]]) -> str:
    lines = []
    for result in results:
        lines += [
            f"\n**{result['network']}**, batch {result['batch']}, {result['precision']}, {result['threads']} threads, "
            f"torch {result['torch']}: {100 * result['share_of_limit']:.0f} % of the limit "
            f"({result['limit']['gflops_per_second_forward']:.0f} GFLOP/s forward)\n",
            "| | seconds per batch | times art_ext's | peak memory, MiB |",
            "|---|---|---|---|",
        ]
        for label, seconds in result["seconds_per_batch"].items():
            memory_used = f"{result['memory_mib'][label]:.0f}" if label in result["memory_mib"] else ""
            lines.append(f"| {label} | {seconds:.3f} | {result['ratio_to_art_ext'][label]:.2f} | {memory_used} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = resolve_precision(args.precision, device)
    if args.memory_of:
        print(resident_growth(*args.memory_of, precision))
        return
    machine = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "machine": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    for name in args.networks:
        result = {"network": name, "precision": precision, **machine, **measure(name, args.rounds, precision)}
        print(table([result]))
        if args.out:
            with atomic_write(args.out / f"{name}.json") as temporary:
                temporary.write_text(json.dumps(result, indent=1))
    if args.out:
        measured = [args.out / f"{name}.json" for name in NETWORKS if (args.out / f"{name}.json").exists()]
        with atomic_write(args.out / "README.md") as temporary:
            temporary.write_text(table([json.loads(path.read_text()) for path in measured]))


if __name__ == "__main__":
    main()
