"""What a detector has learnt, in a file: safetensors, which execute nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from art_ext.files import atomic_write

SCORES, PREFIX = "clean_scores", "net."


def write_network(path: str | os.PathLike[str], net: nn.Module, clean: Tensor, families: Sequence[str]) -> None:
    """Write weights, scores of clean images and names of families, atomically.

    Raises:
        OSError: ``path`` cannot be written; an older file there is untouched.
    """
    tensors = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in net.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(tensors | {SCORES: clean}, temporary, {"families": json.dumps(list(families))})


def read_network(path: str | os.PathLike[str], net: nn.Module, families: Sequence[str]) -> Tensor:
    """Load the weights into ``net``; the scores of clean images (n,).

    Raises:
        OSError: there is no such file.
        ValueError: of other families, or of a network of another shape.
    """
    with safe_open(os.fspath(path), framework="pt") as file:
        known = json.loads((file.metadata() or {}).get("families", "[]"))
        if known != list(families):
            raise ValueError(f"{path} knows {', '.join(known) or 'no families'}; this detector {', '.join(families)}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    clean = tensors.pop(SCORES)
    try:
        net.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"{path} is of a detector of another shape: {error}") from error
    return clean
