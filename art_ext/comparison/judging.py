"""How the networks of a comparison are judged: attacks by column, on which checkpoints, on how many images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from art_ext.comparison.columns import Column, check_threats, columns_of, told
from art_ext.engine.loop import checkpoint_of
from art_ext.evaluation import RobustnessReport, evaluate
from art_ext.evaluation.suites import ATTACKS, SUITES
from art_ext.naming import lookup
from art_ext.processes import Processes
from art_ext.recipes import Recipe, make_data
from art_ext.recipes.kinds import trained_classifier

CHECKPOINTS = ("best", "last")
CLEAN, WORST = "clean", ", worst class"  # headings: of the first column, and what one ends in
ABOUT = {"margin-pgd-20": "PGD on the margin loss of Carlini and Wagner", "pgd-20": "20 steps of ε/4, one random start"}
REPORT, JOURNAL = "report.json", "journal"


def _default_attacks() -> dict[str, str]:
    return {"PGD-20": "pgd-20", "margin-PGD-20 (CW loss)": "margin-pgd-20", "standard": "standard"}


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What each checkpoint of each run faces.

    Args:
        attacks: suite or attack of each column by its heading, see ``art-ext list suites``; what the genuine AutoAttack
            is asked for is the suite ``autoattack``, ``standard`` is the native one.
        checkpoints: ``"best"`` (on the held-out images), ``"last"`` or both.
        threats: threat models to judge all runs under, by name, a column for each attack under each. Of the fields
            ``eps`` and ``norm``, those that are left out are those of the training: ``{}`` is each run's own threat
            model, None that one alone.
        n_examples: the first so many test images; None for all.
        batch_size: images per pass.
        seed: of the attacks' random choices.
        worst_class: a column beside each attack's for the class with the lowest robust accuracy, as class-wise methods
            are compared (CFA).

    Raises:
        TypeError: a value of a wrong type.
        ValueError: an unknown attack, checkpoint or field (the nearest is proposed), no attack, a number out of its
            range.

    Example:
        >>> Judging(attacks={"PGD": "pgd-20"}, checkpoints=["bset"])
        Traceback (most recent call last):
        ...
        ValueError: unknown checkpoint 'bset'; did you mean 'best'? known: best, last
    """

    attacks: Mapping[str, str] = field(default_factory=_default_attacks)
    checkpoints: tuple[str, ...] = CHECKPOINTS
    threats: Mapping[str, Mapping[str, Any]] | None = None
    n_examples: int | None = None
    batch_size: int = 128
    seed: int = 0
    worst_class: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be judged, before any run."""
        if not isinstance(self.attacks, Mapping) or not self.attacks:
            raise ValueError(f"attacks must give the suite or attack of at least one column; got {self.attacks!r}")
        known = {**dict.fromkeys(SUITES), **dict.fromkeys(ATTACKS)}
        for heading, attack in self.attacks.items():
            lookup(known, attack, what=f"suite or attack of column {heading!r}:")
        named = self.checkpoints
        if isinstance(named, str) or not named or len(set(named)) < len(list(named)):
            raise ValueError(f"checkpoints must be a list of 'best', 'last' or both; got {named!r}")
        for name in named:
            lookup(dict.fromkeys(CHECKPOINTS), name, what="checkpoint")
        object.__setattr__(self, "checkpoints", tuple(c for c in CHECKPOINTS if c in named))
        if self.threats is not None:
            check_threats(self.threats)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("seed", self.seed, 0)
        if type(self.worst_class) is not bool:
            raise ValueError(f"worst_class must be true or false; got {self.worst_class!r}")
        if self.n_examples is not None:
            _at_least("n_examples", self.n_examples, 1)

    def columns(self) -> dict[str, Column]:
        """What is judged, by heading."""
        return columns_of(self.attacks, self.threats)

    def headings(self) -> dict[str, Column | None]:
        """The columns of the table, clean first, each with what is judged.

        Example:
            >>> list(Judging(attacks={"PGD": "pgd-20"}, worst_class=True).headings())
            ['clean', 'PGD', 'PGD, worst class']
        """
        endings = ("", WORST) if self.worst_class else ("",)
        attacked = {heading + more: column for heading, column in self.columns().items() for more in endings}
        return {CLEAN: None, **attacked}


def _at_least(name: str, value: Any, lowest: int) -> None:
    if type(value) is not int or value < lowest:
        raise ValueError(f"{name} must be a whole number of at least {lowest}; got {value!r}")


def places(judging: Judging, recipe: Recipe, folder: Path) -> dict[str, dict[str, Path]]:
    """The report of each checkpoint and column of a cell, by checkpoint, then heading.

    The path says what was judged, so that other settings ask for other reports and leave these alone.

    Example:
        >>> from art_ext.recipes import load_recipe
        >>> judging = Judging(attacks={"PGD-20": "pgd-20"}, n_examples=500)
        >>> found = places(judging, load_recipe("fashion-mnist-5k-piat"), Path("cell"))
        >>> str(found["best"]["PGD-20"])
        'cell/evaluation/best_pgd-20_500-images_seed-0/report.json'
    """
    drawn = recipe.data.test_examples
    extent = ("all" if judging.n_examples is None else str(judging.n_examples)) + (f"-of-{drawn}" if drawn else "")
    what = {heading: column.attack + column.elsewhere(recipe) for heading, column in judging.columns().items()}
    return {
        checkpoint: {
            heading: folder / "evaluation" / f"{checkpoint}_{named}_{extent}-images_seed-{judging.seed}" / REPORT
            for heading, named in what.items()
        }
        for checkpoint in judging.checkpoints
    }


def judge_checkpoints(judging: Judging, recipe: Recipe, run: Path, folder: Path) -> None:
    """Write the reports that are missing; one that was interrupted goes on where it stood.

    Args:
        judging: what is asked.
        recipe: of the run, with what holds on this machine: its folders, its device.
        run: folder of the finished training.
        folder: of the cell.

    Raises:
        FileNotFoundError: no such weights.
        OSError: a report cannot be written.
    """
    for checkpoint, reports in places(judging, recipe, folder).items():
        missing = {heading: path for heading, path in reports.items() if not path.is_file()}
        # the first process is about to write: all must go by what it saw before
        missing = Processes.launched().agree(missing)
        if not missing:
            continue
        data = make_data(recipe.data, seed=recipe.trainer.seed)
        classifier = trained_classifier(recipe, data, checkpoint_of(run, checkpoint))
        columns = judging.columns()
        # two columns ask for one report where a run's own threat model is the other one's
        for path, heading in {path: heading for heading, path in missing.items()}.items():
            attack = columns[heading].attack
            report = evaluate(
                classifier,
                data.x_test,
                data.y_test,
                threat=columns[heading].under(recipe),
                suite=attack,
                n_examples=judging.n_examples,
                batch_size=judging.batch_size,
                seed=judging.seed,
                indicators=attack in SUITES,  # of a single weak attack they could only say that it is one
                resume=path.parent / JOURNAL,
                progress=recipe.trainer.progress,
            )
            if Processes.launched().is_first:
                report.to_json(path)
                shutil.rmtree(path.parent / JOURNAL, ignore_errors=True)


def is_judged(judging: Judging, recipe: Recipe, folder: Path) -> bool:
    """Whether all reports of a cell are there."""
    return all(path.is_file() for reports in places(judging, recipe, folder).values() for path in reports.values())


def read_reports(judging: Judging, recipe: Recipe, folder: Path) -> dict[str, dict[str, RobustnessReport]]:
    """The reports of a cell by checkpoint and heading, those that are there.

    Raises:
        ValueError: a file that is no report.
    """
    return {
        checkpoint: {heading: RobustnessReport.from_json(path) for heading, path in reports.items() if path.is_file()}
        for checkpoint, reports in places(judging, recipe, folder).items()
    }


def about(judging: Judging) -> Iterator[str]:
    """A line on each attack, in the registry's words, and on each threat model."""
    for heading, attack in judging.attacks.items():
        what = f"suite {attack}: {SUITES[attack].description}" if attack in SUITES else f"attack {attack}"
        more = f", {ABOUT[attack]}" if attack in ABOUT else ""
        yield f"{heading}: {what}{more}"
    if judging.worst_class:
        yield "worst class: accuracy of the class with the lowest"
    for name, fields in (judging.threats or {}).items():
        yield told(name, fields)
