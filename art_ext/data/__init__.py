"""Data sets: arrays where they fit into memory, folders of images to stream, and pure functions over labels."""

from art_ext.data.folders import ImageFolder, image_folder
from art_ext.data.images import CentreCrop, RandomCrop, UnreadableImageError
from art_ext.data.labels import subset, with_label_noise
from art_ext.data.reading import read_arrays, readable
from art_ext.data.sets import DATA_VARIABLE, DATASETS, DatasetInfo, Images, Labels, Splits, load
from art_ext.data.shards import Shards, image_shards

__all__ = [
    "DATASETS",
    "DATA_VARIABLE",
    "CentreCrop",
    "DatasetInfo",
    "ImageFolder",
    "Images",
    "Labels",
    "RandomCrop",
    "Shards",
    "Splits",
    "UnreadableImageError",
    "image_folder",
    "image_shards",
    "load",
    "read_arrays",
    "readable",
    "subset",
    "with_label_noise",
]
