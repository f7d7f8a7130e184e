"""Studies that make the figures of a paper again, with one command each, and say whether its claims hold."""

from art_ext.reproduce.studies import STUDIES, Study, get_study

__all__ = ["STUDIES", "Study", "get_study"]
