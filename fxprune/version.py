"""The version of fxprune: the build, the package and the pages that tell it read it here."""

__version__ = "0.1.0"
