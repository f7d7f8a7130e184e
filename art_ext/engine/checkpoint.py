"""Weights on disk: safetensors, written whole or not at all."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

from safetensors.torch import load_model, save_model
from torch import nn

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
        (folder / ".writable").unlink()
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"checkpoint_dir {folder} cannot be written: {error.strerror}") from error
    return folder


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the state dict of ``network`` to ``path``; an earlier file stays as it was if writing fails.

    Raises:
        OSError: no space, no permission.
    """
    with atomic_write(path) as temporary:
        save_model(network, str(temporary))


def save_or_warn(network: nn.Module, path: Path) -> None:
    """As `save_weights`, but a disk that fills up during a run is a warning: the weights are still in memory."""
    try:
        save_weights(network, path)
    except Exception as error:  # safetensors wraps the system's errors in its own class
        warnings.warn(f"checkpoint {path} could not be written ({error}); training goes on", stacklevel=2)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Read a state dict that `save_weights` wrote into ``network``, in place.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the weights belong to another architecture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        load_model(network, str(path))
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path} does not fit {type(network).__name__}: {error}") from error
