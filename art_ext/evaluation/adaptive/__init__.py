"""Adaptive suites: the attacks that know the defense they are up against."""

from art_ext.evaluation.adaptive.suites import adaptive_suite, default_suite

__all__ = ["adaptive_suite", "default_suite"]
