"""Every torchvision model but the quantized ones, whose weights are no parameters."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from sweeps.entry import SweepModel, normal

# The families other than classification, by what their builders' modules are called.
_FAMILIES = ("segmentation", "detection", "video", "optical_flow")
# Detectors scale their images up to 800 pixels, which takes minutes in float64.
_SMALL_IMAGES = {"min_size": 128, "max_size": 160}
# Random scores pass no threshold; and a few boxes show as much as a hundred.
_FEW_BOXES = {"score_thresh": 0.0, "detections_per_img": 10}
_PROPOSALS = {"rpn_pre_nms_top_n_test": 50, "rpn_post_nms_top_n_test": 20}
_LAST_LAYERS = ("bbox", "cls", "module_list", "logits", "score_lowres")


def _family(name: str) -> str:
    path = models.get_model_builder(name).__module__.split(".")
    return next(
        (family.replace("_", " ") for family in _FAMILIES if family in path), "classification"
    )


def _options(name: str, family: str) -> dict[str, Any]:
    if family == "segmentation":
        return {"weights_backbone": None}
    if family == "detection":
        size = {} if name.startswith("ssd") else _SMALL_IMAGES
        boxes: dict[str, Any] = dict(_FEW_BOXES)
        if "rcnn" in name:
            boxes = {f"box_{key}": value for key, value in _FEW_BOXES.items()} | _PROPOSALS
        return {"weights_backbone": None, **size, **boxes}
    # The default initialization of these two takes half a minute and is overwritten anyway.
    return {"init_weights": False} if name in ("googlenet", "inception_v3") else {}


def _build(name: str, family: str) -> nn.Module:
    model: nn.Module = models.get_model(name, weights=None, **_options(name, family))
    return model


def _settle(model: nn.Module) -> None:
    """Bring boxes near their anchors and scores near zero, so that some boxes are left."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(layer in name for layer in _LAST_LAYERS):
                parameter.mul_(1e-5)


def _inputs(name: str, family: str) -> tuple[Any, ...]:
    if family == "detection":
        return (_images(name),)
    if family == "optical flow":
        return normal(1, 3, 128, 128), normal(1, 3, 128, 128).flip(-1)
    if family == "video":
        return (normal(1, 3, *_clip(name)),)
    if name.startswith(("vit", "maxvit")):
        return (normal(1, 3, 224, 224),)
    side = 96 if name == "inception_v3" else 64
    return (normal(2, 3, side, side),)


def _images(name: str) -> list[Tensor]:
    side = 128 if not name.startswith("ssd") else 300
    return [image.sigmoid() for image in normal(2, 3, side, side)]


def _clip(name: str) -> tuple[int, int, int]:
    """Frames, height and width: some video models are made for one size."""
    return (16, 224, 224) if name.startswith(("mvit", "s3d")) else (8, 64, 64)


def entries() -> Iterable[SweepModel]:
    """All of them, family by family."""
    names = [name for name in models.list_models() if not name.startswith("quantized_")]
    for name in sorted(names, key=lambda name: (_family(name), name)):
        family = _family(name)
        yield SweepModel(
            "torchvision",
            family,
            name,
            partial(_build, name, family),
            partial(_inputs, name, family),
            *([_settle] if family == "detection" else []),
        )
