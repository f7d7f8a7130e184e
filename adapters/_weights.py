"""Reading a checkpoint file into a network, with errors that say what does not fit."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

PREFIXES = ("module.", "_orig_mod.", "model.", "_model.")
CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
SHOWN = 4


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a plain PyTorch checkpoint, which may hold them one level down.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or one that would have to execute code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is not a file of plain tensors (weights_only=True): {_first_line(error)}") from error
    for key in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no state dict: a mapping of names to tensors was expected")
    return dict(content)


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
    """Copy ``state`` into a `Normalized` network: all of it with its mean and std, or the wrapped network's part only.

    Args:
        model: a `Normalized`; its network is ``model.model``.
        state: tensors by name; prefixes that wrappers leave on all names are removed.
        source: the file, for the message.
        name: the architecture, for the message.

    Raises:
        ValueError: names or shapes do not fit; the first few are listed.
    """
    state = _stripped(state, keep=model.state_dict().keys())
    target = model if state.keys() & {"mean", "std"} == {"mean", "std"} else model.get_submodule("model")
    own = target.state_dict()
    misshapen = [k for k in own if k in state and state[k].shape != own[k].shape]
    fitting = {k: v for k, v in state.items() if k not in misshapen}
    result = target.load_state_dict(fitting, strict=False)  # knows that old checkpoints count no batches in BatchNorm
    problems = {
        "missing": [k for k in result.missing_keys if k not in misshapen],
        "unexpected": result.unexpected_keys,
        "other shapes": [f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}" for k in misshapen],
    }
    if any(problems.values()):
        told = "; ".join(f"{what}: {_some(keys)}" for what, keys in problems.items() if keys)
        raise ValueError(f"{source} does not fit the architecture {name!r}: {told}")


def resampled_convit(state: dict[str, Any], model: Any) -> dict[str, Tensor]:
    """Weights of a ConViT for another grid of patches: timm does this for its other ViTs.

    Args:
        state: tensors by name, or a mapping with them as ``"model"``.
        model: the ConViT that they are for.
    """
    out = dict(state.get("model", state))
    grid, patch = model.patch_embed.grid_size, model.patch_embed.patch_size
    if out["pos_embed"].shape != model.pos_embed.shape:
        out["pos_embed"] = resample_abs_pos_embed(out["pos_embed"], list(grid), num_prefix_tokens=0)
    if out["patch_embed.proj.weight"].shape[2:] != tuple(patch):
        out["patch_embed.proj.weight"] = resample_patch_embed(out["patch_embed.proj.weight"], list(patch))
    return out


def _stripped(state: Mapping[str, Tensor], keep: Any) -> dict[str, Tensor]:
    """Without the prefixes that every name carries; a whole `Normalized` keeps its ``model.``."""
    state = dict(state)
    while state and state.keys() != keep:
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in state)), None)
        if prefix is None:
            break
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0][:200]
