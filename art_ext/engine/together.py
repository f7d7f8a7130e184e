"""One model trained by several processes: accelerate's part of it, and nothing else of accelerate's."""

from __future__ import annotations

from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import is_initialized
from torch import nn

from art_ext.processes import Processes

# Some losses need two forwards, between which buffers must stay. Without a look for unused weights the gradients would
# be packed anew after the first step, so that three and more processes would add them up in another order than before:
# a run that was resumed would not be bit-equal.
PACKED_ONCE = {"broadcast_buffers": False, "find_unused_parameters": True}


def make_accelerator(processes: Processes) -> Accelerator:
    """Accelerate for a run that decides by itself about device and precision.

    Accelerate's own are fixed once per process; ``"no"``, so that no environment variable has a say.
    """
    return Accelerator(
        device_placement=False,
        mixed_precision=None if is_initialized() else "no",
        cpu=processes.count > 1 and not torch.cuda.is_available(),
        kwargs_handlers=[DistributedDataParallelKwargs(**PACKED_ONCE)],
    )


def shared(accelerator: Accelerator, model: nn.Module, device: torch.device) -> nn.Module:
    """``model`` with gradients that are the mean of all processes'."""
    prepared = accelerator.prepare_model(_WithAnUnusedWeight(model, device), device_placement=False)
    return cast(nn.Module, prepared)


class _WithAnUnusedWeight(nn.Module):
    """A model, and a weight that no forward uses: where there is none, torch prints that it looked in vain."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model, self.unused = model, nn.Parameter(torch.zeros((), device=device))

    def forward(self, *args: Any) -> Any:
        """As the model."""
        return self.model(*args)
