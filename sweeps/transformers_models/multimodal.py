"""Networks on text and images (or sound)."""

from __future__ import annotations

from sweeps.transformers_models.architecture import architecture, text_and_image
from sweeps.transformers_models.common import TEXT, WIDE, Options

_PATCHES: Options = {**WIDE, "image_size": 32, "patch_size": 8}
_BOTH: Options = {"text_config": TEXT, "vision_config": _PATCHES, "projection_dim": 32}


MULTIMODAL = (
    architecture("clip", text_and_image(32), **_BOTH),
    architecture("siglip", text_and_image(32), text_config=TEXT, vision_config=_PATCHES),
    architecture("chinese_clip", text_and_image(32), **_BOTH),
    architecture("altclip", text_and_image(32), **_BOTH),
    architecture("clipseg", text_and_image(32), **_BOTH),
    architecture("blip", text_and_image(32), **_BOTH),
    architecture("owlvit", text_and_image(32), **_BOTH),
    architecture(
        "groupvit",
        text_and_image(32),
        text_config=TEXT,
        vision_config={
            **_PATCHES,
            "depths": [1, 1],
            "num_group_tokens": [4, 0],
            "num_output_groups": [4, 4],
            "num_hidden_layers": 2,
        },
        projection_dim=32,
        projection_intermediate_dim=32,
    ),
    architecture(
        "align",
        text_and_image(64),
        text_config=TEXT,
        vision_config={
            "width_coefficient": 0.3,
            "depth_coefficient": 0.3,
            "hidden_dim": 96,
            "image_size": 64,
        },
        projection_dim=96,
    ),
    architecture(
        "flava",
        text_and_image(32),
        image_config=_PATCHES,
        text_config=TEXT,
        multimodal_config=WIDE,
        projection_dim=32,
        hidden_size=64,
    ),
    architecture("vilt", text_and_image(32), **TEXT, image_size=32, patch_size=8),
    architecture(
        "git",
        text_and_image(32),
        "AutoModelForCausalLM",
        **TEXT,
        vision_config=_PATCHES,
        use_cache=False,
    ),
    architecture(
        "bridgetower",
        text_and_image(32),
        hidden_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        text_config=TEXT,
        vision_config={**_PATCHES},
    ),
)
