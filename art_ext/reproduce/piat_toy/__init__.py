"""The toy problem of the PIAT paper (https://arxiv.org/abs/2511.00836, section III-A), with its figures.

Two concentric circles lifted to three dimensions (`data`), a perceptron with one hidden layer trained on them with and
without PIAT and NMSE (`training`), every epoch of it judged (`judging`), the paper's claims held against the
numbers over several seeds (`claims`), and pictures of it all (`curves`, `planes`).
"""

from art_ext.reproduce.piat_toy.data import Circles
from art_ext.reproduce.piat_toy.settings import Method, Settings
from art_ext.reproduce.piat_toy.study import run

__all__ = ["Circles", "Method", "Settings", "run"]
