"""Reports that people read: one page of HTML or Markdown of all that shrinking did."""

from fxprune.reports.building import page_of
from fxprune.reports.cells import Page
from fxprune.reports.checks import plan_digest
from fxprune.reports.html_pages import html_of
from fxprune.reports.markdown_pages import markdown_of
from fxprune.reports.tradeoff_data import Candidate, Tradeoff

__all__ = [
    "Candidate",
    "Page",
    "Tradeoff",
    "html_of",
    "markdown_of",
    "page_of",
    "plan_digest",
]
