"""torchvision's models, for tests that are skipped where it is not installed."""

from typing import Any

import pytest


class _Models:
    """Looks for torchvision once a test asks for one of its models."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # pytest looks at what modules hold
        return getattr(pytest.importorskip("torchvision.models"), name)


models: Any = _Models()


def small_vision_transformer() -> Any:
    """Three blocks of four heads, for images of 32 x 32."""
    return models.vision_transformer.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=4,
        hidden_dim=32,
        mlp_dim=64,
        num_classes=10,
    ).eval()
