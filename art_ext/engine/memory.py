"""Whether data may stay in the memory of a device; what was decided is said in the log ``art_ext``."""

from __future__ import annotations

import logging

import psutil
import torch

SHARE = 0.5  # of the free memory that data may take; the rest belongs to the training
logger = logging.getLogger("art_ext")


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, of the machine itself for ``cpu``."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def may_stay(needed: int, device: torch.device, *, what: str, share: float = SHARE) -> bool:
    """Whether ``needed`` bytes fit into that share of the free memory of ``device``; says so.

    Example:
        >>> may_stay(1, torch.device("cpu"), what="one pixel"), may_stay(2**60, torch.device("cpu"), what="an exbibyte")
        (True, False)
    """
    free = free_bytes(device)
    fits = needed <= share * free
    logger.info(
        "%s: %.0f MiB on %s, of which %.0f MiB are free (at most %.0f %% of them are taken): %s",
        *(what, needed / 2**20, device, free / 2**20, 100 * share),
        "kept in its memory" if fits else "streamed",
    )
    return fits
