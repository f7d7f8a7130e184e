"""The command ``art-ext``: one file per verb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DESCRIPTION = "Adversarial training and robustness evaluation for the Adversarial Robustness Toolbox."


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, or with the process's own."""
    from jsonargparse import auto_cli

    from art_ext.cli.listing import list_registered
    from art_ext.cli.parser import Parser
    from art_ext.cli.quickstart import quickstart
    from art_ext.cli.report import report

    verbs: Any = {"quickstart": quickstart, "list": list_registered, "report": report}
    auto_cli(
        verbs,
        args=None if args is None else list(args),
        parser_class=Parser,
        prog="art-ext",
        description=DESCRIPTION,
        allow_abbrev=False,
    )
