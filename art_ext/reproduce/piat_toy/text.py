"""What the numbers say, in words: the page of the folder, and a table for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean, stdev

from art_ext.evaluation.numbers import MINUS, p_text
from art_ext.reproduce.piat_toy.claims import LEVEL, PAIRS, Claim
from art_ext.reproduce.piat_toy.judging import PER_SIDE
from art_ext.reproduce.piat_toy.measures import MEASURES, runs_of
from art_ext.reproduce.piat_toy.pictures import PICTURES
from art_ext.reproduce.piat_toy.results import PAPER, Results
from art_ext.reproduce.piat_toy.settings import METHODS, Settings

WIDTH = 120  # of the prose in the page
HEADLINE = ("fall", "robust")  # the paper's claim: oscillates less, and is more robust


def page(results: Results) -> str:
    """The page ``README.md``; every number and verdict in it is computed."""
    blocks = [
        "# The toy problem of the PIAT paper",
        about(results),
        f"```sh\n{results.command}\n```",
        "## Does the paper's claim hold?",
        *(headline(results.claims, pair) for pair in PAIRS),
        "\n".join(claims_table(results.claims)),
        rule(results.settings),
        "## Numbers",
        "\n".join(numbers_table(results)),
        search(results),
        "## Figures",
        *(f"{picture.caption(results)}\n\n![{name}]({name})" for name, picture in PICTURES.items()),
        "All raw numbers, and the weights behind the boundaries, are in [results.json](results.json).",
    ]
    return "\n\n".join(map(wrapped, "\n\n".join(blocks).split("\n\n"))) + "\n"


def wrapped(block: str) -> str:
    """A block of Markdown with its prose in lines of at most 120 characters; tables and code as they are.

    Example:
        >>> [len(wrapped(start + "word " * 30).splitlines()) for start in ("", "| ")]
        [2, 1]
    """
    if block.startswith(("|", "#", "```", "![")):
        return block
    return textwrap.fill(block, WIDTH, break_long_words=False, break_on_hyphens=False)


def about(results: Results) -> str:
    """What was done, with its numbers."""
    s, circles = results.settings, results.settings.circles
    return (
        f"Two concentric circles of radius {circles.radii[0]:g} and {circles.radii[1]:g} (each ±{circles.jitter:g}), "
        f"lifted to three dimensions by an independent height in ±{circles.height:g}; one hidden layer of {s.width} "
        f"ReLUs; SGD with learning rate {s.lr:g} and momentum {s.momentum:g}; {s.epochs} epochs of "
        f"{s.train} points in batches of {s.batch_size}; PGD-{s.steps} inside, {s.threat}. Epochs are judged by "
        f"PGD-{s.judging_steps} on {s.test} test points. Seeds 0 to {s.seeds - 1} (the sweeps: the "
        f"first {s.sweep_seeds}); methods share data, initial weights and order of a seed.\n\n"
        f"The circles leave an ℓ∞ margin of {circles.margin:.4f}, so a circle halfway between them holds "
        f"{min(results.ideal):.1%} of the test points under attack: what lacks to that is the training's doing. From "
        f"the paper ({PAPER}): the circles, one hidden layer, optimizer, learning rate and epochs. Radii, lift, width, "
        "ε, steps and sizes are ours; they were chosen by PGD-AT alone, so that it learns and does not settle."
    )


def headline(claims: Iterable[Claim], pair: tuple[str, str]) -> str:
    """The paper's claim in one line, for a method and its baseline."""
    method, baseline = pair
    told = [
        f"{MEASURES[c.measure].claim}: **{c.verdict}**" for c in claims if c.method == method and c.measure in HEADLINE
    ]
    return f"{method} beside {baseline}: {'; '.join(told)}."


def claims_table(claims: Sequence[Claim]) -> Iterator[str]:
    """Rows of Markdown: each claim with its mean difference and verdict, a column for each pair."""
    yield (
        "| the paper says of PIAT | " + " | ".join(f"{method} {MINUS} {baseline}" for method, baseline in PAIRS) + " |"
    )
    yield "|---" * (1 + len(PAIRS)) + "|"
    for name in dict.fromkeys(claim.measure for claim in claims):
        cells = [cell(claim) for claim in claims if claim.measure == name]
        yield f"| {MEASURES[name].claim} ({unit(name)}) | {' | '.join(cells)} |"


def cell(claim: Claim) -> str:
    """Mean difference ± standard error, in how many seeds it has the claimed sign, p-value and verdict."""
    measure = MEASURES[claim.measure]
    as_claimed = sum(d != 0 and (d > 0) == measure.more for d in claim.differences)
    mean = measure.shown(claim.mean, sign="+").replace("-", MINUS)
    seeds = f"{as_claimed} of {len(claim.differences)} seeds"
    return f"{mean} ± {measure.shown(claim.error)}, {seeds}, p {_p(claim.p_value)}: **{claim.verdict}**"


def unit(name: str) -> str:
    """What a measure is measured in."""
    return "points" if MEASURES[name].percent else "nats"


def rule(settings: Settings) -> str:
    """What a verdict means."""
    return (
        f"Mean difference over the {settings.seeds} seeds ± its standard error; in how many seeds the difference has "
        f"the sign that the paper says; p of the exact sign-flip test, one-sided. *Holds*: p ≤ {LEVEL:g}; "
        "*contradicted*: the opposite claim would hold; else *undecided*. Each row is tested by itself."
    )


def numbers_table(results: Results) -> Iterator[str]:
    """Rows of Markdown: each measure of each method, mean ± standard deviation over the seeds."""
    yield "| | " + " | ".join(METHODS) + " |"
    yield "|---" * (1 + len(METHODS)) + "|"
    for measure in MEASURES.values():
        columns = [[measure.of(r, results.settings.tail) for r in runs_of(results.runs, method)] for method in METHODS]
        cells = [f"{measure.shown(fmean(column))} ± {measure.shown(stdev(column))}" for column in columns]
        yield f"| {measure.text} ({'%' if measure.percent else 'nats'}) | {' | '.join(cells)} |"


def search(results: Results) -> str:
    """How far the attack can be believed: what a search of the whole ball finds beside it."""
    missed = [run.robust[-1] - run.exhaustive for run in results.runs]
    return (
        f"The last epochs are the last {results.settings.tail}. How far PGD can be believed: a grid of {PER_SIDE}³ "
        f"points of each ball, tried beside it on the final network of all {len(missed)} trainings, lowers robust "
        f"accuracy by {100 * fmean(missed):.2f} points on average and {100 * max(missed):.2f} at most."
    )


def _p(value: float) -> str:
    text = p_text(value)
    return text if text.startswith("<") else f"= {text}"
