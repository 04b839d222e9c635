"""What meta kernels returned is remembered, and repeated for the like only."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fxprune import meta_cache
from fxprune.meta_cache import run_once

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    meta_cache.forget()
    yield
    meta_cache.forget()


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def layouts(out: Any) -> list[tuple[Any, ...]]:
    found = [out] if isinstance(out, torch.Tensor) else list(out)
    return [(t.shape, t.stride(), t.dtype, t.device.type) for t in found]


CALLS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "layer norm": (aten.native_layer_norm.default, (meta(2, 5, 8), [8], meta(8), meta(8), 1e-5)),
    "addmm": (aten.addmm.default, (meta(6), meta(5, 4), meta(4, 6))),
    "broadcast": (aten.add.Tensor, (meta(4, 1, 5), meta(3, 1))),
    "strided": (aten.add.Tensor, (meta(4, 3).t(), meta(3, 1))),
    "half": (aten.mul.Tensor, (meta(4, dtype=torch.float16), 2.0)),
    "list": (aten.cat.default, ([meta(2, 3), meta(4, 3, dtype=torch.float64)],)),
    "softmax": (aten._softmax.default, (meta(2, 3), -1, False)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_second_outcome_has_the_layout_of_the_first_and_memory_of_its_own(name: str) -> None:
    op, args = CALLS[name]
    first, second = run_once(op, args, {}), run_once(op, args, {})
    assert len(meta_cache._KNOWN) == 1
    assert layouts(first) == layouts(second) == layouts(op(*args))
    assert first is not second


@pytest.mark.parametrize(
    ("op", "one", "two"),
    [
        (aten.mul.Tensor, (meta(4, dtype=torch.int64), 2), (meta(4, dtype=torch.int64), 2.0)),
        (aten.mul.Tensor, (meta(4, dtype=torch.bool), True), (meta(4, dtype=torch.bool), 1)),
        (aten.clone.default, (meta(4, 3),), (meta(3, 4).t(),)),
        (aten.clone.default, (meta(4),), (meta(4, dtype=torch.float64),)),
        (aten.sum.dim_IntList, (meta(4, 4), [0], False), (meta(4, 4), [0], True)),
        (aten.cat.default, ([meta(2), meta(2)],), ([meta(4)],)),
    ],
    ids=str,
)
def test_calls_that_differ_in_any_way_are_told_apart(op: Any, one: Any, two: Any) -> None:
    run_once(op, one, {})
    assert layouts(run_once(op, two, {})) == layouts(op(*two))
    assert len(meta_cache._KNOWN) == 2


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (aten.view.default, (meta(4), [2, 2])),
        (aten._unsafe_view.default, (meta(4), [2, 2])),
        (aten.add_.Tensor, (meta(4), meta(4))),
        (aten.mul.Tensor, (meta(4), torch.empty((), device="meta"))),
        (aten.add.Tensor, (meta(4, dtype=torch.complex64), meta(4))),
        (aten.arange.default, (4,)),
    ],
    ids=str,
)
def test_views_and_what_does_not_follow_from_shapes_is_not_remembered(op: Any, args: Any) -> None:
    run_once(op, args, {})
    assert not meta_cache._KNOWN


def test_the_default_type_is_part_of_the_question() -> None:
    args = (meta(4, dtype=torch.int64), 2.0)
    run_once(aten.mul.Tensor, args, {})
    torch.set_default_dtype(torch.float64)
    try:
        assert run_once(aten.mul.Tensor, args, {}).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_cache, "_MOST", 3)
    for size in range(1, 9):
        run_once(aten.clone.default, (meta(size),), {})
    assert len(meta_cache._KNOWN) <= 3
