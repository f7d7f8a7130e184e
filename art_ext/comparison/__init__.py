"""Comparisons: a grid of runs, carried out cell by cell, and the table of them all."""

from art_ext.comparison.cells import Cell, cells_of, find_cell
from art_ext.comparison.grid import Grid, Method, shipped_grids
from art_ext.comparison.judging import Judging
from art_ext.comparison.output import write_tables
from art_ext.comparison.reading import grid_of, load_grid
from art_ext.comparison.running import Outcome, is_done, run_cell, run_cells
from art_ext.comparison.tables import Table

__all__ = [
    "Cell",
    "Grid",
    "Judging",
    "Method",
    "Outcome",
    "Table",
    "cells_of",
    "find_cell",
    "grid_of",
    "is_done",
    "load_grid",
    "run_cell",
    "run_cells",
    "shipped_grids",
    "write_tables",
]
