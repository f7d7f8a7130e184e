"""Finds the packages: everything under ``art_ext/``, and the sibling folder ``adapters/`` as ``art_ext.adapters``.

All metadata is in ``setup.cfg``.
"""

from setuptools import find_packages, setup

ADAPTERS = "art_ext.adapters"

setup(
    packages=[
        *find_packages(include=["art_ext", "art_ext.*"]),
        ADAPTERS,
        *(f"{ADAPTERS}.{name}" for name in find_packages("adapters")),
    ]
)
