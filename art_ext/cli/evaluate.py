"""``art-ext evaluate``: judge a trained network as its recipe says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from art_ext.cli.failing import INTERRUPTED, told_in_a_line
from art_ext.processes import Processes
from art_ext.recipes.reports import evaluate_run, find_run


def evaluate(
    run: str,
    checkpoint: str | None = None,
    which: Literal["best", "last"] | None = None,
    suite: list[str] | str | None = None,
    n_examples: int | None = None,
    output: str | None = None,
    **settings: Any,
) -> None:
    """Attack a trained network; writes report.json and report.html into the run's folder.

    Finished batches are kept there: the same command goes on where an earlier one was stopped.

    Args:
        run: folder that art-ext train wrote, a file of weights in it, or a recipe together with checkpoint.
        checkpoint: a file of weights for the recipe.
        which: weights of the best or of the last epoch; by default best where there are held-out images.
        suite: name of a suite or of an attack, or a list of them; short for evaluation.suite.
        n_examples: attack only the first so many test images; short for evaluation.n_examples.
        output: folder for the reports; default the run's, or that of the checkpoint.
        settings: fields of the recipe by section; those of evaluation, above all.
    """
    short = {"which": which, "suite": suite, "n_examples": n_examples}
    with told_in_a_line("art-ext evaluate"):
        said = {key: value for key, value in short.items() if value is not None}
        changes = {**settings, "evaluation": {**settings.get("evaluation", {}), **said}}
        found = find_run(run, changes, checkpoint)
        try:
            report, page = evaluate_run(found, Path(output) if output else found.folder)
        except KeyboardInterrupt:
            print("\nstopped; the same command goes on from here", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
    if Processes.launched().is_first:
        print(report)
        print(f"written: {page.with_suffix('.json')}, {page}")
