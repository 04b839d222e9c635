"""A small trained network for scikit-learn's handwritten digits, with its data and training.

`load()` returns the network with the committed weights; `load_split()` returns the data.
`python -m models_zoo.digits.train` trains it again and replaces the weights.
"""

from __future__ import annotations

from models_zoo.digits.data import Split, load_split
from models_zoo.digits.model import DigitsNet, load

__all__ = ["DigitsNet", "Split", "load", "load_split"]
