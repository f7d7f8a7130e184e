"""What training methods do beside a loss, an attack and an averaging; several of them go together."""

from art_ext.technique import Technique, Techniques
from art_ext.techniques.attention_patches import AttentionAndPatches, AttentionDropping, PatchMasking
from art_ext.techniques.awp import AWP
from art_ext.techniques.base import TECHNIQUES, get_technique, put_together, register
from art_ext.techniques.eps_warm_up import EpsWarmUp
from art_ext.techniques.for_vit import VIT, with_vit
from art_ext.techniques.free import Free
from art_ext.techniques.mixup import Mixup
from art_ext.techniques.natural import Natural
from art_ext.techniques.overfitting_alarm import CatastrophicOverfittingError, OverfittingAlarm
from art_ext.techniques.warm_start import WarmStart

__all__ = [
    "AWP",
    "TECHNIQUES",
    "VIT",
    "AttentionAndPatches",
    "AttentionDropping",
    "CatastrophicOverfittingError",
    "EpsWarmUp",
    "Free",
    "Mixup",
    "Natural",
    "OverfittingAlarm",
    "PatchMasking",
    "Technique",
    "Techniques",
    "WarmStart",
    "get_technique",
    "put_together",
    "register",
    "with_vit",
]
