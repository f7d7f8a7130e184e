"""Look-ups by name: the right one, or a message with the nearest."""

import re

import pytest

from art_ext.naming import lookup

KNOWN = {"trades": 1, "mart": 2, "pgd-at": 3}

WRONG = {  # what is asked for -> what the message proposes
    "trade": " did you mean 'trades'?",
    "TRADES": " did you mean 'trades'?",
    "pgdat": " did you mean 'pgd-at'?",
    "xyzzy": "",
    "": "",
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_name_is_found(name):
    assert lookup(KNOWN, name, what="loss") == KNOWN[name]


@pytest.mark.parametrize("name, hint", WRONG.items(), ids=repr)
def test_an_unknown_name_is_answered_with_the_nearest_and_all(name, hint):
    message = f"unknown loss {name!r};{hint} known: mart, pgd-at, trades"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        lookup(KNOWN, name, what="loss")
