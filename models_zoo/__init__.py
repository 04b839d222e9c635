"""Small offline models, one file per family of pruning hazards.

Each file says which hazard it holds and what is coupled to what. `ZOO` maps names to models;
a name begins with the name of its file. Nothing here is trained but `models_zoo.digits`.

    from models_zoo import ZOO, randomize

    entry = ZOO["bottleneck_grouped"]
    model = randomize(entry.build()).eval()
    output = model(*entry.example_inputs())
"""

from __future__ import annotations

from collections.abc import Iterable

from models_zoo import (
    attention_kinds,
    attention_modules,
    attention_positions,
    attention_windows,
    bottleneck,
    channel_norm,
    channel_shuffle,
    channel_softmax,
    classic_cnn,
    conv1d_3d,
    csp_split,
    dense_concat,
    experts,
    flatten_concat,
    flip_roll,
    glu,
    group_norm,
    grouped_conv,
    inception,
    index_channels,
    input_skip,
    inverted_residual,
    map_attention,
    mixer,
    multi_output,
    nothing_to_prune,
    odd_layers,
    padded_shortcut,
    pixel_shuffle,
    qkv_fused,
    qkv_separate,
    raw_parameter,
    recurrent,
    reparametrized,
    residual,
    shape_arithmetic,
    shared_module,
    squeeze_excite,
    temporal_shift,
    tied_weights,
    transposed,
    unet,
    unfolded,
    vgg,
)
from models_zoo.entry import ZooModel
from models_zoo.values import randomize

__all__ = ["ZOO", "ZooModel", "randomize"]

_FAMILIES = (
    classic_cnn,
    vgg,
    residual,
    bottleneck,
    dense_concat,
    inverted_residual,
    squeeze_excite,
    channel_shuffle,
    inception,
    unet,
    grouped_conv,
    csp_split,
    padded_shortcut,
    flatten_concat,
    pixel_shuffle,
    flip_roll,
    glu,
    group_norm,
    transposed,
    conv1d_3d,
    raw_parameter,
    shape_arithmetic,
    shared_module,
    channel_softmax,
    index_channels,
    multi_output,
    qkv_fused,
    qkv_separate,
    attention_kinds,
    attention_positions,
    attention_windows,
    tied_weights,
    reparametrized,
    mixer,
    unfolded,
    map_attention,
    temporal_shift,
    input_skip,
    channel_norm,
    experts,
    odd_layers,
    attention_modules,
    recurrent,
    nothing_to_prune,
)


def _by_name(entries: Iterable[ZooModel]) -> dict[str, ZooModel]:
    """Index `entries` by name; a name that comes twice would hide a model, so it is an error."""
    table: dict[str, ZooModel] = {}
    for entry in entries:
        if entry.name in table:
            raise ValueError(f"models_zoo: two models are called {entry.name!r}; rename one")
        table[entry.name] = entry
    return table


ZOO = _by_name(entry for family in _FAMILIES for entry in family.MODELS)
