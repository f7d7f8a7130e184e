"""Pictures of an evaluation: curves, landscapes, examples, classes; each a value that can be drawn."""

from art_ext.evaluation.figures.classes import confusion, draw_confusion, draw_per_class_accuracy, per_class_accuracy
from art_ext.evaluation.figures.curve import Curve
from art_ext.evaluation.figures.curves import accuracy_over_eot, accuracy_over_eps, accuracy_over_steps
from art_ext.evaluation.figures.drawing import figure_of, save, svg
from art_ext.evaluation.figures.gallery import Gallery, gallery
from art_ext.evaluation.figures.landscape import Landscape
from art_ext.evaluation.figures.landscapes import input_landscape, parameter_landscape
from art_ext.evaluation.figures.stages import Stages, stages

__all__ = [
    "Curve",
    "Gallery",
    "Landscape",
    "Stages",
    "accuracy_over_eot",
    "accuracy_over_eps",
    "accuracy_over_steps",
    "confusion",
    "draw_confusion",
    "draw_per_class_accuracy",
    "figure_of",
    "gallery",
    "input_landscape",
    "parameter_landscape",
    "per_class_accuracy",
    "save",
    "stages",
    "svg",
]
