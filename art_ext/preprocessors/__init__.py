"""Input defenses as ART preprocessors: thin classes over the modules in `art_ext.nn`."""

from art_ext.preprocessors.base import PREPROCESSORS, ModulePreprocessor, register
from art_ext.preprocessors.inn import INNPreprocessor
from art_ext.preprocessors.noise_injection import NoiseInjection
from art_ext.preprocessors.purifier import PurifierPreprocessor
from art_ext.preprocessors.random_transform import RandomTransform
from art_ext.preprocessors.soft_quantization import SoftQuantization
from art_ext.preprocessors.straight_through import StraightThrough

__all__ = [
    "PREPROCESSORS",
    "INNPreprocessor",
    "ModulePreprocessor",
    "NoiseInjection",
    "PurifierPreprocessor",
    "RandomTransform",
    "SoftQuantization",
    "StraightThrough",
    "register",
]
