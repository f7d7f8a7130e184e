"""The parser of the command line."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

from art_ext.recipes.layers import proposal
from art_ext.recipes.resolve import add_sections
from art_ext.recipes.sections import SECTIONS, TEXTS
from art_ext.recipes.text import FRACTION, fraction, parse

Verb = Callable[..., Any]
SETTINGS = "settings"  # the parameter ``**settings`` of a verb that takes every field of a recipe as an option
_INSIDE = re.compile(r"\d/\d")  # a fraction, perhaps
_UNKNOWN = re.compile(r"unrecognized arguments: (--[\w.-]+)")


class Parser(ArgumentParser):
    """jsonargparse's parser, with four habits of its own.

    A required list takes all words, as ``cp`` and ``cat`` do, not one word ``[a,b]``. A flag needs no value
    (``--resume``), and may have one (``--resume false``). A wrong option is answered with the nearest right one. A verb
    with ``**settings`` takes every field of a recipe as an option, none of them required.
    """

    def add_function_arguments(self, function: Verb, *args: Any, **kwargs: Any) -> Any:
        """Add the arguments of a verb."""
        lists, flags = required_lists(function), flags_of(function)
        kwargs["skip"] = {*(kwargs.get("skip") or ()), *lists, *flags, SETTINGS}
        added = super().add_function_arguments(function, *args, **kwargs)
        for name in lists:
            self.add_argument(name, nargs="+", type=str, help=_said_of(name, function))
        for name in flags:
            self.add_argument(f"--{name}", nargs="?", type=bool, const=True, help=_said_of(name, function))
        return [*added, *lists, *flags, *(self._add_settings() if takes_settings(function) else ())]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Stop with exit status 2; propose what an unknown option may have been meant to be."""
        unknown = _UNKNOWN.search(message)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            message = f"{message}; {proposal(unknown[1], options)}"
        super().error(message, ex)

    def _add_settings(self) -> list[str]:
        before = set(self._actions)
        for name in TEXTS:
            self.add_argument(f"--{name}", type=str, help="of the recipe")
        add_sections(self)
        added = [action for action in self._actions if action not in before]
        for action in added:
            action.required = False  # the recipe's file has it
        return [action.dest for action in added]


def command_parser(verbs: Mapping[str, Verb], **options: Any) -> Parser:
    """The parser of a command with these verbs."""
    parser = Parser(allow_abbrev=False, **options)
    commands = parser.add_subcommands(required=True)
    for name, function in verbs.items():
        first_line = (inspect.getdoc(function) or "").partition("\n")[0]
        verb = Parser(allow_abbrev=False, description=first_line)
        verb.add_function_arguments(function, as_group=False, as_positional=True)
        commands.add_subcommand(name, verb, help=first_line)
    return parser


def prepared(words: Sequence[str], verbs: Mapping[str, Verb]) -> list[str]:
    """The words of a command line as the parser takes them: fractions as numbers, flags with their value.

    Raises:
        ValueError: a division by zero; the option is named.

    Example:
        >>> def train(recipe: str, resume: bool = False, **settings: str): ...
        >>> prepared(["train", "--resume", "a.yaml", "--threat.eps", "1/4"], {"train": train})
        ['train', '--resume=true', 'a.yaml', '--threat.eps', '0.25']
    """
    function = verbs.get(words[0]) if words else None
    flags = {f"--{name}" for name in (flags_of(function) if function else ())}
    result = []
    for before, word, following in zip(["", *words], words, [*words[1:], ""], strict=False):
        bare = word in flags and following not in ("true", "false")
        result.append(f"{word}=true" if bare else _with_numbers(word, before, function))
    return result


def _with_numbers(word: str, before: str, function: Verb | None) -> str:
    """Fractions as numbers, where the option, this word's or the one before, takes numbers: 2024/05 may be a folder."""
    option, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
    if option == word:
        return word
    hint = _hint_of(option.removeprefix("--"), function)
    found = value
    try:
        if FRACTION.match(value) and float in (hint, *get_args(hint)):
            found = repr(fraction(value))
        elif value.startswith("{") and _INSIDE.search(value) and get_origin(hint) is dict:
            found = json.dumps(parse(value))
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
    return f"{option}{equals}{found}" if equals else found


def _hint_of(option: str, function: Verb | None) -> Any:
    """The type of an option's values; of an option of an option, as ``trainer.loss_options.mu``, a number."""
    section, _, key = option.partition(".")
    if function is None:
        return None
    if not key:
        return get_type_hints(function).get(option)
    if not takes_settings(function) or section not in SECTIONS:
        return None
    return float if "." in key else get_type_hints(SECTIONS[section]).get(key)


def takes_settings(function: Verb) -> bool:
    """Whether a verb takes every field of a recipe as an option."""
    return SETTINGS in inspect.signature(function).parameters


def required_lists(function: Verb) -> list[str]:
    """The parameters of a verb that are lists and must be given."""
    hints, parameters = get_type_hints(function), inspect.signature(function).parameters
    return [n for n, p in parameters.items() if p.default is p.empty and get_origin(hints.get(n)) is list]


def flags_of(function: Verb) -> list[str]:
    """The parameters of a verb that are off unless they are given."""
    return [name for name, p in inspect.signature(function).parameters.items() if p.default is False]


def _said_of(name: str, function: Verb) -> str:
    """The line on an argument in the docstring."""
    found = re.search(rf"^ +{re.escape(name)}: (.+)$", inspect.getdoc(function) or "", re.MULTILINE)
    return found[1] if found else "one or more"
