"""Progress on a terminal, in a log file, in silence."""

import io
import re

import pytest

from art_ext import progress
from art_ext.progress import Lines, progress_bar

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x9b]")  # all but the line feed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def work(total: int = 4, *, show: bool = True) -> None:
    with progress_bar(total, "img", show=show) as bar:
        bar.set_description("PGD")
        for _ in range(total):
            bar.set_postfix_str("accuracy 50%", refresh=False)
            bar.update(1)


def test_a_log_file_gets_whole_lines_without_control_characters(capsys):
    work()
    written = capsys.readouterr().err
    assert written == "PGD: 4/4 img [00:00<00:00], accuracy 50%\n"
    assert not CONTROL.search(written)


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    work()
    assert terminal.getvalue().count("\r") >= 2
    assert "100%|" in terminal.getvalue()
    assert "accuracy 50%" in terminal.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal], ids=["file", "terminal"])
def test_silence(monkeypatch, stream):
    err = stream()
    monkeypatch.setattr("sys.stderr", err)
    work(show=False)
    assert err.getvalue() == ""


def test_a_line_every_thirty_seconds(capsys, clock):
    lines = Lines(100, "batch")
    for _ in range(100):
        clock[0] += 1.0
        lines.update()
    lines.close()
    done = [line.split("/")[0] for line in capsys.readouterr().err.splitlines()]
    assert done == ["30", "60", "90", "100"]


def test_times_in_a_line(clock):
    lines = Lines(100, "batch")
    clock[0] = 65.0
    lines.update(50)
    assert str(lines) == "50/100 batch [01:05<01:05]"


def test_what_was_done_before_says_nothing_about_the_speed(clock):
    lines = Lines(100, "batch", done=50)
    clock[0] = 10.0
    lines.update(25)
    assert str(lines) == "75/100 batch [00:10<00:10]"


def test_what_is_written_is_not_written_again(capsys):
    lines = Lines(2, "batch")
    lines.update(2)
    lines.refresh()
    lines.close()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_done_nothing_written(capsys):
    progress_bar(3, "img").close()
    assert capsys.readouterr().err == ""
