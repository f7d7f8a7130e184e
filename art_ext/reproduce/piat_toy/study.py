"""The study: all trainings, all pictures, all numbers, in one folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from art_ext.engine.checkpoint import prepare_folder
from art_ext.evaluation.figures import save
from art_ext.files import atomic_write
from art_ext.progress import progress_bar
from art_ext.reproduce.piat_toy.claims import judged
from art_ext.reproduce.piat_toy.judging import Run, judge
from art_ext.reproduce.piat_toy.pictures import PICTURES
from art_ext.reproduce.piat_toy.planes import worst_change
from art_ext.reproduce.piat_toy.results import Results
from art_ext.reproduce.piat_toy.settings import METHODS, Method, Settings
from art_ext.reproduce.piat_toy.surfaces import landscapes
from art_ext.reproduce.piat_toy.text import claims_table, page
from art_ext.reproduce.piat_toy.training import Trained, points, train

SHOWN, SEED = ("PGD-AT", "PIAT"), 0  # the trainings that are drawn alone


def run(folder: Path, settings: Settings, *, command: str = "", progress: bool = True) -> str:
    """Train, judge, draw and write; returns the claims with their verdicts as text.

    The folder then holds ``README.md``, ``results.json`` and a PNG for each figure.

    Args:
        folder: where to; made if it is missing.
        settings: all numbers.
        command: that makes the same again, for the page.
        progress: show a progress bar.

    Raises:
        OSError: the folder cannot be written.
        FloatingPointError: a training diverged.
    """
    prepare_folder(folder)
    plan = settings.plan()
    with progress_bar(len(plan) + len(PICTURES), "step", show=progress) as bar:

        def told(what: str) -> None:
            bar.update()
            bar.set_description(what)

        results = carry_out(settings, command, told)
        for name, picture in PICTURES.items():
            save(picture.draw(results), folder / name)
            told(name)
    _write(folder / "results.json", json.dumps(results.to_dict(), indent=1, ensure_ascii=False) + "\n")
    _write(folder / "README.md", page(results))
    return "\n".join(claims_table(results.claims))


def carry_out(settings: Settings, command: str = "", told: Callable[[str], None] = lambda what: None) -> Results:
    """Train and judge everything; ``told`` hears of each training once it is over."""
    runs: list[Run] = []
    shown: dict[Method, Trained] = {}
    for method, seed in settings.plan():
        trained = train(method, seed, settings)
        runs.append(judge(trained, method, seed, settings))
        if seed == SEED and method in [METHODS[name] for name in SHOWN]:
            shown[method] = trained
        told(f"{method}, seed {seed}")
    drawn = {name: shown[METHODS[name]] for name in SHOWN}
    courses = {str(run.method): run.robust for run in runs if run.seed == SEED}
    return Results(
        settings=settings,
        command=command,
        runs=runs,
        claims=judged(runs, tail=settings.tail),
        ideal=[_ideal(settings, seed) for seed in range(settings.seeds)],
        shown=SEED,
        changes={name: worst_change(one, courses[name], settings, SEED) for name, one in drawn.items()},
        landscapes=landscapes(drawn, settings, SEED),
    )


def _ideal(settings: Settings, seed: int) -> float:
    x, y = points(settings, seed, "test")
    return float(settings.circles.ideal(x, y, eps=settings.eps).mean())


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
