"""Progressive pruning: a step of pruning, some training, and again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import nn

from fxprune.analysis import DependencyGraph, Model, analyze
from fxprune.api import Emit, check_making, shrink
from fxprune.choosing import plan as make
from fxprune.emission import report_of
from fxprune.errors import InputError, shown
from fxprune.importance import L2, Criterion
from fxprune.importance.processes import is_first, jointly
from fxprune.meaning import Constants, Meaning, Norm
from fxprune.module_trees import (
    as_parameter,
    clone_tree,
    eval_clone,
    fingerprint,
    named_tensors,
)
from fxprune.planning import Plan
from fxprune.planning.choice import make_plan
from fxprune.planning.strategies import checked_integer
from fxprune.progress.current_scores import OfCurrent
from fxprune.progress.expanding import beside, expanded, modes_of, put_in_order, put_modes
from fxprune.progress.files import (
    Progress,
    Step,
    is_state,
    load_tensors,
    optimizer_state,
    plain,
    put_optimizer_state,
)
from fxprune.progress.goals import Goal, refuse_other
from fxprune.progress.optimizers import carried, check_optimizer, kept_positions, moves_between
from fxprune.progress.schedules import Pace, Schedule

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from fxprune.progress.optimizers import Kept


class Progressive:
    """Prune a model step by step, with training in between.

    Everything is said of the original: ratios, targets and numbers of channels mean the original's
    at every step, and what is gone is one plan for the original that grows. Scores are those of the
    model as it is now. `docs/progressive.md` has a worked example.

    Args:
        model: the original, which is never changed. `progressive.model` starts as a copy of it.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        target: the shares of the original's cost that may be left in the end, as for
            `fxprune.plan`; or options say `ratio=`, `ratios=` or `strategies=`.
        steps: how many steps lead there.
        schedule: how far each step goes: "linear", "cubic" or "geometric" (see the page),
            or a function from the share of the steps to the share of the way, both in [0, 1].
        checkpoint: the file that `save` writes. If it is there, the run goes on from it.
        emit: see `shrink`.
        norm: see `shrink`.
        constants: "drop". Biases that have taken up constants of removed channels would take them
            up again in the next step.
        verify: see `shrink`; every step is verified.
        **options: all other options of `fxprune.plan`.

    Raises:
        InputError: an option is unknown or out of range, or the checkpoint is of another run.
        PlanError: an option names what is not there, or the target cannot be met.
        CaptureError, AnalysisError: see `analyze`.
    """

    def __init__(
        self,
        model: Model,
        example_inputs: Any,
        target: Mapping[str, float] | None = None,
        steps: int = 4,
        schedule: Schedule = "cubic",
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        emit: Emit = "graph",
        norm: Norm = "kept",
        constants: Constants = "drop",
        verify: bool | Literal["quick"] = True,
        **options: Any,
    ) -> None:
        self._goal = Goal(target, options, Pace(schedule, checked_integer(steps, "steps", 1)))
        self._making = _Making(emit, norm, verify)
        _refuse_folding(constants)
        self._path = None if checkpoint is None else _checked_path(checkpoint)
        self._inputs = example_inputs
        self._deps = _analyzed(model, example_inputs, emit)
        self._original = (
            fingerprint(named_tensors(self._deps.model)) if self._path is not None else ""
        )
        self._teacher: nn.Module | None = None
        self._plan = make_plan(self._deps, np.zeros(0, dtype=np.int64), {})
        self._model = clone_tree(self._deps.model, _cloned)
        self._history: tuple[Step, ...] = ()
        self._saved: list[dict[str, Any]] = []
        self._emitted = "graph"
        self._extra: dict[str, Any] = {}
        if self._path is not None and self._path.exists():
            self._resume(Progress.load(self._path))
        else:
            self._check_end()
        self._check_processes()

    @property
    def model(self) -> nn.Module:
        """The model as it is now, to be trained; another object after every step."""
        return self._model

    @property
    def plan(self) -> Plan:
        """What of the original is gone by now."""
        return self._plan

    @property
    def history(self) -> tuple[Step, ...]:
        """What each step has left."""
        return self._history

    @property
    def extra(self) -> dict[str, Any]:
        """What was added to the checkpoint when it was saved last."""
        return self._extra

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self._goal.pace.steps

    @property
    def step_number(self) -> int:
        """How many steps are done."""
        return len(self._history)

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.step_number >= self.steps

    @property
    def teacher(self) -> nn.Module:
        """The original in eval mode, frozen; it shares the memory of its weights with yours."""
        if self._teacher is None:
            self._teacher = eval_clone(self._deps.model, _frozen)
        return self._teacher

    def step(self, *optimizers: Optimizer | None) -> nn.Module:
        """Remove the next channels, and let optimizers go on with what is left.

        With `torch.distributed`, every process calls it; the plan of the first one counts.

        Args:
            *optimizers: those that hold parameters of `model`; they are changed in place (see
                `carry_over`).

        Returns:
            The smaller model, which is `model` from now on; wrap it anew (DDP).

        Raises:
            InputError: all steps are done; or an optimizer holds no parameter of the model, or
                what cannot be carried over.
            PlanError: the target cannot be met with the channels that are left.
            RewriteError, VerificationError: see `shrink`.
        """
        held = self._checked(optimizers)
        if self.done:
            raise InputError(
                f"all {self.steps} steps are done",
                hint="ask progressive.done before a step; for more, make another Progressive of it",
            )
        number, before = self.step_number + 1, kept_positions(self._plan)
        full = expanded(self._deps.model, self._model, before)
        planned = self._agreed(lambda: self._planned(number, before))
        small = self._made(self._making, full, planned, beside(self._model, self._inputs))
        put_modes(small, modes_of(self._model))
        moves = moves_between(self._model, small, before, kept_positions(planned))
        for change in [carried(optimizer, moves) for optimizer in held]:
            change.apply()  # which cannot fail, unlike all before
        self._plan, self._model = planned, small
        report = report_of(small)["fxprune"]
        self._history += (Step.of(number, report),)
        self._emitted = report.emit
        return small

    def save(self, *optimizers: Optimizer | None, **extra: Any) -> None:
        """Write the checkpoint: model, plan, states of optimizers. It appears whole or not at all.

        With `torch.distributed`, the first process alone writes.

        Args:
            *optimizers: those that hold parameters of `model`.
            **extra: numbers, texts, tensors, and lists and dicts of these: they come back as
                `extra` in a run that goes on from the checkpoint.

        Raises:
            InputError: there is no `checkpoint=`, or something that cannot be saved.
            FxPruneError: the file cannot be written; the one before is left as it was.
        """
        if self._path is None:
            raise InputError(
                "there is no file to save to", hint="make Progressive with checkpoint="
            )
        held = self._checked(optimizers)
        added = plain(extra, "extra")
        states = [
            optimizer_state(optimizer, self._model, f"optimizer {number}")
            for number, optimizer in enumerate(held)
        ]
        progress = Progress(
            **self.state_dict(),
            original=self._original,
            tensors={name: t.detach() for name, t in named_tensors(self._model).items()},
            frozen=[n for n, p in self._named_parameters() if not p.requires_grad],
            evaluating=[name for name, training in modes_of(self._model).items() if not training],
            optimizers=states,
            extra=added,
        )
        if is_first():
            progress.save(self._path)
        self._extra = added

    def restore(self, *optimizers: Optimizer | None) -> None:
        """Give optimizers the states that are in the checkpoint; in a new run, do nothing.

        Parameters are told by their names. Those that are not the model's are told by their places,
        and their values are not in the checkpoint.

        Args:
            *optimizers: made of `model`, in the order in which they were saved.

        Raises:
            InputError: they are not those that were saved: other classes, groups or parameters.
        """
        held = _given(optimizers)
        for optimizer in held:
            check_optimizer(optimizer, self._model)
        if self._saved and len(held) != len(self._saved):
            raise InputError(
                f"the checkpoint has the states of {len(self._saved)} optimizers, here are"
                f" {len(held)}",
                hint="pass all that were passed to save, in the same order",
            )
        for optimizer, state in zip(held, self._saved, strict=False):
            put_optimizer_state(optimizer, self._model, state)
        self._saved = []

    def state_dict(self) -> dict[str, Any]:
        """What is gone, and what was asked for, without any weight: for checkpoints of your own."""
        return {
            "step": self.step_number,
            "plan": self._plan.to_json(),
            "emit": self._emitted,
            "settings": self._settings(),
            "history": [step.shares() for step in self._history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`: `model` is made anew, with the weights of the original.

        Load its own weights into it next.

        Args:
            state: from a run for the same original with the same options.

        Raises:
            InputError: it is no such state, or of a run with other options; tells what differs.
            PlanError: it is of a run for another model.
        """
        if not is_state(state):
            raise InputError(
                "this is no state of progressive pruning",
                hint="pass what progressive.state_dict() returned",
            )
        refuse_other(state["settings"], self._settings())
        plan = Plan.from_json(state["plan"])
        plan.layout(self._deps)  # refuses one for another model
        if state["step"]:
            making = replace(self._making, emit=state["emit"], verify=False)
            self._model = self._made(making, self._deps, plan, self._inputs)
        else:
            self._model = clone_tree(self._deps.model, _cloned)
        self._plan, self._emitted = plan, state["emit"]
        self._history = tuple(map(Step.read, state["history"]))

    def _made(
        self, making: _Making, model: nn.Module | DependencyGraph, plan: Plan, inputs: Any
    ) -> nn.Module:
        """A smaller model, which lists its parameters in the order of the original."""
        small = shrink(
            model, plan, inputs, emit=making.emit, norm=making.norm, verify=making.verify
        )
        put_in_order(small, self._deps.model)
        return small

    def _checked(self, optimizers: Iterable[Optimizer | None]) -> list[Optimizer]:
        """The optimizers that were given; refused if they have to be restored first."""
        held = _given(optimizers)
        for optimizer in held:
            check_optimizer(optimizer, self._model)
            self._refuse_original(optimizer)
        if self._saved:
            raise InputError(
                "the states of the optimizers in the checkpoint have not been taken over",
                why="they would be lost",
                hint="call progressive.restore(optimizer) after making the optimizer",
            )
        return held

    def _refuse_original(self, optimizer: Optimizer) -> None:
        """Refuse to train the original beside the model: it is never changed."""
        theirs = {id(parameter): name for name, parameter in self._deps.model.named_parameters()}
        for group in optimizer.param_groups:
            for name in (theirs[id(p)] for p in group["params"] if id(p) in theirs):
                raise InputError(
                    f"the {type(optimizer).__name__} holds {name} of the original",
                    why="it would train the original, and not the model that is pruned",
                    hint="make all its groups of the parameters of progressive.model",
                )

    def _named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self._model.named_parameters(remove_duplicate=False)

    def _planned(self, number: int, kept: Kept) -> Plan:
        """The plan of a step, by the model as it is now."""
        current = analyze(self._model, beside(self._model, self._inputs))
        still = [np.zeros(0, dtype=np.int64)]
        for name, entry in self._plan.groups.items():
            ids = self._deps.group(name).ids
            still.append(ids if entry.width == 1 else ids[list(entry.removed)])

        def scored(criterion: Criterion, name: str) -> Criterion:
            return OfCurrent(criterion, name, current, kept, np.unique(np.concatenate(still)))

        options = self._goal.at(number, scored)
        return make(self._deps, self._inputs, after=self._plan, **options)

    def _check_end(self) -> None:
        """Refuse before any training what the last step would refuse.

        Latency is not measured for that, nor are criteria run that look at data.
        """
        options = self._goal.at(self.steps, lambda _criterion, _name: L2())
        target = {n: s for n, s in options.pop("target", {}).items() if n != "latency"}
        options.pop("cost", None)
        make(self._deps, self._inputs, target=target or None, **options)

    def _check_processes(self) -> None:
        """All processes go on from the same step."""
        _, steps = jointly(self._deps, lambda: None, lambda _: self.step_number)
        if len(set(steps)) > 1:
            raise InputError(
                f"the processes go on from different steps: {steps}",
                why="they do not see the same checkpoint",
                hint="put it where all of them can read it",
            )

    def _agreed(self, work: Callable[[], Plan]) -> Plan:
        """The plan of the first process; if one of them finds none, no other waits for it."""
        planned, texts = jointly(self._deps, work, Plan.to_json)
        return planned if is_first() else Plan.from_json(texts[0])

    def _settings(self) -> dict[str, str]:
        return {**self._goal.told(), "emit": self._making.emit, "norm": self._making.norm}

    def _resume(self, saved: Progress) -> None:
        """Go on from a checkpoint."""
        if saved.original != self._original:
            refuse_other(saved.settings, self._settings())
            raise InputError(
                "the checkpoint belongs to another original: the model has other weights",
                why="a teacher would be another one, and what is gone was chosen for these weights",
                hint="pass the original with the weights that it had when the run began, or another"
                " checkpoint= for a new run",
            )
        self.load_state_dict(vars(saved))
        load_tensors(self._model, saved)
        put_modes(self._model, dict.fromkeys(saved.evaluating, False), otherwise=True)
        self._saved, self._extra = saved.optimizers, saved.extra


@dataclass(frozen=True)
class _Making:
    """How models are made of plans."""

    emit: Emit
    norm: Norm
    verify: bool | Literal["quick"]

    def __post_init__(self) -> None:
        Meaning(self.norm)
        check_making(self.emit, self.verify)


def _given(optimizers: Iterable[Optimizer | None]) -> list[Optimizer]:
    return [optimizer for optimizer in optimizers if optimizer is not None]


def _refuse_folding(constants: Any) -> None:
    if constants != "drop":
        raise InputError(
            f"constants={constants!r} is given",
            why="biases that have taken up the constants of removed channels would take them up"
            " again in the next step",
            hint='leave it at "drop": the training between steps makes up for them',
        )


def _checked_path(checkpoint: Any) -> Path:
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise InputError(f"checkpoint is {shown(checkpoint)}", hint="pass the path of a file")
    path = Path(checkpoint).absolute()  # wherever the loop goes meanwhile
    if not path.parent.is_dir():
        raise InputError(
            f"the checkpoint {path} could not be written: its folder does not exist",
            hint="make the folder first",
        )
    return path


def _analyzed(model: Model, example_inputs: Any, emit: Emit) -> DependencyGraph:
    deps = analyze(model, example_inputs)
    if deps.is_fixed_in_training and emit != "module":
        raise InputError(
            "the model is in training mode, and its forward goes by that: a graph would do what it"
            " does in training for good",
            why=deps.fixed[-1].what,
            hint="call model.eval() first (progressive.model.train() is for later), or pass"
            ' emit="module"',
        )
    if deps.drop is not None:
        raise InputError(
            f"blocks of the model were dropped: {', '.join(deps.dropped)}",
            why="at every step a model is made of the original anew, with all its blocks",
            hint="shrink the model without them first, and pass the result",
        )
    return deps


def _cloned(tensor: Tensor) -> Tensor:
    return as_parameter(tensor.detach().clone(), tensor)


def _frozen(tensor: Tensor) -> Tensor:
    own = tensor.detach()
    return nn.Parameter(own, requires_grad=False) if isinstance(tensor, nn.Parameter) else own
