"""Reading a checkpoint file into a network, with errors that say what does not fit."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.convit import ConVit
from torch import Tensor, nn

PREFIXES = ("module.", "_orig_mod.", "model.", "_model.")
CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
SHOWN = 4
# what hangs on the number of pixels and patches
_SPATIAL = ("pos_embed", "patch_embed.proj.weight", "relative_position_bias_table")


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
    whole = state.keys() & {"mean", "std"} == {"mean", "std"}
    target = model if whole else model.get_submodule("model")
    state = _resampled(state, model.get_submodule("model"), prefix="model." if whole else "", source=source)
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
        raise ValueError(
            f"{source} does not fit the architecture {name!r}: {told}{_new_head(problems, target, source)}"
        )


def _resampled(state: dict[str, Tensor], network: nn.Module, *, prefix: str, source: str) -> dict[str, Tensor]:
    """Weights of a transformer for another image size or other patches, as timm does this for its own; it is told."""
    own = {prefix + name: value.shape for name, value in network.state_dict().items()}
    wrong = [k for k in state if k.endswith(_SPATIAL) and k in own and state[k].shape != own[k]]
    resample = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    resample = resampled_convit if isinstance(network, ConVit) else resample
    if not wrong or resample is None:
        return state
    made = resample({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, network)
    warnings.warn(
        f"{source} is of a network for other patches or another size of images: {_some(wrong)} resampled; that is a "
        "beginning for training, its accuracies are others than those of the network in the file",
        stacklevel=5,
    )
    return {k: v for k, v in state.items() if not k.startswith(prefix)} | {prefix + k: v for k, v in made.items()}


def _new_head(problems: Mapping[str, Sequence[str]], target: nn.Module, source: str) -> str:
    """A hint where nothing but the number of classes is another one."""
    named = getattr(target.get_submodule("model") if hasattr(target, "model") else target, "pretrained_cfg", {})
    heads = named.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    only = not problems["missing"] and not problems["unexpected"]
    if not only or not heads or not all(any(h in shape for h in heads) for shape in problems["other shapes"]):
        return ""
    return f"; to begin with a new head: pretrained=True, pretrained_cfg_overlay={{'file': {source!r}}}"


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
