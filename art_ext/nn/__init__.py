"""Parts of networks: here those that stand alone, all others in modules of their own."""

from art_ext.nn.parametric_noise import add_parametric_noise, remove_parametric_noise
from art_ext.nn.soft_vote import SoftVote

__all__ = ["SoftVote", "add_parametric_noise", "remove_parametric_noise"]
