"""The command ``art-ext``: one file per verb."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

DESCRIPTION = "Adversarial training and robustness evaluation for the Adversarial Robustness Toolbox."


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, or with the process's own."""
    from art_ext.cli.parser import command_parser, prepared

    verbs = _verbs()
    parser = command_parser(verbs, prog="art-ext", description=DESCRIPTION)
    words = prepared(sys.argv[1:] if args is None else args, verbs)
    # only what was given: every verb knows its own defaults, and a recipe's values stand unless they are changed
    given = parser.parse_args(words, defaults=False).as_dict()
    verb = given["subcommand"]
    verbs[verb](**given.get(verb, {}))


def _verbs() -> dict[str, Callable[..., Any]]:
    from art_ext.cli.compare import compare
    from art_ext.cli.listing import list_registered
    from art_ext.cli.quickstart import quickstart
    from art_ext.cli.report import report
    from art_ext.cli.train import train

    return {"quickstart": quickstart, "train": train, "compare": compare, "list": list_registered, "report": report}
