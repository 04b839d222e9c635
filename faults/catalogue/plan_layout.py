"""Faults between a plan and the positions that stay."""

from __future__ import annotations

from faults.fault import Fault, fault, refused
from faults.injection import Edit

_LAYOUT = "planning.layout:Layout"
_STAYING = "planning.layout:_staying"

FAULTS: tuple[Fault, ...] = (
    fault(
        "the removed positions are kept, the others removed",
        "plan layout",
        Edit(
            _STAYING,
            "np.flatnonzero(~gone) if gone.any()",
            "np.flatnonzero(gone) if gone.any()",
        ),
        "vgg",
    ),
    fault(
        "the kept positions are one off",
        "plan layout",
        Edit(_STAYING, "np.flatnonzero(~gone) if", "np.flatnonzero(~np.roll(gone, 1)) if"),
        "dense_concat",
    ),
    fault(
        "the first positions are kept instead of the chosen ones",
        "plan layout",
        Edit(_STAYING, "np.flatnonzero(~gone) if", "np.arange(int((~gone).sum())) if"),
        "residual",
    ),
    fault(
        "the kept positions are not in order",
        "plan layout",
        Edit(_STAYING, "np.flatnonzero(~gone) if", "np.flatnonzero(~gone)[::-1] if"),
        "glu",
    ),
    refused(
        "a position goes only if its last label does",
        "plan layout",
        Edit(f"{_LAYOUT}.removed_positions", "gone |= self", "gone = self"),
        "qkv_separate",
        head_dims=True,
    ),
    refused(
        "a position goes only if all of its labels do",
        "plan layout",
        Edit(
            f"{_LAYOUT}.removed_positions",
            "gone |= self.is_removed(vector)",
            "gone = self.is_removed(vector) & (gone if gone.any() else True)",
        ),
        "qkv_separate",
        head_dims=True,
    ),
)
