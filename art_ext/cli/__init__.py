"""The command ``art-ext``: one file per verb."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from art_ext.cli.parser import Parser

DESCRIPTION = "Adversarial training and robustness evaluation for the Adversarial Robustness Toolbox."


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, or with the process's own."""
    from art_ext.cli.parser import prepared

    verbs = _verbs()
    parser = whole_parser()
    try:
        words = prepared(sys.argv[1:] if args is None else args, verbs)
    except ValueError as error:
        parser.error(str(error))
    # only what was given: every verb knows its own defaults, and a recipe's values stand unless they are changed
    given = parser.parse_args(words, defaults=False).as_dict()
    verb = given["subcommand"]
    verbs[verb](**given.get(verb, {}))


def whole_parser() -> Parser:
    """The parser of the command with all its verbs."""
    from art_ext.cli.parser import command_parser

    return command_parser(_verbs(), prog="art-ext", description=DESCRIPTION)


def _verbs() -> dict[str, Callable[..., Any]]:
    from art_ext.cli.compare import compare
    from art_ext.cli.completion import completion
    from art_ext.cli.evaluate import evaluate
    from art_ext.cli.listing import list_registered
    from art_ext.cli.quickstart import quickstart
    from art_ext.cli.report import report
    from art_ext.cli.reproduce import reproduce
    from art_ext.cli.train import train

    return {
        "quickstart": quickstart,
        "train": train,
        "evaluate": evaluate,
        "compare": compare,
        "list": list_registered,
        "report": report,
        "reproduce": reproduce,
        "completion": completion,
    }
