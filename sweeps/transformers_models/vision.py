"""Networks on images."""

from __future__ import annotations

from torch import Tensor

from sweeps.entry import normal
from sweeps.transformers_models.architecture import architecture, image
from sweeps.transformers_models.common import WIDE, Options

_PATCHES: Options = {**WIDE, "image_size": 32, "patch_size": 8}
_WINDOWS: Options = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
_FOUR_STAGES: Options = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64]}


def _prompted() -> dict[str, Tensor]:
    return {"pixel_values": normal(1, 3, 64, 64), "input_points": normal(1, 1, 2, 2).abs() * 20}


VISION = (
    architecture("vit", image(32), **_PATCHES),
    architecture("deit", image(32), **_PATCHES),
    architecture("beit", image(32), **_PATCHES, use_relative_position_bias=True),
    architecture("data2vec-vision", image(32), **_PATCHES, use_relative_position_bias=True),
    architecture("vit_msn", image(32), **_PATCHES),
    architecture("ijepa", image(32), **_PATCHES),
    architecture("dinov2", image(32), **_PATCHES, mlp_ratio=2),
    architecture("dinov2_with_registers", image(32), **_PATCHES, mlp_ratio=2),
    architecture("dinov3_vit", image(32), **_PATCHES, num_register_tokens=2),
    architecture(
        "vitdet", image(32), **_PATCHES, mlp_ratio=2, window_block_indices=[0], window_size=2
    ),
    architecture(
        "yolos", image(32), **{**_PATCHES, "image_size": [32, 32]}, num_detection_tokens=4
    ),
    architecture("swin", image(32), **_WINDOWS),
    architecture("swinv2", image(32), **_WINDOWS),
    architecture(
        "hiera",
        image(32),
        image_size=[32, 32],
        patch_size=[3, 3],
        patch_stride=[2, 2],
        patch_padding=[1, 1],
        embed_dim=16,
        depths=[1, 1],
        num_heads=[1, 2],
        query_stride=[2, 2],
        num_query_pool=1,
        masked_unit_size=[4, 4],
        masked_unit_attention=[True, False],
        embed_dim_multiplier=2.0,
    ),
    architecture(
        "focalnet",
        image(32),
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[1, 1],
        hidden_sizes=[16, 32],
        focal_levels=[2, 2],
        focal_windows=[3, 3],
    ),
    architecture("convnext", image(32), **_FOUR_STAGES),
    architecture("convnextv2", image(32), **_FOUR_STAGES),
    architecture("resnet", image(32), **_FOUR_STAGES, embedding_size=16),
    architecture("regnet", image(32), **_FOUR_STAGES, embedding_size=16, groups_width=8),
    architecture("bit", image(32), **_FOUR_STAGES, embedding_size=32, num_groups=8),
    architecture(
        "efficientnet",
        image(64),
        width_coefficient=0.3,
        depth_coefficient=0.3,
        hidden_dim=384,
        image_size=64,
    ),
    architecture("mobilenet_v1", image(32), depth_multiplier=0.25, image_size=32),
    architecture("mobilenet_v2", image(32), depth_multiplier=0.35, image_size=32),
    architecture(
        "segformer",
        image(64),
        "AutoModelForSemanticSegmentation",
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 48, 64],
        num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=32,
        num_labels=5,
    ),
    architecture(
        "mobilevit",
        image(64),
        hidden_sizes=[32, 48, 64],
        neck_hidden_sizes=[8, 16, 16, 24, 32, 48, 64],
        num_attention_heads=4,
        image_size=64,
    ),
    architecture("mobilevitv2", image(64), width_multiplier=0.25, image_size=64),
    architecture(
        "levit",
        image(64),
        image_size=64,
        hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4],
        key_dim=[8, 8, 8],
        depths=[1, 1, 1],
    ),
    architecture("cvt", image(32), embed_dim=[16, 32, 64], num_heads=[1, 2, 4], depth=[1, 2, 3]),
    architecture("poolformer", image(32), **_FOUR_STAGES),
    architecture("pvt", image(64), image_size=64, **_FOUR_STAGES, num_attention_heads=[1, 2, 3, 4]),
    architecture(
        "pvt_v2", image(64), image_size=64, **_FOUR_STAGES, num_attention_heads=[1, 2, 3, 4]
    ),
    architecture(
        "swiftformer", image(64), image_size=64, depths=[1, 1, 1, 1], embed_dims=[16, 32, 48, 64]
    ),
    architecture(
        "dpt",
        image(32),
        "AutoModelForDepthEstimation",
        **{**_PATCHES, "num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        is_hybrid=False,
    ),
    architecture(
        "vit_mae",
        image(32),
        **_PATCHES,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=64,
        mask_ratio=0.0,
    ),
    architecture(
        "videomae", lambda: {"pixel_values": normal(1, 4, 3, 32, 32)}, **_PATCHES, num_frames=4
    ),
    architecture(
        "timesformer", lambda: {"pixel_values": normal(1, 4, 3, 32, 32)}, **_PATCHES, num_frames=4
    ),
    architecture(
        "detr",
        image(64, batch=1),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        num_queries=5,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config={
            "model_type": "resnet",
            **_FOUR_STAGES,
            "embedding_size": 16,
            "out_features": ["stage4"],
        },
    ),
    architecture(
        "sam",
        _prompted,
        vision_config={
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
            "mlp_dim": 128,
            "output_channels": 32,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
        },
        prompt_encoder_config={
            "hidden_size": 32,
            "image_size": 64,
            "patch_size": 8,
            "mask_input_channels": 8,
        },
        mask_decoder_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "mlp_dim": 64,
            "iou_head_hidden_dim": 32,
        },
    ),
)
