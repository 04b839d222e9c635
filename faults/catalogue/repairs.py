"""Faults in the repair of positions, numbers and shapes that a graph names."""

from __future__ import annotations

from faults.fault import Fault, fault, refused
from faults.injection import Edit, Missing

_POSITIONS = "passes.position_repairs"
_SIZES = "passes.size_repairs"
_WALK = "passes.repair_shapes:_Walk"
_ALWAYS = "passes.repairs:ALWAYS"

FAULTS: tuple[Fault, ...] = (
    fault(
        "a scale is computed from the new width",
        "shape repair",
        Edit(
            f"{_WALK}.visit",
            "if isinstance(value, (bool, int, float)) and value != expected:",
            "if False:",
        ),
        "shape_arithmetic",
    ),
    refused(
        "a number read off a size becomes the new one",
        "shape repair",
        Edit(f"{_WALK}.keep_number", "constant: Any = before", "constant: Any = now"),
        "shape_arithmetic",
    ),
    fault(
        "a scaled number is scaled the wrong way",
        "shape repair",
        Edit(
            f"{_WALK}.keep_number",
            "                times = graph.call_function(operator.mul, (node, before))\n"
            "            with graph.inserting_after(times):\n"
            "                constant = graph.call_function(operator.floordiv, (times, now))",
            "                times = graph.call_function(operator.mul, (node, now))\n"
            "            with graph.inserting_after(times):\n"
            "                constant = graph.call_function(operator.floordiv, (times, before))",
        ),
        "temporal_shift",
    ),
    fault(
        "attention is left without the scale of its old width",
        "shape repair",
        Missing(_ALWAYS, ("scaled_dot_product_attention",)),
        "qkv_fused_unbind",
        head_dims=True,
    ),
    fault(
        "attention gets the scale of its new width",
        "shape repair",
        Edit(
            f"{_SIZES}:_keep_scale",
            "repair.operand.shape[-1] ** -0.5",
            "repair.layout.shape(repair.operand)[-1] ** -0.5",
        ),
        "qkv_fused_unbind",
        head_dims=True,
    ),
    fault(
        "attention gets the inverse of its scale",
        "shape repair",
        Edit(f"{_SIZES}:_keep_scale", "** -0.5", "** 0.5"),
        "qkv_fused_unbind",
        head_dims=True,
    ),
    fault(
        "an unbroken slice begins one position early",
        "shape repair",
        Edit(
            f"{_POSITIONS}:_moved_slice",
            "        return slice(low, max(low, int(np.searchsorted(kept, stop))), None)",
            "        return slice(max(low - 1, 0), max(low, int(np.searchsorted(kept, stop))) - (low > 0), None)",
        ),
        "flip_roll_slices",
    ),
    fault(
        "kept positions are numbered from the end",
        "shape repair",
        Edit(f"{_POSITIONS}:_move", "np.arange(len(kept))", "np.arange(len(kept))[::-1]"),
        "flip_roll_slices",
    ),
    fault(
        "a strided slice begins at its first position",
        "shape repair",
        Edit(
            f"{_POSITIONS}:_moved_slice",
            "    return moved",
            "    return list(range(len(moved)))",
        ),
        "flip_roll_slices",
    ),
    fault(
        "an index buffer keeps its old numbers",
        "shape repair",
        Edit(
            f"{_POSITIONS}:_moved_block",
            "new = number[positions[np.ix_(*stays)]]",
            "new = positions[np.ix_(*stays)] % len(repair.kept(dim))",
        ),
        "index_channels",
    ),
    fault(
        "an index buffer keeps its first entries",
        "shape repair",
        Edit(
            f"{_POSITIONS}:_moved_block",
            "new = number[positions[np.ix_(*stays)]]",
            "new = np.sort(number[positions[np.ix_(*stays)]])",
        ),
        "index_channels",
    ),
    fault(
        "an index is numbered from the end",
        "shape repair",
        Edit(
            f"{_POSITIONS}:_moved_block",
            "np.arange(len(repair.kept(dim)))",
            "np.arange(len(repair.kept(dim)))[::-1]",
        ),
        "index_channels_cycles",
    ),
    fault(
        "a list of positions is off by one",
        "shape repair",
        Edit(
            f"{_POSITIONS}:_moved_block",
            "new.tolist() if",
            "((new + 1) % len(repair.kept(dim))).tolist() if",
        ),
        "index_channels_literal",
    ),
    fault(
        "the shift of a roll stays",
        "shape repair",
        Missing(_ALWAYS, ("roll",)),
        "flip_roll",
    ),
    fault(
        "a roll counts what is kept at the wrong end",
        "shape repair",
        Edit(f"{_POSITIONS}:roll", "kept >= size - shift % size", "kept < shift % size"),
        "flip_roll",
    ),
    fault(
        "padding keeps its number of positions on the left",
        "shape repair",
        Edit(
            f"{_POSITIONS}:pad",
            "        new[2 * back] = int((stays < left).sum()) if left > 0 else -crop_left\n"
            "        new[2 * back + 1] = int((stays >= left + size).sum()) if right > 0 else -crop_right",
            "        new[2 * back + 1] = int((stays < left).sum()) if left > 0 else -crop_left\n"
            "        new[2 * back] = int((stays >= left + size).sum()) if right > 0 else -crop_right",
        ),
        "padded_shortcut",
        criterion="random",
        seed=1,
    ),
    fault(
        "padding is evenly shared out to both sides",
        "shape repair",
        Edit(
            f"{_POSITIONS}:pad",
            "        new[2 * back] = int((stays < left).sum()) if left > 0 else -crop_left\n"
            "        new[2 * back + 1] = int((stays >= left + size).sum()) if right > 0 else -crop_right",
            "        total = len(stays) - len(inside)\n"
            "        new[2 * back], new[2 * back + 1] = total // 2, total - total // 2",
        ),
        "padded_shortcut",
        criterion="random",
        seed=1,
    ),
    refused(
        "each of two sizes of a view gets the other's",
        "shape repair",
        Edit(
            f"{_SIZES}:_set_sizes",
            "old[k], new[k], is_only_one",
            "old[k], new[::-1][k], is_only_one",
        ),
        "qkv_separate",
    ),
    fault(
        "a user's function that uses sizes is left as it is",
        "shape repair",
        Edit(
            f"{_WALK}.hidden_sizes",
            "touched = repair.names_pruned_axis() or (",
            "touched = False and (",
        ),
        "attention_modules_wrapped",
    ),
)
