"""What a node's arguments become on the new widths, by operator.

Operators are named as people write them: `view` is the method, `torch.Tensor.view` and
`aten.view.default` alike. Each repair returns whether it changed the node.
"""

from __future__ import annotations

from fxprune.passes import position_repairs, size_repairs
from fxprune.passes.repair import Change

ALWAYS: dict[str, Change] = {
    "getitem": position_repairs.getitem,
    "setitem": position_repairs.getitem,
    "index": position_repairs.index,
    "_unsafe_index": position_repairs.index,
    "index_select": position_repairs.index_select,
    "slice": position_repairs.slice_,
    "slice_copy": position_repairs.slice_,
    "narrow": position_repairs.narrow,
    "narrow_copy": position_repairs.narrow,
    "select": position_repairs.select,
    "select_copy": position_repairs.select,
    "roll": position_repairs.roll,
    "pad": position_repairs.pad,
    "constant_pad_nd": position_repairs.pad,
    "conv1d": size_repairs.conv_groups(6),
    "conv2d": size_repairs.conv_groups(6),
    "conv3d": size_repairs.conv_groups(6),
    "conv_transpose1d": size_repairs.conv_groups(6, transposed=True),
    "conv_transpose2d": size_repairs.conv_groups(6, transposed=True),
    "conv_transpose3d": size_repairs.conv_groups(6, transposed=True),
    "convolution": size_repairs.conv_groups(8),
    "group_norm": size_repairs.norm_groups(1),
    "native_group_norm": size_repairs.native_group_norm,
    "scaled_dot_product_attention": size_repairs.attention_scale,
    "_scaled_dot_product_flash_attention_for_cpu": size_repairs.fused_attention_scale,
    "_scaled_dot_product_flash_attention": size_repairs.fused_attention_scale,
    "_scaled_dot_product_efficient_attention": size_repairs.fused_attention_scale,
    "_scaled_dot_product_cudnn_attention": size_repairs.fused_attention_scale,
    "_scaled_dot_product_fused_attention_overrideable": size_repairs.fused_attention_scale,
}
"""Operators that name positions or widths: repaired wherever an axis of theirs is pruned."""

ON_MISMATCH: dict[str, Change] = {
    "view": size_repairs.sizes(1),
    "_unsafe_view": size_repairs.sizes(1),
    "view_copy": size_repairs.sizes(1),
    "_reshape_copy": size_repairs.sizes(1),
    "reshape": size_repairs.sizes(1),
    "expand": size_repairs.sizes(1),
    "expand_copy": size_repairs.sizes(1),
    "broadcast_to": size_repairs.sizes(1),
    "unflatten": size_repairs.unflatten,
    "new_zeros": size_repairs.sizes(1),
    "new_ones": size_repairs.sizes(1),
    "new_empty": size_repairs.sizes(1),
    "new_full": size_repairs.sizes(1),
    "zeros": size_repairs.sizes(0),
    "ones": size_repairs.sizes(0),
    "empty": size_repairs.sizes(0),
    "full": size_repairs.sizes(0),
    "repeat": size_repairs.repeat,
    "tile": size_repairs.repeat,
    "repeat_interleave": size_repairs.repeat_interleave,
    "layer_norm": size_repairs.normalized_shape,
    "native_layer_norm": size_repairs.normalized_shape,
    "rms_norm": size_repairs.normalized_shape,
    "squeeze": size_repairs.squeeze,
    "squeeze_copy": size_repairs.squeeze,
    "chunk": size_repairs.pieces,
    "unsafe_chunk": size_repairs.pieces,
    "split": size_repairs.pieces,
    "split_copy": size_repairs.pieces,
    "split_with_sizes": size_repairs.pieces,
    "split_with_sizes_copy": size_repairs.pieces,
    "unsafe_split": size_repairs.pieces,
    "unsafe_split_with_sizes": size_repairs.pieces,
    "tensor_split": size_repairs.pieces,
}
"""Operators that name sizes: repaired where they fail or come out wrong."""
