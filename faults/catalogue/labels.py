"""Faults in the label algebra: what lives and dies together."""

from __future__ import annotations

from faults.fault import Fault, fault, refused
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
        "taking positions reads labels one position off",
        "labels",
        Edit(f"{_ALGEBRA}.take", "tuple(v[index] for v", "tuple(np.roll(v, 1)[index] for v"),
        "flip_roll_slices",
    ),
    refused(
        "unifying two axes does nothing",
        "labels",
        Edit(f"{_ALGEBRA}.unify", "self.union(left[0], right[0], self.place)", "pass"),
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
        "attention_windows",
    ),
    refused(
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
        Edit(
            f"{_ALGEBRA}.unify_with_each",
            "(first,), *rest = map(self.leaves, same)",
            "(first,), *rest = map(self.leaves, same[:2])",
        ),
        "residual_preactivation",
    ),
    refused(
        "splitting an axis loses the labels of its rows",
        "labels",
        Edit(f"{_ALGEBRA}.split", "row_vectors.append(matrix[:, 0].copy())", "pass"),
        "glu_maxout",
        groups=True,
    ),
    fault(
        "splitting an axis loses the labels of its columns",
        "labels",
        Edit(f"{_ALGEBRA}.split", "column_vectors.append(matrix[0].copy())", "pass"),
        "grouped_conv",
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
    refused(
        "an id that meets a constant position is not pinned",
        "labels",
        Edit(
            f"{_STORE}.union",
            "self.pin(np.concatenate([a[b == 0], b[a == 0]]), reason)",
            "pass",
        ),
        "input_skip",
    ),
)
