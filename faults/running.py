"""A case with and without a fault: shrink without looking, then verify."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn

import fxprune
from faults.fault import Case, Fault
from fxprune.errors import FxPruneError, Location, VerificationError, first_line
from models_zoo import ZOO, randomize

Outcome: TypeAlias = Literal["caught", "refused", "missed", "without effect"]
"""Caught by `verify`; refused before there was a result; another result, and verified; the same."""
RATIO = 0.5


@dataclass(frozen=True)
class Row:
    """What became of a fault.

    Attributes:
        fault: the fault.
        outcome: how it ended.
        where: the node or module that was named.
        why: what was wrong there.
    """

    fault: Fault
    outcome: Outcome
    where: str = ""
    why: str = ""

    @property
    def is_as_expected(self) -> bool:
        """Whether it was noticed, and by whom it should be."""
        return self.outcome == self.fault.expected


@dataclass(frozen=True)
class _Result:
    """All of a run that a fault could change."""

    slices: str
    code: str
    tensors: Sequence[torch.Tensor]

    def equals(self, other: _Result) -> bool:
        """Whether both are the same model with the same numbers."""
        same_text = (self.slices, self.code) == (other.slices, other.code)
        return same_text and all(map(_same, self.tensors, other.tensors))


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def try_fault(fault: Fault) -> Row:
    """Run a case with a fault, and tell who noticed.

    The fault is there while the model is analyzed, planned, shrunk and verified, as a mistake in
    the code would be.
    """
    expected = baseline(fault.case)
    try:
        result = _run(fault.case, fault.injection.applied())
    except VerificationError as error:
        return Row(fault, "caught", *_told(error))
    except FxPruneError as error:
        return Row(fault, "refused", *_told(error))
    except AssertionError as error:
        return Row(fault, "refused", "an assertion", first_line(error))
    return Row(fault, "without effect" if result.equals(expected) else "missed")


_BASELINES: dict[str, _Result] = {}


def baseline(case: Case) -> _Result:
    """A case without a fault, which has to verify; run once for all faults that show on it."""
    if case.key not in _BASELINES:
        _BASELINES[case.key] = _run(case, nullcontext())
    return _BASELINES[case.key]


def _run(case: Case, injected: AbstractContextManager[None]) -> _Result:
    entry = ZOO[case.model]
    model, inputs = randomize(entry.build()).eval(), entry.example_inputs()
    with injected:
        deps = fxprune.analyze(model, inputs)
        plan = fxprune.plan(deps, inputs, RATIO, **case.options)
        small = fxprune.shrink(deps, plan, inputs, emit=case.emit, verify=False)
        fxprune.verify(deps, small, plan, inputs)
    return _Result(str(plan.slices), _text(small), list(small.state_dict().values()))


def _text(small: nn.Module) -> str:
    return str(getattr(small, "code", small))


def _told(error: FxPruneError) -> tuple[str, str]:
    where = error.where
    if isinstance(where, Location):
        where = f"node {where.node}" if where.node else f"module {where.module}"
    return where, error.what
