"""Evaluating shrunk models, here or on any executor."""

from __future__ import annotations

import hashlib
import math
import pickle
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from fxprune.analysis import DependencyGraph
from fxprune.api import shrink
from fxprune.errors import FxPruneError, InputError, in_one_line, shown
from fxprune.inputs import materialize
from fxprune.planning import Plan

Evaluate: TypeAlias = Callable[[nn.Module], Any]
Verify: TypeAlias = bool | Literal["quick"]


@dataclass(frozen=True, eq=False)
class Step:
    """One model to evaluate: the plan that it follows, and what it is called in messages."""

    plan: Plan
    name: str


class Evaluation:
    """Shrinks a model by a plan and evaluates the result.

    Threads share it, with its analysis. What crosses to another process is a pickle of the model,
    which the process analyzes once.

    Args:
        deps: the analysis of the model.
        inputs: example inputs to verify on, or None.
        evaluate: the user's function.
        verify: see `shrink`.
    """

    def __init__(self, deps: DependencyGraph, inputs: Any, evaluate: Evaluate, verify: Verify):
        self.deps, self.inputs, self.evaluate, self.verify = deps, inputs, evaluate, verify

    def __call__(self, step: Step) -> float | None:
        """The value of a model, None if it is not finite.

        Raises:
            InputError: `evaluate` failed, or returned no number.
            FxPruneError: the model cannot be shrunk so.
        """
        with _TURNS.alone():
            small = self._shrunk(step)
        with _TURNS.together():
            return self._value(step, small)

    def here(self, step: Step) -> float | None:
        """The same where nothing else runs at the time; `evaluate` may use fxprune then."""
        return self._value(step, self._shrunk(step))

    def _shrunk(self, step: Step) -> nn.Module:
        try:
            return shrink(self.deps, step.plan, self.inputs, emit="auto", verify=self.verify)
        except FxPruneError as error:
            other = "or leave the group out (only=)" if step.plan.slices else ""
            hint = "; ".join(filter(None, [error.hint, other]))
            what = f"{step.name}: {error.what}"
            told = type(error)(what, where=error.where, why=error.why, hint=hint)
            told.scene = error.scene
            raise told from error

    def _value(self, step: Step, small: nn.Module) -> float | None:
        try:
            value = self.evaluate(small)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"evaluate failed for {step.name}: {in_one_line(error)}",
                where=f"{last.filename}:{last.lineno}: {last.line}",
                hint="evaluate gets the shrunk model, an nn.Module that is called like yours",
            ) from error
        return _number(value)

    def __reduce__(self) -> tuple[type[Shipped], tuple[bytes, str]]:
        return Shipped, (self._pickled, hashlib.sha256(self._pickled).hexdigest())

    @cached_property
    def _pickled(self) -> bytes:
        """What another process makes this of."""
        deps = self.deps
        model = deps.drop.model if deps.drop is not None else deps.model
        return _pickle_of((model, self.inputs, self.evaluate, self.verify))


@dataclass(frozen=True)
class Shipped:
    """An evaluation on its way to another process."""

    pickled: bytes
    digest: str

    def __call__(self, step: Step) -> float | None:
        """As `Evaluation`."""
        with _TURNS.alone():
            if self.digest not in _ARRIVED:
                _ARRIVED.clear()  # one at a time, for models are large
                _ARRIVED[self.digest] = self._unpacked(step.plan)
            evaluation = _ARRIVED[self.digest]
        return evaluation(step)

    def _unpacked(self, plan: Plan) -> Evaluation:
        try:
            model, inputs, evaluate, verify = pickle.loads(self.pickled)
        except Exception as error:
            raise InputError(
                f"a worker cannot load the model and evaluate: {in_one_line(error)}",
                hint="define them in Python modules that the workers can import",
            ) from error
        examples = materialize(plan.inputs, seed=None) if inputs is None else inputs
        return Evaluation(plan.analyze(model, examples), inputs, evaluate, verify)


_ARRIVED: dict[str, Evaluation] = {}


class _Turns:
    """Who shrinks a model is alone; those who evaluate one are so together.

    Tracing replaces `torch.nn.Module.__call__` for the whole process, so no model may run in
    another thread meanwhile. Those who want to be alone go first, for otherwise one thread that
    evaluates would make all others wait.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = self._wanting = 0
        self._is_taken = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._wanting += 1
            self._changed.wait_for(lambda: not (self._running or self._is_taken))
            self._is_taken = True
        try:
            yield
        finally:
            with self._changed:
                self._wanting -= 1
                self._is_taken = False
                self._changed.notify_all()

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._wanting)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


_TURNS = _Turns()


def outcomes(
    steps: Iterable[Step], evaluation: Evaluation, executor: Executor | None, pending: int
) -> Iterator[tuple[Step, float | None]]:
    """The steps with their values, as they come.

    Args:
        steps: what to evaluate.
        evaluation: how.
        executor: what runs it; None for this thread.
        pending: how many steps the executor has at a time.

    Raises:
        FxPruneError: a step failed, or the executor did; those that it has not begun are cancelled.
    """
    if executor is None:
        yield from ((step, evaluation.here(step)) for step in steps)
        return
    rest = iter(steps)
    running: dict[Future[float | None], Step] = {}
    try:
        while True:
            for step in islice(rest, pending - len(running)):
                with _told(step):
                    running[executor.submit(evaluation, step)] = step
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=_has_failed):  # what has a value is not lost
                step = running.pop(future)
                with _told(step):
                    value = future.result()
                yield step, value
    finally:
        for future in running:
            future.cancel()


def _has_failed(future: Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None


@contextmanager
def _told(step: Step) -> Iterator[None]:
    """Turn whatever an executor raises into an error that tells which step was lost."""
    try:
        yield
    except FxPruneError:
        raise
    except Exception as error:
        raise FxPruneError(
            f"{step.name} was not evaluated: {in_one_line(error)}",
            why="the executor failed, or one of its workers died (out of memory, for one)",
            hint="mend or replace the executor; with resume= a further run goes on from the points"
            " that are finished",
        ) from error


def _pickle_of(value: Any) -> bytes:
    """A pickle; by cloudpickle, if that is there, of what only the user's script defines."""
    try:
        pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if b"__main__" not in pickled:
            return pickled
        failure = None
    except Exception as error:  # noqa: BLE001  # objects refuse in their own ways
        pickled, failure = b"", error
    try:
        import cloudpickle  # noqa: PLC0415  # comes with dask

        return bytes(cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    except Exception as error:  # noqa: BLE001  # as above; or it is not installed
        failure = failure if isinstance(error, ImportError) else error
    if failure is None:
        return pickled
    raise InputError(
        "the model, its inputs or evaluate cannot be sent to another process:"
        f" {in_one_line(failure)}",
        why="they are pickled for executors of other processes",
        hint="define the class of the model and evaluate at the top level of a module (no lambda,"
        " no local function), install cloudpickle, or take a ThreadPoolExecutor",
    ) from failure


def _number(value: Any) -> float | None:
    """What evaluate returned as a float, None if it is not finite.

    Raises:
        InputError: it is no real number.
    """
    is_array = isinstance(value, (torch.Tensor, np.ndarray, np.generic))
    plain = value.item() if is_array and value.ndim == 0 else value
    if isinstance(plain, bool) or not isinstance(plain, Real):
        raise InputError(
            f"evaluate returned {shown(value)}",
            why="the sensitivity of a group is a real number, such as an accuracy or a loss",
            hint="return a float (of a tensor with one element: .item())",
        )
    try:
        number = float(plain)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
