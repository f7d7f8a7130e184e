"""``art-ext list``."""

import pytest

from art_ext.cli import main
from art_ext.cli.listing import KINDS, names, registered
from art_ext.evaluation.suites import ATTACKS

THERE = [kind for kind, rows in KINDS.items() if rows()]


@pytest.mark.parametrize("kind", [*THERE, "kinds"])
def test_every_entry_has_a_name_and_a_line(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", kind])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    assert len({line.split()[0] for line in lines}) == len(lines) == len(registered(kind))


@pytest.mark.parametrize("kind", ["losses", "attacks", "studies"])
def test_methods_name_their_paper(kind: str) -> None:
    assert all("https://" in line for _, line in registered(kind))


def test_attacks_are_those_that_suites_are_made_of() -> None:
    assert names(["attacks"]) == list(ATTACKS)


def test_kinds_that_are_empty_are_not_shown() -> None:
    assert names(["kinds"]) == THERE


def test_an_unknown_kind_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["list", "lossess"])
    assert stop.value.code == 2
    assert "did you mean 'losses'" in capsys.readouterr().err
