"""Sizes that note what code decides by them."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from fxprune.size_decisions import (
    Notes,
    Size,
    SizeDecisions,
    SizeOf,
    Term,
    is_smooth,
    with_numbers,
)


def size(value: int, notes: Notes | None = None) -> Size:
    return Size(value, SizeOf("x", 1), Notes() if notes is None else notes)


def noted(decide: Callable[[Any], object], value: int = 14) -> list[str]:
    notes = Notes()
    decide(size(value, notes))
    return [str(decision) for decision in notes.decisions]


@pytest.mark.parametrize(
    ("decide", "found"),
    [
        (lambda n: n > 7, ["(x.shape[1] > 7)"]),
        (lambda n: n < 7, ["(x.shape[1] >= 7)"]),
        (lambda n: operator.ge(7, n), ["(x.shape[1] > 7)"]),
        (lambda n: n > 5.5, ["(x.shape[1] > 5.5)"]),
        (lambda n: n == 14, ["(x.shape[1] == 14)"]),
        (lambda n: n != 14, ["(x.shape[1] == 14)"]),
        (lambda n: n % 4 == 2, ["((x.shape[1] % 4) == 2)"]),
        (lambda n: not 30 % n, ["((30 % x.shape[1]) != 0)"]),
        (lambda n: n // 4 == 3, ["((x.shape[1] // 4) == 3)"]),
        (lambda n: n / 2 > 3, ["((x.shape[1] / 2) > 3)"]),
        (lambda n: n**2 > 30, ["((x.shape[1] ** 2) > 30)"]),
        (lambda n: n**0.5 > 3, ["((x.shape[1] ** 0.5) > 3)"]),
        (lambda n: math.ceil(n / 4) > 3, ["(ceil((x.shape[1] / 4)) > 3)"]),
        (lambda n: math.floor(n / 4) > 2, ["(floor((x.shape[1] / 4)) > 2)"]),
        (lambda n: int(n / 4), ["(floor((x.shape[1] / 4)) == 3)"]),
        (lambda n: int(-n / 4), ["(ceil(((0 - x.shape[1]) / 4)) == -3)"]),
        (lambda n: round(n * 0.5), ["((x.shape[1] * 0.5) == 7.0)"]),
        (lambda n: int(n) > 5, ["(x.shape[1] == 14)"]),
        (lambda n: math.sqrt(n) > 2, ["(x.shape[1] == 14.0)"]),
        (lambda n: n in range(14, 1000), ["(x.shape[1] == 14)"]),
        (lambda n: abs(n) > 5, ["(x.shape[1] >= 0)", "(x.shape[1] > 5)"]),
        (lambda n: bool(n & 1), ["((x.shape[1] & 1) == 0)"]),
        (lambda n: (n + 1) >> 1 == 7, ["(((x.shape[1] + 1) >> 1) == 7)"]),
        (lambda n: divmod(n, 4) == (3, 2), ["((x.shape[1] // 4) == 3)", "((x.shape[1] % 4) == 2)"]),
        (lambda n: bool(n - 14), ["((x.shape[1] - 14) == 0)"]),
        (lambda n: not 2 * n + 1, ["(((2 * x.shape[1]) + 1) != 0)"]),
        (lambda n: -n < 0, ["((0 - x.shape[1]) < 0)"]),
        (lambda n: (n, 3) == (14, 3), ["(x.shape[1] == 14)"]),
        (lambda n: n * 2 + 3 - n, []),
        (lambda n: n // 4, []),
        (lambda n: n == n + 0 - 0 and n == +n, ["(x.shape[1] == ((x.shape[1] + 0) - 0))"]),
        (lambda n: n == "14", []),
    ],
)
def test_every_outcome_is_noted_as_a_true_comparison(
    decide: Callable[[Any], object], found: list[str]
) -> None:
    assert noted(decide) == found


def test_the_larger_of_two_numbers_is_a_decision() -> None:
    (only,) = noted(lambda n: max(n, 8))  # which of them `max` asks is Python's business
    assert only in ("(x.shape[1] >= 8)", "(x.shape[1] > 8)")


@pytest.mark.parametrize("value", [1, 6, 14])
@pytest.mark.parametrize(
    "compute",
    [
        *(lambda n, f=f: f(n, 4) for f in (operator.add, operator.sub, operator.mul)),
        *(lambda n, f=f: f(n, 4) for f in (operator.floordiv, operator.mod, operator.truediv)),
        *(lambda n, f=f: f(40, n) for f in (operator.floordiv, operator.mod, operator.sub)),
        lambda n: n**0.5,
        lambda n: (math.ceil(n / 4), math.floor(n / 4), math.trunc(-n / 4), round(n / 4, 1)),
        lambda n: (n**2, 2**n, n & 3, n | 8, n ^ 5, n << 2, n >> 1, 1 << n, -n, +n, abs(-n)),
        lambda n: (math.ceil(n), math.floor(n), math.trunc(n), round(n), round(n, 1), round(n, -1)),
        lambda n: (0.5 * n, n * 0.5, 3.0 - n, n / 3, 30 / n, n**-0.5, math.sqrt(n)),
        lambda n: divmod(n, 4),
        lambda n: [10, 20, 30, 40][n % 4],
        lambda n: {1: "a", 6: "b", 14: "c"}[n],
        lambda n: (n < 6, n <= 6, n > 6, n >= 6, n == 6, n != 6),
        lambda n: (hash(n), str(n), int(n), float(n), f"{n:03d}", range(n)),
        lambda n: torch.zeros(n, 2).shape,
        lambda n: torch.Size([n, 3])[:1],
        copy.deepcopy,
    ],
)
def test_it_computes_as_a_plain_number(compute: Callable[[Any], object], value: int) -> None:
    assert compute(size(value)) == compute(value)


def test_copies_are_plain_numbers() -> None:
    assert type(copy.deepcopy(size(3))) is int


def test_terms_are_worked_out_where_their_sizes_are_known() -> None:
    term = Term(operator.gt, Term(operator.mul, SizeOf("x", 0), 2), SizeOf("y", 1))
    assert with_numbers(term, lambda s: {"x": 4, "y": 7}[s.node]) == 1
    left = with_numbers(term, lambda s: 4 if s.node == "x" else None)
    assert str(left) == "(8 > y.shape[1])"


def test_sizes_of_recorded_tensors_know_their_node() -> None:
    decisions = SizeDecisions()

    def run(x: Tensor) -> Tensor:
        with decisions:
            y = x.repeat(2, 1)
            wide = x.shape[0] < y.size(0) and y.size(dim=-1) == 3 and y.size()[1] < 9
            return y.relu() if wide else y

    with FakeTensorMode():
        x = torch.empty(2, 3)
    make_fx(run, tracing_mode="fake", pre_dispatch=True)(x)
    assert list(map(str, decisions.notes.decisions)) == [
        "(x_1.shape[0] < repeat.shape[0])",
        "(repeat.shape[1] == 3)",
        "(repeat.shape[1] < 9)",
    ]


def test_counts_and_numbers_that_operators_are_given_are_noted() -> None:
    sizes = SizeDecisions()

    def run(x: Tensor) -> Tensor:
        with sizes:
            y = x[:, : x.shape[1] // 2].reshape(-1)
            if x.numel() > 5 and len(x) == 2:
                y = y.view(x.shape[0], -1).roll(x.shape[1] % 3, 1)
        return y

    with FakeTensorMode():
        x = torch.empty(2, 7)
    make_fx(run, tracing_mode="fake", pre_dispatch=True)(x)
    assert list(map(str, sizes.notes.decisions)) == [
        "(((1 * x_1.shape[0]) * x_1.shape[1]) > 5)",
        "(x_1.shape[0] == 2)",
    ]
    used = {str(source): value for source, value in sizes.notes.used}
    assert used["(x_1.shape[1] // 2)"] == 3
    assert used["(x_1.shape[1] % 3)"] == 1
    assert [is_smooth(source) for source, _ in sizes.notes.used] == [False, True, False]


def test_sizes_are_plain_where_nothing_is_recorded() -> None:
    decisions = SizeDecisions()
    with decisions:
        assert type(torch.zeros(2, 3).shape[0]) is int
    assert decisions.notes == Notes()
