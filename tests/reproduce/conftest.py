"""The toy study, so small that all of it takes seconds."""

from collections.abc import Iterator

import pytest

from art_ext.reproduce.piat_toy import Settings, judging
from art_ext.reproduce.piat_toy.results import Results
from art_ext.reproduce.piat_toy.study import carry_out

SMALL = {"train": 64, "test": 60, "width": 8, "batch_size": 32, "epochs": 3, "steps": 2, "judging_steps": 3}


@pytest.fixture(scope="session")
def small() -> Settings:
    return Settings(**SMALL, seeds=2, weights=(0.0, 0.5), mus=(0.0, 4.0), tail=2)


@pytest.fixture(scope="session")
def coarse() -> Iterator[None]:
    """Landscapes and searches of a few points."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "PLANE", 5)
        yield


@pytest.fixture(scope="session")
def results(small: Settings, coarse: None) -> Results:
    return carry_out(small, "art-ext reproduce piat-toy")
