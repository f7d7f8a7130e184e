"""What training methods do beside a loss, an attack and an averaging; several of them go together."""

from art_ext.technique import Technique, Techniques
from art_ext.techniques.awp import AWP
from art_ext.techniques.base import TECHNIQUES, get_technique, put_together, register

__all__ = ["AWP", "TECHNIQUES", "Technique", "Techniques", "get_technique", "put_together", "register"]
