"""Faults in rules of operators that move positions: joining, cutting, indexing, reshaping."""

from __future__ import annotations

from faults.fault import Fault, fault, refused
from faults.injection import Edit, WrongRule

FAULTS: tuple[Fault, ...] = (
    fault(
        "cat takes its operands in reverse",
        "rules",
        Edit(
            "rules.movement:cat",
            "concat([x[d] for x in axes])",
            "concat([x[d] for x in axes[::-1]])",
        ),
        "flatten_concat",
    ),
    fault(
        "cat repeats the first operand's labels",
        "rules",
        Edit(
            "rules.movement:cat",
            "concat([x[d] for x in axes])",
            "concat([axes[0 if axes[0][d].size == x[d].size else k][d] for k, x in enumerate(axes)])",
        ),
        "csp_split",
    ),
    fault(
        "cat does not unify the axes that it does not join along",
        "rules",
        Edit("rules.movement:cat", "call.labels.unify(axes[0][d], x[d])", "pass"),
        "attention_positions_class_token",
    ),
    fault(
        "stack does not unify its operands",
        "rules",
        Edit("rules.movement:stack", "call.labels.unify(axis, other)", "pass"),
        "flatten_concat_stack",
    ),
    fault(
        "slice is off by one",
        "rules",
        Edit(
            "rules.movement:slice_",
            'take(call.axes("self")[dim], picked)',
            'take(call.axes("self")[dim], np.arange(call.arg("self").shape[dim])[picked] - 1)',
        ),
        "flip_roll_slices",
    ),
    fault(
        "slice counts a negative start from the front",
        "rules",
        Edit(
            "rules.movement:slice_",
            'take(call.axes("self")[dim], picked)',
            'take(call.axes("self")[dim], slice(0, call.out.shape[dim]))',
        ),
        "flip_roll_slices",
    ),
    refused(
        "slice does not see its step",
        "rules",
        Edit(
            "rules.movement:slice_",
            'take(call.axes("self")[dim], picked)',
            'take(call.axes("self")[dim], np.arange(call.out.shape[dim]) + (picked.start or 0) % 2)',
        ),
        "flip_roll_slices",
    ),
    refused(
        "every piece of a split is the first",
        "rules",
        Edit("rules.movement:split", "slice(start, stop))", "slice(0, stop - start))"),
        "csp_split_uneven",
    ),
    fault(
        "the pieces of a split come in reverse",
        "rules",
        Edit("rules.movement:split", "slice(start, stop))", "slice(-stop, -start or None))"),
        "csp_split",
    ),
    fault(
        "roll turns the wrong way",
        "rules",
        Edit(
            "rules.movement:roll",
            "np.arange(x[dim].size), shift)",
            "np.arange(x[dim].size), -shift)",
        ),
        "flip_roll",
    ),
    fault(
        "flip keeps the order",
        "rules",
        Edit("rules.movement:flip", "slice(None, None, -1)", "slice(None)"),
        "flip_roll",
    ),
    fault(
        "repeat repeats each position where it repeats the axis",
        "rules",
        Edit(
            "rules.movement:repeat",
            "np.tile(np.arange(axis.size), n)",
            "np.repeat(np.arange(axis.size), n)",
        ),
        "odd_layers_repeat",
    ),
    refused(
        "pad puts all its positions behind",
        "rules",
        Edit(
            "rules.movement:constant_pad",
            "            Axis(left, (call.labels.fresh(left),)) if left > 0 else None,\n"
            "            middle,\n",
            "            middle,\n"
            "            Axis(left, (call.labels.fresh(left),)) if left > 0 else None,\n",
        ),
        "padded_shortcut",
    ),
    refused(
        "an index buffer is read one position off",
        "rules",
        Edit(
            "rules.indexing:_moved",
            "positions.reshape(-1) % axis.size",
            "(positions.reshape(-1) + 1) % axis.size",
        ),
        "index_channels",
    ),
    refused(
        "indexing takes the inverse permutation",
        "rules",
        Edit(
            "rules.indexing:_moved",
            "positions.reshape(-1) % axis.size",
            "positions.reshape(-1).argsort() % axis.size",
        ),
        "index_channels",
    ),
    refused(
        "a list of indices is taken for the first positions",
        "rules",
        Edit(
            "rules.indexing:_moved",
            "positions.reshape(-1) % axis.size",
            "np.arange(positions.size) % axis.size",
        ),
        "index_channels_literal",
    ),
    refused(
        "positions that are looked up by value may be removed",
        "rules",
        Edit(
            "rules.indexing:index",
            '[x[dim] for dim in lookup.dims], "picked',
            '[], "picked',
        ),
        "experts_gathered",
    ),
    fault(
        "rows of an embedding may be removed",
        "rules",
        Edit(
            "rules.indexing:embedding",
            'call.pin([table[0]], "rows of an embedding table are looked up by number")',
            "pass",
        ),
        "tied_weights_transposed",
    ),
    fault(
        "transpose is taken for no change where sizes allow it",
        "rules",
        Edit(
            "rules.reshaping:t",
            'call.result(call.axes("self")[::-1])',
            'call.result(call.axes("self")[:: 1 if len(set(call.out.shape)) == 1 else -1])',
        ),
        "attention_kinds_talking",
    ),
    fault(
        "pixel_shuffle reads channels as (place, channel)",
        "rules",
        Edit(
            "rules.reshaping:pixel_shuffle",
            "rows, columns = call.labels.split(x[-3], channels, x[-3].size // channels, prefer_rows=True)",
            "columns, rows = call.labels.split(x[-3], x[-3].size // channels, channels)",
        ),
        "pixel_shuffle",
    ),
    fault(
        "pixel_unshuffle makes channels of (place, channel)",
        "rules",
        Edit(
            "rules.reshaping:pixel_unshuffle",
            "call.labels.merge([x[-3], inner])",
            "call.labels.merge([inner, x[-3]])",
        ),
        "pixel_shuffle",
    ),
    fault(
        "channel_shuffle moves nothing",
        "rules",
        Edit(
            "rules.reshaping:channel_shuffle",
            "call.labels.merge([columns, rows])",
            "call.labels.merge([rows, columns])",
        ),
        "channel_shuffle_builtin",
    ),
    refused(
        "view_as_complex lets the imaginary part go",
        "rules",
        Edit(
            "rules.spectral:view_as_complex",
            'call.pin(x[-1:], "the real and the imaginary part of a number")',
            "pass",
        ),
        "attention_positions_complex",
        head_dims=True,
    ),
    fault(
        "unfold makes rows of (tap, channel)",
        "rules",
        Edit(
            "rules.windows:im2col",
            "call.labels.merge([channels, kernel])",
            "call.labels.merge([kernel, channels])",
        ),
        "unfolded",
    ),
    fault(
        "fold reads rows as (tap, channel)",
        "rules",
        Edit(
            "rules.windows:col2im",
            "rows, columns = call.labels.split(channels, channels.size // kernel, kernel, prefer_rows=True)",
            "columns, rows = call.labels.split(channels, kernel, channels.size // kernel)",
        ),
        "unfolded_fold",
    ),
    refused(
        "reshape has the rule of element-wise operators",
        "rules",
        WrongRule(("view", "_unsafe_view", "reshape"), rule="add.Tensor"),
        "flatten_concat",
    ),
)
