"""Modules that need an extra are not collected for their doctests without it."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("lightning") else ["fxprune/lightning.py"]
