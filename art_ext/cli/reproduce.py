"""``art-ext reproduce``: make the figures of a paper again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from art_ext.cli.failing import INTERRUPTED, told_in_a_line
from art_ext.reproduce import get_study


def reproduce(study: str, output: str | None = None, seeds: int | None = None, progress: bool = True) -> None:
    """Carry out a study that makes the figures of a paper again, and say whether its claims hold.

    The folder then holds README.md with the verdicts, results.json with every number, and the figures.

    Args:
        study: name of a study, see art-ext list studies.
        output: folder for the results; default reproductions/ and the name of the study.
        seeds: number of seeds; default the study's own.
        progress: show a progress bar.
    """
    with told_in_a_line("art-ext reproduce"):
        found = get_study(study)
        folder, count = Path(output or f"reproductions/{found.name}"), found.seeds if seeds is None else seeds
        command = shlex.join(["art-ext", "reproduce", found.name, "--output", str(folder), "--seeds", str(count)])
        try:
            text = found.run(folder, seeds=count, command=command, progress=progress)
        except KeyboardInterrupt:
            print("\nstopped; the same command begins anew", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
    print(text)
    print(f"written: {folder}/README.md, results.json and the figures")
