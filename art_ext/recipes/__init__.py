"""Recipes: a training run and its evaluation as one YAML file, and carrying it out."""

from art_ext.recipes.layers import find, merged, shipped
from art_ext.recipes.resolve import as_mapping, as_text, differences, load_recipe, read_recipe, recipe_of, save_recipe
from art_ext.recipes.run import RunResult, is_finished, judge, load_run, run_recipe
from art_ext.recipes.sections import (
    DataSection,
    EvaluationSection,
    ModelSection,
    OptimizerSection,
    Recipe,
    ScheduleSection,
    ThreatSection,
    TrainerSection,
)

__all__ = [
    "DataSection",
    "EvaluationSection",
    "ModelSection",
    "OptimizerSection",
    "Recipe",
    "RunResult",
    "ScheduleSection",
    "ThreatSection",
    "TrainerSection",
    "as_mapping",
    "as_text",
    "differences",
    "find",
    "is_finished",
    "judge",
    "load_recipe",
    "load_run",
    "merged",
    "read_recipe",
    "recipe_of",
    "run_recipe",
    "save_recipe",
    "shipped",
]
