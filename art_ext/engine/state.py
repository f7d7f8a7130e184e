"""Nested state as JSON and tensors: what a checkpoint holds, without pickle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CONTAINERS: dict[str, type[list[Any]] | type[tuple[Any, ...]]] = {"list": list, "tuple": tuple}


def pack(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """A tree of dicts, lists, tuples, tensors, arrays, numbers, texts and None as JSON and the tensors it names.

    Tensors come out on the CPU, each with memory of its own, as safetensors wants them.

    Raises:
        TypeError: the tree holds something else; the message says where.

    Example:
        >>> json_tree, tensors = pack({"step": 3, "momentum": {0: torch.ones(2)}})
        >>> tensors
        {'momentum/0': tensor([1., 1.])}
        >>> unpack(json_tree, tensors)
        {'step': 3, 'momentum': {0: tensor([1., 1.])}}
    """
    tensors: dict[str, Tensor] = {}
    return _pack(tree, "", tensors), tensors


def _pack(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, Tensor | np.ndarray):
        kind, tensor = ("tensor", tree) if isinstance(tree, Tensor) else ("array", torch.from_numpy(tree))
        tensors[path] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {kind: path}
    if isinstance(tree, Mapping):
        kind = "counter" if isinstance(tree, Counter) else "dict"
        return {kind: [[key, _pack(value, _join(path, key), tensors)] for key, value in tree.items()]}
    for kind, container in _CONTAINERS.items():
        if isinstance(tree, container):
            return {kind: [_pack(item, _join(path, i), tensors) for i, item in enumerate(tree)]}
    raise TypeError(f"{path} is a {type(tree).__name__}, which a checkpoint cannot hold without pickle")


def _join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given; tensors on the CPU."""
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind in ("dict", "counter"):
        found = {key: unpack(value, tensors) for key, value in content}
        return Counter(found) if kind == "counter" else found
    return _CONTAINERS[kind](unpack(item, tensors) for item in content)
