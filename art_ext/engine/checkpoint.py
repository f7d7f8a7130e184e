"""Weights on disk: safetensors, written whole or not at all."""

from __future__ import annotations

import copy
import errno
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from art_ext.averaging import snapshot
from art_ext.files import atomic_write

BEST, LAST = "best.safetensors", "last.safetensors"


def prepare_folder(folder: str | Path) -> Path:
    """Make ``folder`` and see that it can be written to, before any long work.

    Raises:
        OSError: it cannot; the message names it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / ".writable") as probe:
            probe.write_bytes(b"")
        (folder / ".writable").unlink(missing_ok=True)  # another process may be trying the same folder
    except OSError as error:
        message = f"checkpoint_dir {folder} cannot be written: {error.strerror}"
        raise OSError(error.errno or errno.EIO, message) from error
    return folder


def save_weights(network: nn.Module, path: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the state dict of ``network`` to ``path``; an earlier file stays as it was if writing fails.

    Args:
        network: is not changed.
        path: the file.
        weights: a state dict that it had at another time, to write instead.

    Raises:
        OSError: no space, no permission.
    """
    if weights is not None:  # by way of a network: which of its weights are one and the same, a state dict forgets
        network = copy.deepcopy(network)
        network.load_state_dict(weights)
    with atomic_write(path) as temporary:
        save_model(network, str(temporary))


@contextmanager
def or_warn(path: Path) -> Iterator[None]:
    """Writing ``path`` during a run: a disk that fills up is a warning, what was to be written is still in memory."""
    try:
        yield
    except Exception as error:  # safetensors wraps the system's errors in its own class
        warnings.warn(f"{path} could not be written ({error}); training goes on", stacklevel=3)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Read a state dict that `save_weights` wrote into ``network``, in place; after an error it is as it was.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the weights belong to another architecture, or the file is broken.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    before = snapshot(network)
    try:
        load_model(network, str(path))
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path} is not a whole safetensors file: {error}") from error
    except RuntimeError as error:
        network.load_state_dict(before)  # load_model copies what fits before it refuses the rest
        raise ValueError(f"checkpoint {path} does not fit {type(network).__name__}: {error}") from error
