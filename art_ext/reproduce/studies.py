"""The studies by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from art_ext.naming import lookup


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study that can be carried out.

    Args:
        name: by which it is called.
        description: one line.
        paper: address of the publication.
        seeds: how many seeds it takes unless told otherwise.
        run: ``(folder, *, seeds, command, progress) -> text``: carries it out, writes into the folder, and returns
            what is to be shown.
    """

    name: str
    description: str
    paper: str
    seeds: int
    run: Callable[..., str]


def _piat_toy(folder: Path, *, seeds: int, command: str, progress: bool) -> str:
    from art_ext.reproduce.piat_toy import Settings, run

    return run(folder, Settings(seeds=seeds), command=command, progress=progress)


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            name="piat-toy",
            description="the toy problem of the PIAT paper: does interpolation calm adversarial training",
            paper="https://arxiv.org/abs/2511.00836",
            seeds=6,
            run=_piat_toy,
        ),
    )
}


def get_study(name: str) -> Study:
    """The study of that name.

    Raises:
        ValueError: unknown name; the nearest one is proposed.

    Example:
        >>> get_study("piat-toi")
        Traceback (most recent call last):
        ...
        ValueError: unknown study 'piat-toi'; did you mean 'piat-toy'? known: piat-toy
    """
    return lookup(STUDIES, name, what="study")
