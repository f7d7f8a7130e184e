"""The page about the detector: its code runs, its tables are those of the code, its links lead somewhere."""

import inspect
import re
from pathlib import Path

from art_ext.detectors import FAMILIES, AttackForensics

PAGE = Path(__file__).resolve().parents[2] / "docs" / "defenses" / "forensics.md"
TEXT = PAGE.read_text(encoding="utf-8")


def first_column(head):
    """The words in code type of the first column of the table with that head."""
    table = TEXT.partition(f"| {head} |")[2].partition("\n\n")[0]
    return set(re.findall(r"`([\w-]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[1:])))


def test_code_runs():
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(block, {})


def test_every_parameter_is_in_the_table():
    own = set(inspect.signature(AttackForensics.__init__).parameters) - {"self", "classifier"}
    assert first_column("parameter") == own


def test_every_family_is_in_the_table():
    assert first_column("family") == set(FAMILIES)


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
