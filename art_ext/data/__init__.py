"""Data sets: those that fit into memory as arrays, folders of images, and pure functions over both."""

from art_ext.data.sets import DATA_VARIABLE, DATASETS, DatasetInfo, Images, Labels, Splits, load

__all__ = ["DATASETS", "DATA_VARIABLE", "DatasetInfo", "Images", "Labels", "Splits", "load"]
