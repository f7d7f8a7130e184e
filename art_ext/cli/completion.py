"""``art-ext completion``: a script with which a shell completes words of the command line."""

from __future__ import annotations

from argparse import Action, ArgumentParser, _SubParsersAction
from typing import Any, Literal, get_args, get_origin

# options whose values are names, and the kinds of art-ext list that these come from
NAMED = {
    "trainer.kind": ("trainers",),
    "trainer.loss": ("losses",),
    "trainer.averaging": ("averagings",),
    "trainer.attack": ("inner-attacks",),
    "trainer.augment": ("augmentations",),
    "optimizer.name": ("optimizers",),
    "schedule.name": ("schedules",),
    "data.name": ("data",),
    "evaluation.suite": ("suites", "attacks"),
    "suite": ("suites", "attacks"),
}
LISTED = {"grid": ["grids"], "study": ["studies"]}  # positional arguments, and the kinds that they come from
RECIPES = ("recipe", "run")  # positional arguments that a shipped recipe can stand for


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print a script that makes a shell complete verbs, options and names.

    Args:
        shell: bash, zsh or tcsh.
    """
    try:
        import shtab
    except ImportError as error:
        raise SystemExit("art-ext completion: it needs shtab: pip install 'art-ext[completion]'") from error
    from art_ext.cli import whole_parser

    print(shtab.complete(with_choices(whole_parser()), shell))


def with_choices(parser: ArgumentParser) -> ArgumentParser:
    """The parser, good for completion only: its options know their values, so far as these are names."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for verb in action.choices.values():
                with_choices(verb)
        elif action.choices is None:
            action.choices = _choices(action)
    return parser


def _choices(action: Action) -> list[str] | None:
    from art_ext.cli.listing import KINDS, names
    from art_ext.recipes.layers import shipped

    if action.dest in NAMED:
        return names(NAMED[action.dest])
    if action.dest in RECIPES and not action.option_strings:
        return list(shipped())
    if action.dest in LISTED and not action.option_strings:
        return names(LISTED[action.dest])
    if action.dest == "kind":
        return [*(name for name, rows in KINDS.items() if rows()), "kinds"]
    return _words(getattr(action, "_typehint", action.type))


def _words(hint: Any) -> list[str] | None:
    """The words that a type allows: those of a `Literal`, true and false."""
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    found = [words for part in get_args(hint) if (words := _words(part))]
    return found[0] if found else None
