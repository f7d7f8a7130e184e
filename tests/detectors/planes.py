"""Smooth images of two classes, on which every perturbation is to be seen."""

import numpy as np

from art_ext.threat import ThreatModel

EPS = 40 / 255
THREAT = ThreatModel("linf", EPS)


def smooth(n, seed=0):
    """Planes (n, 1, 8, 8) that rise to the right or downwards, and which of the two, in whole grey levels."""
    generator = np.random.default_rng(seed)
    y, ramp = generator.integers(2, size=n), np.linspace(-1, 1, 8)
    slopes, levels = generator.uniform(0.05, 0.3, (n, 1, 1)), generator.uniform(0.35, 0.65, (n, 1, 1))
    planes = levels + slopes * np.where(y[:, None, None] == 0, ramp, ramp[:, None])
    return (np.round(planes[:, None] * 255) / 255).astype(np.float32), y
