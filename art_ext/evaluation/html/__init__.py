"""A report as one self-contained page: no network, no script, light and dark, on a phone and on paper."""

from art_ext.evaluation.html.page import comparison_page, report_page

__all__ = ["comparison_page", "report_page"]
