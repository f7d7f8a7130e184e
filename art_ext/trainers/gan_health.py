"""Signs that a GAN is not learning, said once each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

COLLAPSED = 0.1  # of the spread of the originals, our decision
SATURATED = 0.95  # of the patches, our decision
PATIENCE = 3  # epochs in a row: a new purifier begins with images that are all alike


class GANHealth:
    """Looks at the figures of each epoch of `art_ext.trainers.purifying.PurificationLoss`, and warns.

    Example:
        >>> health = GANHealth()
        >>> with warnings.catch_warnings(record=True) as said:
        ...     for epoch in range(1, 6):
        ...         health({"epoch": epoch, "diversity": 0.02, "saturated": 0.4})
        >>> [str(one.message)[:46] for one in said]
        ['epoch 3: the purified images are nearly alike ']
    """

    def __init__(self) -> None:
        self._epochs = {"collapsed": 0, "saturated": 0}

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Warn of what the rows of the history show, each sign once."""
        if self._lasts("collapsed", row.get("diversity", 1.0) < COLLAPSED):
            warnings.warn(
                f"epoch {row['epoch']}: the purified images are nearly alike (they are {row['diversity']:.0%} as far "
                "apart as the originals): the purifier has collapsed; lower the learning rate or gan_weight",
                stacklevel=2,
            )
        if self._lasts("saturated", row.get("saturated", 0.0) > SATURATED):
            warnings.warn(
                f"epoch {row['epoch']}: the discriminator is certain of {row['saturated']:.0%} of the patches, so its "
                "gradient says little to the purifier; make it smaller, or lower the learning rate",
                stacklevel=2,
            )

    def _lasts(self, sign: str, there: bool) -> bool:
        """Whether a sign is there for the third epoch in a row, for the first time."""
        if self._epochs[sign] < PATIENCE:
            self._epochs[sign] = self._epochs[sign] + 1 if there else 0
            return self._epochs[sign] == PATIENCE
        return False
