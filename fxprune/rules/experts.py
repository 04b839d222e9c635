"""Operators of transformers, which need not be installed: rules by name."""

from __future__ import annotations

from fxprune.rules.call import Call
from fxprune.rules.matrices import PICKED
from fxprune.rules.registry import rule_by_name

ROUTED = "tokens are sorted by expert, and counted for each (routing)"


@rule_by_name("transformers::grouped_mm_fallback", sums={"input": 1})
def grouped_mm_fallback(call: Call) -> None:
    """(T, K) x (G, K, N) -> (T, N): `offs` cuts the rows into a piece for each expert."""
    x, weight = call.axes("input"), call.axes("weight")
    call.labels.unify(x[1], weight[1])
    call.pin([x[0], *call.axes("offs")], ROUTED)
    call.pin([weight[0]], PICKED)
    call.result([x[0], weight[2]])
