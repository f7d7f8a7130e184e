"""The training engine: a task, batches and options in, a trained network and its history out."""

from art_ext.engine.history import History, plot_histories
from art_ext.engine.loop import Run, Task
from art_ext.engine.meter import NonFiniteLossError
from art_ext.engine.options import EngineOptions
from art_ext.engine.schedules import Schedule, WarmUp, piecewise_linear

__all__ = [
    "EngineOptions",
    "History",
    "NonFiniteLossError",
    "Run",
    "Schedule",
    "Task",
    "WarmUp",
    "piecewise_linear",
    "plot_histories",
]
