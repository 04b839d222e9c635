"""Faults in the label algebra: what lives and dies together."""

from __future__ import annotations

from faults.fault import Fault, fault
from faults.injection import Edit

_ALGEBRA = "labels.algebra:LabelAlgebra"
_STORE = "labels.store:LabelStore"

FAULTS: tuple[Fault, ...] = (
    fault(
        "merging axes swaps tile and repeat",
        "labels",
        Edit(
            f"{_ALGEBRA}.merge",
            "np.tile(np.repeat(v, inner), outer)",
            "np.repeat(np.tile(v, inner), outer)",
        ),
        "flatten_concat",
    ),
    fault(
        "merging axes forgets the labels of all but the first",
        "labels",
        Edit(f"{_ALGEBRA}.merge", "for k, axis in enumerate(axes):", "for k, axis in [(0, axes[0])]:"),
        "flatten_concat_nhwc",
    ),
    fault(
        "joined axes lose their labels beyond the first vector",
        "labels",
        Edit(f"{_ALGEBRA}.concat", "max(map(len, parts), default=0)", "min(1, len(parts[0]))"),
        "attention_positions_halves",
    ),
    fault(
        "taking positions reads labels one position off",
        "labels",
        Edit(f"{_ALGEBRA}.take", "tuple(v[index] for v", "tuple(np.roll(v, 1)[index] for v"),
        "flip_roll_slices",
    ),
    fault(
        "taking positions reads the first vector of labels only",
        "labels",
        Edit(f"{_ALGEBRA}.take", "for v in self.leaves(axis))", "for v in self.leaves(axis)[:1])"),
        "qkv_fused_chunk",
    ),
    fault(
        "unifying two axes does nothing",
        "labels",
        Edit(f"{_ALGEBRA}.unify", "self.union(left[0], right[0], self.place)", "pass"),
        "residual",
    ),
    fault(
        "unifying two axes leaves the last position out",
        "labels",
        Edit(
            f"{_ALGEBRA}.unify",
            "self.union(left[0], right[0], self.place)",
            "self.union(left[0][:-1], right[0][:-1], self.place)",
        ),
        "residual",
    ),
    fault(
        "unifying two axes pairs positions from opposite ends",
        "labels",
        Edit(
            f"{_ALGEBRA}.unify",
            "self.union(left[0], right[0], self.place)",
            "self.union(left[0], right[0][::-1], self.place)",
        ),
        "classic_cnn",
    ),
    fault(
        "unifying axes of several vectors does nothing",
        "labels",
        Edit(f"{_ALGEBRA}.unify", "self._equate(left, right)", "pass"),
        "flatten_concat_nhwc",
    ),
    fault(
        "unifying axes of several vectors takes the first of each",
        "labels",
        Edit(
            f"{_ALGEBRA}.unify",
            "self._equate(left, right)",
            "self.union(left[0], right[0], self.place)",
        ),
        "qkv_fused",
    ),
    fault(
        "unifying with a pinned axis does not pin",
        "labels",
        Edit(f"{_ALGEBRA}.unify", "self.pin_axis(other, self.reason_of(pinned))", "pass"),
        "multi_output_two_inputs",
    ),
    fault(
        "unifying one axis with several repeats where it should tile",
        "labels",
        Edit(
            f"{_ALGEBRA}.unify_with_each",
            "np.tile(first, len(rest))",
            "np.repeat(first, len(rest))",
        ),
        "residual_preactivation",
    ),
    fault(
        "unifying one axis with several stops after the first",
        "labels",
        Edit(f"{_ALGEBRA}.unify_with_each", "(first,), *rest = vectors", "(first,), *rest = vectors[:2]"),
        "residual_preactivation",
    ),
    fault(
        "splitting an axis reads it column by column",
        "labels",
        Edit(
            f"{_ALGEBRA}.split",
            "matrix = vector.reshape(rows, columns)",
            "matrix = vector.reshape(columns, rows).T",
        ),
        "channel_shuffle",
    ),
    fault(
        "splitting an axis loses the labels of its rows",
        "labels",
        Edit(f"{_ALGEBRA}.split", "row_vectors.append(matrix[:, 0].copy())", "pass"),
        "qkv_separate",
    ),
    fault(
        "splitting an axis loses the labels of its columns",
        "labels",
        Edit(f"{_ALGEBRA}.split", "column_vectors.append(matrix[0].copy())", "pass"),
        "glu_maxout",
    ),
    fault(
        "rows that cannot be told apart are unified column by column",
        "labels",
        Edit(
            f"{_ALGEBRA}.split",
            "np.tile(v[:columns], rows) for v in hard",
            "np.repeat(v[:columns], rows) for v in hard",
        ),
        "channel_shuffle_grouped",
    ),
    fault(
        "rows that cannot be told apart are not unified",
        "labels",
        Edit(
            f"{_ALGEBRA}.split",
            "self._equate(hard, [np.tile(v[:columns], rows) for v in hard])",
            "pass",
        ),
        "grouped_conv_crossing",
    ),
    fault(
        "a refined axis swaps rows and columns",
        "labels",
        Edit(
            f"{_STORE}.refine",
            "np.repeat(row_ids, columns), np.tile(column_ids, len(row_ids))",
            "np.tile(row_ids, columns), np.repeat(column_ids, len(row_ids))",
        ),
        "qkv_separate",
    ),
    fault(
        "regrouping axes puts them together in reverse",
        "labels",
        Edit(
            f"{_ALGEBRA}._regroup",
            "            part = [atoms.pop(0)]\n"
            "            while int(np.prod([atom.size for atom in part])) < size:\n"
            "                part.append(atoms.pop(0))",
            "            part = [atoms.pop(0)]\n"
            "            while int(np.prod([atom.size for atom in part])) < size:\n"
            "                part.insert(0, atoms.pop(0))",
        ),
        "flatten_concat",
    ),
    fault(
        "any-of means the first of two only",
        "labels",
        Edit(f"{_STORE}.define", "self._right[ids] = rest", "self._right[ids] = stack[0]"),
        "qkv_separate",
    ),
    fault(
        "resolving any-of leaves its second part out",
        "labels",
        Edit(
            f"{_STORE}.expand",
            "pending.append(np.where(composite, self._right[roots], 0))",
            "pass",
        ),
        "qkv_separate",
    ),
    fault(
        "pinning leaves the first position free",
        "labels",
        Edit(
            f"{_STORE}.pin",
            "self._pinned_by[leaves] = len(self.reasons) - 1",
            "self._pinned_by[leaves[1:]] = len(self.reasons) - 1",
        ),
        "residual_input_skip",
    ),
    fault(
        "a union with a pinned id forgets the pin",
        "labels",
        Edit(
            f"{_STORE}.union",
            "self._pinned_by[self.find(pinned)] = self._pinned_by[pinned]",
            "pass",
        ),
        "residual_input_skip",
    ),
    fault(
        "an id that meets a constant position is not pinned",
        "labels",
        Edit(
            f"{_STORE}.union",
            "self.pin(np.concatenate([a[b == 0], b[a == 0]]), reason)",
            "pass",
        ),
        "input_skip",
    ),
    fault(
        "equal patterns are taken for equal labels",
        "labels",
        Edit(f"{_ALGEBRA}._step", "                    self.union(v, w, self.place)", "                    self.union(v[:1], w[:1], self.place)"),
        "attention_positions_halves",
    ),
    fault(
        "an axis that is defined by others takes only one of them",
        "labels",
        Edit(
            f"{_ALGEBRA}._define_by",
            "self.define(ids, [alternative[first] for alternative in alternatives], self.place)",
            "self.define(ids, [alternatives[0][first]], self.place)",
        ),
        "qkv_separate",
    ),
    fault(
        "a digit with a wrong stride is recognized",
        "labels",
        Edit("labels.digits:digit_of", "return Digit(ids.copy(), inner)", "return Digit(ids.copy(), 1)"),
        "qkv_separate",
    ),
)
