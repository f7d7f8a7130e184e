"""Experiment trackers: TensorBoard and the others that `accelerate` knows, fed with the rows of the history."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from accelerate.utils import LoggerType

from art_ext.isolation import keeping_random
from art_ext.naming import lookup

PROJECT = "art_ext"


class Tracking:
    """Open trackers. One that fails during the run is a warning: the history keeps the same figures.

    Args:
        trackers: started ones, by name.
    """

    def __init__(self, trackers: Mapping[str, GeneralTracker]) -> None:
        self._trackers = trackers

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Hand a row of the history to every tracker.

        Args:
            row: figures by name.
            step: what they are plotted over: the epoch, from 1.
        """
        for name, tracker in self._trackers.items():
            try:
                with keeping_random():
                    tracker.log(dict(row), step=step)
            except Exception as error:  # each library has errors of its own, and those of its network
                _warn(f"{name} did not take the figures of step {step}", error)

    def close(self) -> None:
        """Let every tracker write what it holds back, and end."""
        for name, tracker in self._trackers.items():
            try:
                tracker.finish()
            except Exception as error:
                _warn(f"{name} did not end well", error)


def open_trackers(
    names: str | Sequence[str] | None, folder: Path | None, config: Mapping[str, Any], *, first_step: int = 1
) -> Tracking:
    """Start trackers, in the main process only; the others get a `Tracking` that does nothing.

    TensorBoard, Aim and DVCLive write into ``folder``. Where the others write, and under which account, their own
    settings say (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, …); the project is called ``art_ext`` and the run like
    ``folder``. A tracker of your own is known by its name after `accelerate.tracking.register_tracker_class`.

    Args:
        names: one name or several; None for none.
        folder: of the run; None where nothing is kept on disk.
        config: hyper-parameters by name; what is no number, text or truth value is kept as text.
        first_step: of this process; what TensorBoard has at later steps, from before a kill, is hidden.

    Raises:
        TypeError: ``names`` is no text.
        ValueError: unknown name (the nearest one is proposed), or a tracker that needs a folder and has none.
        ImportError: the tracker's library is not installed; the message says how to install it.
        RuntimeError: the tracker cannot start, e.g. a service refuses the account.

    Example:
        >>> open_trackers("tensorbord", None, {})
        Traceback (most recent call last):
        ...
        ValueError: unknown tracker 'tensorbord'; did you mean 'tensorboard'? known: aim, ...
    """
    if not names or not PartialState().is_main_process:
        return Tracking({})
    chosen = check_trackers(names, folder)
    values = {
        key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in config.items()
    }
    return Tracking({name: _start(name, folder, values, first_step) for name in chosen})


def check_trackers(names: str | Sequence[str] | None, folder: str | Path | None) -> list[str]:
    """The names as a list without repetitions; errors as `open_trackers`, but nothing is started."""
    given = [names] if isinstance(names, str) else names or []
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"tracking must be a name or several, e.g. 'tensorboard'; got {names!r}")
    for name in given:
        tracker = lookup(LOGGER_TYPE_TO_CLASS, name, what="tracker")
        if name in map(str, LoggerType) and name not in map(str, get_available_trackers()):
            raise ImportError(f"tracking={name!r}: {name} is not installed: {_installs(name)}")
        if tracker.requires_logging_directory and folder is None:
            raise ValueError(f"tracking={name!r} writes into the folder of the run: give a checkpoint_dir")
    return list(dict.fromkeys(given))


def _installs(name: str) -> str:
    return "pip install 'art-ext[tensorboard]'" if name == "tensorboard" else f"pip install {name.replace('_', '-')}"


def _start(name: str, folder: Path | None, config: dict[str, Any], first_step: int) -> GeneralTracker:
    kind = LOGGER_TYPE_TO_CLASS[name]
    place = (PROJECT, folder) if kind.requires_logging_directory else (PROJECT,)
    try:
        with keeping_random():  # some of them draw names: a run must end in the same bits with and without
            tracker = kind(*place, **(_options(name, folder, first_step) if folder else {}))
            if hasattr(tracker, "start"):  # before accelerate 1.8 the constructor does it
                tracker.start()
            tracker.store_init_configuration(config)
    except Exception as error:
        raise RuntimeError(f"tracking={name!r} cannot start: {error}") from error
    return tracker


def _options(name: str, folder: Path, first_step: int) -> dict[str, Any]:
    """Where they take them: the name of the run, its folder, the step from which on it goes on."""
    options: dict[str, dict[str, Any]] = {
        "dvclive": {"dir": str(folder / "dvclive")},
        "mlflow": {"run_name": folder.name},
        "swanlab": {"experiment_name": folder.name},
        "tensorboard": {"purge_step": first_step} if first_step > 1 else {},
        "trackio": {"name": folder.name},
        "wandb": {"name": folder.name},
    }
    return options.get(name, {})


def _warn(what: str, error: Exception) -> None:
    warnings.warn(f"tracking: {what} ({error}); training goes on", stacklevel=3)
