"""Broken defenses and honest networks, for tests of whether an evaluation can tell the one from the other."""
