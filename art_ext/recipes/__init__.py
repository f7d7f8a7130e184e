"""Recipes: a training run and its evaluation as one YAML file, and carrying it out."""

from art_ext.recipes.data_section import DataSection
from art_ext.recipes.folder import is_finished
from art_ext.recipes.images import Data, make_data
from art_ext.recipes.judging import judge, load_run
from art_ext.recipes.layers import find, merged, shipped
from art_ext.recipes.resolve import as_mapping, as_text, differences, load_recipe, read_recipe, recipe_of, save_recipe
from art_ext.recipes.run import RunResult, run_recipe
from art_ext.recipes.sections import EvaluationSection, ModelSection, Recipe, ThreatSection
from art_ext.recipes.training_sections import OptimizerSection, ScheduleSection, TrainerSection

__all__ = [
    "Data",
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
    "make_data",
    "merged",
    "read_recipe",
    "recipe_of",
    "run_recipe",
    "save_recipe",
    "shipped",
]
