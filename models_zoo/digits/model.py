"""A residual network for 8x8 digits, wider than the task needs, so that pruning pays."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("weights.safetensors")


class Block(nn.Module):
    """Two convolutions with batch norm, added to the input or to its projection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out + shortcut)


class DigitsNet(nn.Module):
    """Stem, three residual blocks (the second one halves the map), global pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(24)
        self.block1 = Block(24, 24)
        self.block2 = Block(24, 40, stride=2)
        self.block3 = Block(40, 40)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map digits (N, 1, 8, 8) with values in [0, 1] to class scores (N, 10)."""
        x = F.relu(self.bn(self.conv(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(self.pool(x).flatten(1))


def load(path: Path = WEIGHTS) -> DigitsNet:
    """Return a `DigitsNet` in eval mode with the weights at `path`, by default the trained ones.

    Raises ModuleNotFoundError if safetensors is not installed, FileNotFoundError without weights.
    """
    try:
        # A development dependency, so it is needed only when the weights are.
        from safetensors.torch import load_file  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "models_zoo.digits.load: the weights are a safetensors file, and safetensors cannot "
            f"be imported ({error}); install it with `pip install safetensors`"
        ) from error
    if not path.is_file():
        raise FileNotFoundError(
            f"models_zoo.digits.load: no weights at {path}; "
            "make them with `python -m models_zoo.digits.train`"
        )
    model = DigitsNet()
    model.load_state_dict(load_file(path))
    return model.eval()
