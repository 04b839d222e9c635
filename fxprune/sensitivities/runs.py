"""Evaluating shrunk models, here or on any executor."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from numbers import Real
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

import numpy as np
import torch
from torch import nn

from fxprune.analysis import DependencyGraph
from fxprune.api import shrink
from fxprune.errors import FxPruneError, InputError, in_one_line, shown
from fxprune.importance.processes import refuse_others
from fxprune.inputs import materialize
from fxprune.planning import Plan
from fxprune.planning.strategies import checked_integer

Evaluate: TypeAlias = Callable[[nn.Module], Any]
Verify: TypeAlias = bool | Literal["quick"]
Found = TypeVar("Found")
"""What is found out about a model."""


@dataclass(frozen=True, eq=False)
class Step:
    """One model to evaluate.

    Attributes:
        plan: that it follows.
        name: what it is called in messages.
        is_original: whether it is the original as it is, and the plan tells no more than inputs.
    """

    plan: Plan
    name: str
    is_original: bool = False


class Evaluating(ABC, Generic[Found]):
    """Makes the model of a step and evaluates it, in this process or in another one.

    Threads share it, with its analyses. What crosses to another process is a pickle of `parts`,
    which the process makes it of once.

    Args:
        evaluate: the user's function.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate

    @abstractmethod
    def made(self, step: Step) -> nn.Module:
        """The model of a step."""

    @abstractmethod
    def found(self, step: Step, model: nn.Module) -> Found:
        """What is found out about a model."""

    @abstractmethod
    def parts(self) -> tuple[Any, ...]:
        """What another process makes this of."""

    @classmethod
    @abstractmethod
    def arrived(cls, parts: tuple[Any, ...], plan: Plan) -> Self:
        """The same in another process, of `parts`; the plan is that of its first step."""

    def __call__(self, step: Step) -> Found:
        """What is found out about the model of a step.

        Raises:
            InputError: `evaluate` failed, or returned no number.
            FxPruneError: the model cannot be made.
        """
        with _TURNS.alone():
            model = self.made(step)
        with _TURNS.together():
            return self.found(step, model)

    def here(self, step: Step) -> Found:
        """The same where nothing else runs at the time; `evaluate` may use fxprune then."""
        return self.found(step, self.made(step))

    def value(self, step: Step, model: nn.Module) -> Any:
        """What `evaluate` returns for a model.

        Raises:
            InputError: it failed; names the step.
        """
        try:
            return self.evaluate(model)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"evaluate failed for {step.name}: {in_one_line(error)}",
                where=f"{last.filename}:{last.lineno}: {last.line}",
                hint="evaluate gets the shrunk model, an nn.Module that is called like yours",
            ) from error

    def __reduce__(self) -> tuple[type[Shipped[Found]], tuple[bytes, str]]:
        return Shipped, (self._pickled, hashlib.sha256(self._pickled).hexdigest())

    @cached_property
    def _pickled(self) -> bytes:
        return _pickle_of((type(self), self.parts()))


class Evaluation(Evaluating["float | None"]):
    """Shrinks a model by a plan and evaluates the result: None if its value is not finite.

    Args:
        deps: the analysis of the model.
        inputs: example inputs to verify on, or None.
        evaluate: the user's function.
        verify: see `shrink`.
    """

    def __init__(self, deps: DependencyGraph, inputs: Any, evaluate: Evaluate, verify: Verify):
        super().__init__(evaluate)
        self.deps, self.inputs, self.verify = deps, inputs, verify

    def made(self, step: Step) -> nn.Module:
        """The shrunk model."""
        other = "or leave the group out (only=)" if step.plan.slices else ""
        with naming(step, other):
            return shrink(self.deps, step.plan, self.inputs, emit="auto", verify=self.verify)

    def found(self, step: Step, model: nn.Module) -> float | None:
        """Its value."""
        return _number(self.value(step, model))

    def parts(self) -> tuple[Any, ...]:
        """The model, and all but its analysis."""
        return whole_model(self.deps), self.inputs, self.evaluate, self.verify

    @classmethod
    def arrived(cls, parts: tuple[Any, ...], plan: Plan) -> Self:
        """With an analysis of its own."""
        model, inputs, evaluate, verify = parts
        examples = materialize(plan.inputs, seed=None) if inputs is None else inputs
        return cls(plan.analyze(model, examples), inputs, evaluate, verify)


def whole_model(deps: DependencyGraph) -> nn.Module:
    """The user's model, with the blocks that a plan drops."""
    return deps.model if deps.drop is None else deps.drop.model


@contextmanager
def naming(step: Step, other: str) -> Iterator[None]:
    """Let errors of `shrink` name the step; `other` is what else the user can do."""
    try:
        yield
    except FxPruneError as error:
        hint = "; ".join(filter(None, [error.hint, other]))
        what = f"{step.name}: {error.what}"
        told = type(error)(what, where=error.where, why=error.why, hint=hint)
        told.scene = error.scene
        raise told from error


@dataclass(frozen=True)
class Shipped(Generic[Found]):
    """An evaluation on its way to another process."""

    pickled: bytes
    digest: str

    def __call__(self, step: Step) -> Found:
        """As `Evaluating`."""
        with _TURNS.alone():
            if self.digest not in _ARRIVED:
                _ARRIVED.clear()  # one at a time, for models are large
                _ARRIVED[self.digest] = self._unpacked(step.plan)
            evaluation = _ARRIVED[self.digest]
        found: Found = evaluation(step)
        return found

    def _unpacked(self, plan: Plan) -> Evaluating[Any]:
        try:
            kind, parts = pickle.loads(self.pickled)
        except Exception as error:
            raise InputError(
                f"a worker cannot load the model and evaluate: {in_one_line(error)}",
                hint="define them in Python modules that the workers can import",
            ) from error
        made: Evaluating[Any] = kind.arrived(parts, plan)
        return made


_ARRIVED: dict[str, Evaluating[Any]] = {}


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


def check_running(evaluate: Any, executor: Any, resume: Any) -> None:
    """Refuse what is no function or no executor, and a file that several processes would write.

    Raises:
        InputError: it is so.
    """
    if resume is not None:
        refuse_others(
            "resume= is given",
            "the processes of torch.distributed would read and write one file",
            "call it in the process of rank 0 alone, with an executor for many at a time",
        )
    if not callable(evaluate):
        raise InputError(
            f"evaluate is {shown(evaluate)}",
            hint="pass a function that takes a model and returns a number",
        )
    if executor is not None and not isinstance(executor, Executor):
        is_client = hasattr(executor, "get_executor")
        raise InputError(
            f"executor is {shown(executor)}",
            why="it must be a concurrent.futures.Executor",
            hint="pass client.get_executor()" if is_client else "pass a ThreadPoolExecutor, say",
        )


def checked_pending(pending: Any) -> int:
    """How many steps an executor has at a time: as many as there are processors if nobody says.

    Raises:
        InputError: it is no whole number of at least 1.
    """
    return checked_integer(os.cpu_count() or 1 if pending is None else pending, "pending", 1)


def outcomes(
    steps: Iterable[Step],
    evaluation: Evaluating[Found],
    executor: Executor | None,
    pending: int,
    note: Callable[[Step, Found], object],
) -> Generator[Step, None, None]:
    """Evaluate steps, and note what is found; yields each step that is noted.

    Whatever ends it early, what has been found by then is noted.

    Args:
        steps: what to evaluate.
        evaluation: how.
        executor: what runs it; None for this thread.
        pending: how many steps the executor has at a time.
        note: takes what is found, in this thread, as it comes.

    Raises:
        FxPruneError: a step failed, or the executor did; those that it has not begun are cancelled.
    """
    running: dict[Future[Found], Step] = {}
    try:
        if executor is None:
            for step in steps:
                running[_settled(evaluation.here(step))] = step
                yield from _noted(list(running), running, note)
            return
        rest = iter(steps)
        while True:
            for step in islice(rest, pending - len(running)):
                with _told(step):
                    running[executor.submit(evaluation, step)] = step
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            yield from _noted(sorted(done, key=_has_failed), running, note)
    except BaseException:
        _save(running, note)
        raise


def _settled(value: Found) -> Future[Found]:
    future: Future[Found] = Future()
    future.set_result(value)
    return future


def _noted(
    done: Iterable[Future[Found]],
    running: dict[Future[Found], Step],
    note: Callable[[Step, Found], object],
) -> Iterator[Step]:
    """Note what was found; those that failed come last, so that nothing is lost."""
    for future in done:
        step = running[future]
        with _told(step):
            value = future.result()
        note(step, value)
        del running[future]
        yield step


def _save(running: dict[Future[Found], Step], note: Callable[[Step, Found], object]) -> None:
    """Cancel what has not begun, and note what is finished, if it is possible."""
    for future, step in running.items():
        future.cancel()
        if future.done() and not _has_failed(future):
            with suppress(FxPruneError):
                note(step, future.result())


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
