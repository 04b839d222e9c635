"""scikit-learn's 8x8 handwritten digits, split once and for all."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """Images (N, 1, 8, 8), float32 in [0, 1], and labels (N,), int64, for both parts."""

    train_images: Tensor
    train_labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor


def load_split() -> Split:
    """Return 1347 training and 450 held-out digits, the same ones each time.

    Raises ModuleNotFoundError if scikit-learn, which ships the data, is not installed.
    """
    try:
        # A development dependency, so it is needed only when the data is.
        from sklearn.datasets import load_digits  # noqa: PLC0415
        from sklearn.model_selection import train_test_split  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "models_zoo.digits.load_split: the digits come with scikit-learn, which cannot be "
            f"imported ({error}); install it with `pip install scikit-learn`"
        ) from error
    digits = load_digits()
    train_x, held_out_x, train_y, held_out_y = train_test_split(
        digits.images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )

    def images(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32).div(16.0).unsqueeze(1)

    def labels(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.int64)

    return Split(images(train_x), labels(train_y), images(held_out_x), labels(held_out_y))
