"""What our preprocessors add to a forward pass: seconds beside those of ResNet-18 at batch 128.

Network and preprocessor are timed in turn, many rounds, and compared by their medians. On a GPU a pass that copies
anything to the host raises an error.

    python benchmarks/preprocessors.py --out FOLDER [--rounds 15] [--batch 128] [--size 32] [--device cpu]

Writes results.json and summary.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from art_ext import INNPreprocessor, NoiseInjection, RandomTransform, SoftQuantization
from art_ext.adapters.timm import timm_classifier
from art_ext.engine.precision import resolve_precision
from art_ext.files import atomic_write

LIMIT = 0.10  # of the network's time


def preprocessors(shape: tuple[int, int, int], kind: str) -> dict[str, Any]:
    return {
        "INNPreprocessor": INNPreprocessor(input_shape=shape, device_type=kind),
        "RandomTransform, rt1": RandomTransform(kind="rt1", device_type=kind),
        "RandomTransform, rt2": RandomTransform(kind="rt2", device_type=kind),
        "SoftQuantization, 2 levels": SoftQuantization(levels=2, device_type=kind),
        "SoftQuantization, 8 levels": SoftQuantization(levels=8, device_type=kind),
        "SoftQuantization, 8 levels, hard": SoftQuantization(levels=8, hard=True, device_type=kind),
        "NoiseInjection, gaussian": NoiseInjection(scale=0.1, device_type=kind),
        "NoiseInjection, uniform": NoiseInjection(scale=0.1, distribution="uniform", device_type=kind),
        "NoiseInjection, laplace": NoiseInjection(scale=0.1, distribution="laplace", device_type=kind),
        "NoiseInjection, signs": NoiseInjection(scale=0.1, distribution="signs", device_type=kind),
    }


def seconds(call: Any, x: torch.Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    began = perf_counter()
    call(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return perf_counter() - began


@torch.no_grad()
def measure(args: argparse.Namespace, precision: str) -> dict[str, list[float]]:
    """Seconds of each pass, the network's among them, in turn."""
    device = torch.device(args.device)
    kind, shape = "gpu" if device.type == "cuda" else "cpu", (3, args.size, args.size)
    network = timm_classifier("resnet18", num_classes=10, input_shape=shape, device=args.device).model.eval()
    x = torch.rand(args.batch, *shape, device=device)

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return network(images)

    passes: dict[str, Any] = {"ResNet-18": forward}
    for name, made in preprocessors(shape, kind).items():
        passes[name] = made.forward
    if device.type == "cuda":
        with torch.no_grad():
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            for call in passes.values():
                call(x)
            torch.cuda.set_sync_debug_mode("default")
    found: dict[str, list[float]] = {name: [] for name in passes}
    for round_number in range(args.rounds + 2):
        for name, call in passes.items():
            time = seconds(call, x)
            if round_number >= 2:  # the first ones warm up
                found[name].append(time)
    return found


def summary(results: dict[str, dict[str, list[float]]], args: argparse.Namespace) -> str:
    lines = [
        f"Seconds of a forward pass of {args.batch} images of {args.size} pixels, on {args.device} "
        f"({torch.get_num_threads()} threads); medians of {args.rounds} rounds in turn.",
        "",
    ]
    for precision, found in results.items():
        whole = median(found["ResNet-18"])
        lines += [
            f"ResNet-18 in {precision}: {whole:.4f} s.",
            "",
            "| | seconds | of the network's | |",
            "|---|---|---|---|",
        ]
        for name, times in found.items():
            if name != "ResNet-18":
                share = median(times) / whole
                verdict = "within 10 %" if share <= LIMIT else "above 10 %"
                lines.append(f"| {name} | {median(times):.4f} | {share:.1%} | {verdict} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    fast = resolve_precision("auto", torch.device(args.device))
    results = {precision: measure(args, precision) for precision in dict.fromkeys(("fp32", fast))}
    machine = {"processor": platform.processor(), "cores": os.cpu_count(), "torch": torch.__version__}
    args.out.mkdir(parents=True, exist_ok=True)
    text = summary(results, args)
    for name, content in (
        ("results.json", json.dumps({"machine": machine, **results}, indent=1)),
        ("summary.md", text),
    ):
        with atomic_write(args.out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
