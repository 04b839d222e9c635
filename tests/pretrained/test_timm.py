"""Models of timm keep their own methods: features, the classifier, a new one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from models_zoo import randomize

pytestmark = pytest.mark.filterwarnings("ignore")

# name, options, and the width of the features that are left of a half
MODELS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("resnet18", {"channels": (4, 8, 8, 16), "stem_width": 8, "layers": (1, 1, 1, 1)}, 8),
    ("vit_tiny_patch16_224", {"img_size": 32, "embed_dim": 48, "depth": 1, "num_heads": 4}, 24),
    ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (4, 8, 8, 16)}, 8),
)


@pytest.mark.parametrize(("name", "options", "width"), MODELS, ids=[m[0] for m in MODELS])
def test_features_and_the_classifier_are_those_of_a_model_of_timm(
    name: str, options: dict[str, Any], width: int
) -> None:
    timm: Any = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = randomize(timm.create_model(name, num_classes=6, **options)).eval()
    image = torch.randn(2, 3, 32, 32)
    plan = fxprune.plan(model, image, ratio=0.5)
    small: Any = fxprune.shrink(model, plan, image, emit="module", verify="quick")
    assert type(small) is type(model)
    with torch.no_grad():
        features: Tensor = small.forward_features(image)
        dim = 1 if features.dim() == 4 else 2
        assert features.shape[dim] == width
        assert torch.equal(small.forward_head(features), small(image))
    classifier = small.get_classifier()
    assert isinstance(classifier, nn.Linear)
    assert (classifier.in_features, classifier.out_features) == (width, 6)
    assert small.num_features == width
    small.reset_classifier(3)
    assert small.get_classifier().in_features == width
    assert small(image).shape == (2, 3)
    small.reset_classifier(0)
    assert small(image).shape == (2, width)
