"""Checkpoints of progressive pruning: one file, which appears whole or not at all.

It holds tensors, numbers, texts, lists and dicts only, so that reading it runs no code.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fxprune.errors import InputError, in_one_line, shown
from fxprune.files import write_atomically
from fxprune.module_trees import named_tensors
from fxprune.progress.optimizers import check_optimizer
from fxprune.state_files import read_state

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from fxprune.report import ShrinkReport

FORMAT = "fxprune progressive pruning"
VERSION = 1
SHARES = ("number", "parameters", "macs")
"""What is kept of each step."""
_TENSORS = (torch.Tensor, nn.Parameter)
_MOST = 1e9
"""No share that a step leaves is larger."""
_DEEPEST = 100
"""Values are nested no deeper."""


@dataclass(frozen=True)
class Step:
    """What a step has left.

    Attributes:
        number: of the step, from 1.
        parameters: the share of the original's parameters that is left.
        macs: the share of its multiply-accumulate operations.
        report: of `shrink`; None for a step before the checkpoint that the run goes on from.
    """

    number: int
    parameters: float
    macs: float
    report: ShrinkReport | None = None

    @classmethod
    def of(cls, number: int, report: ShrinkReport) -> Step:
        """What a report tells."""
        before, after = report.before, report.after
        macs = after.macs / before.macs if before.macs else 1.0
        return cls(number, after.parameters / before.parameters, macs, report)

    @classmethod
    def read(cls, shares: Mapping[str, float]) -> Step:
        """What a checkpoint kept of it."""
        return cls(int(shares["number"]), shares["parameters"], shares["macs"])

    def shares(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        return {name: getattr(self, name) for name in SHARES}


@dataclass(frozen=True)
class Progress:
    """What a checkpoint holds.

    Attributes:
        step: how many steps are done.
        plan: what is gone after them, as JSON text.
        emit: the kind of the model, "graph" or "module".
        settings: what was asked for, option by option, in words.
        original: what tells the original's weights (see `fingerprint`).
        history: of each step what it left.
        tensors: parameters and buffers of the model, by name.
        frozen: the parameters that are not trained.
        evaluating: the modules in eval mode.
        optimizers: see `optimizer_state`.
        extra: what the user has added.
    """

    step: int
    plan: str
    emit: str
    settings: dict[str, str]
    original: str
    history: list[dict[str, float]]
    tensors: dict[str, Tensor]
    frozen: list[str]
    evaluating: list[str]
    optimizers: list[dict[str, Any]]
    extra: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            FxPruneError: it cannot be written; an existing file is left as it was.
        """
        document = {"format": FORMAT, "version": VERSION, **vars(self)}
        write_atomically(path, lambda stream: torch.save(document, stream))

    @classmethod
    def load(cls, path: Path) -> Progress:
        """Read it.

        Raises:
            InputError: the file cannot be read, is not safe to read, or holds something else.
        """
        hint = "pass the file that Progressive.save wrote, or another name for a new run"
        try:
            document = read_state(path)
        except InputError as error:
            what = error.what.replace("the weights", "the checkpoint", 1)
            raise InputError(what, why=error.why, hint=hint) from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise InputError(f"{path} is no checkpoint of progressive pruning", hint=hint)
        if document.get("version") != VERSION:
            raise InputError(
                f"the checkpoint {path} has version {shown(document.get('version'))}",
                why=f"this fxprune reads version {VERSION}",
                hint="go on with the fxprune that wrote it",
            )
        names = [field.name for field in fields(cls)]
        kinds = {"step": int, "plan": str, "emit": str, "original": str}
        kinds |= {"settings": dict, "tensors": dict, "extra": dict}
        for name in names:
            if not isinstance(document.get(name), kinds.get(name, list)):
                raise InputError(f"the checkpoint {path} has no {name}", hint=hint)
        progress = cls(**{name: document[name] for name in names})
        if not progress.is_whole:
            raise InputError(f"the checkpoint {path} is not as it was written", hint=hint)
        return progress

    @property
    def is_whole(self) -> bool:
        """Whether lists and dicts hold what they should."""
        states: list[Any] = [*self.optimizers]
        return (
            is_state(vars(self))
            and all(isinstance(name, str) for name in (*self.frozen, *self.evaluating))
            and all(isinstance(s, dict) and {"kind", "names", "state"} <= s.keys() for s in states)
        )


def is_state(state: Any) -> bool:
    """Whether something has all that `Progressive.state_dict` tells, each of its type."""
    if not isinstance(state, Mapping):
        return False
    settings, history = state.get("settings"), state.get("history")
    return (
        isinstance(settings, Mapping)
        and all(isinstance(word, str) for pair in settings.items() for word in pair)
        and all(isinstance(state.get(name), str) for name in ("plan", "emit"))
        and isinstance(history, Sequence)
        and type(state.get("step")) is int
        and state["step"] == len(history)
        and all(_is_step(step, number) for number, step in enumerate(history, 1))
    )


def _is_step(shares: Any, number: int) -> bool:
    return (
        isinstance(shares, Mapping)
        and shares.keys() == set(SHARES)
        and type(shares["number"]) is int
        and shares["number"] == number
        and all(type(shares[name]) in (int, float) for name in SHARES)
        and all(0 <= shares[name] <= _MOST for name in SHARES[1:])
    )


def load_tensors(model: nn.Module, saved: Progress) -> None:
    """Give a model the tensors of a checkpoint.

    Raises:
        InputError: it has others, by name, shape or type.
    """
    own = named_tensors(model)
    wrong = [name for name in {**own, **saved.tensors} if not _are_alike(own, saved.tensors, name)]
    if wrong:
        raise InputError(
            f"the checkpoint does not fit the model: {', '.join(map(shown, wrong[:3]))}",
            why="these tensors are on one side only, or have other shapes or types",
            hint="pass the original as it was made in the run that was saved, and the same options",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved.tensors[name])
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(name not in saved.frozen)


def _are_alike(own: Mapping[str, Tensor], other: Mapping[str, Any], name: str) -> bool:
    a, b = own.get(name), other.get(name)
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return False
    return a.shape == b.shape and a.dtype == b.dtype


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """A value for a checkpoint: numbers of numpy become those of Python.

    Args:
        value: the value.
        where: what it is called in messages.
        depth: how many lists and dicts it is inside of.

    Raises:
        InputError: it is, or holds, something that cannot be read back without running code.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if type(value) in _TENSORS and _is_dense(value):
        return value.detach()
    deeper = depth + 1
    if deeper > _DEEPEST:
        raise InputError(f"{where[:60]} ... is nested more than {_DEEPEST} deep")
    if type(value) in (list, tuple):
        return type(value)(plain(item, f"{where}[{k}]", deeper) for k, item in enumerate(value))
    if type(value) in (dict, OrderedDict) and all(map(_is_key, value)):
        return {plain(k, where): plain(v, f"{where}[{k!r}]", deeper) for k, v in value.items()}
    raise InputError(
        f"{where} is {shown(value)}, of type {type(value).__name__}",
        why="a checkpoint holds tensors, numbers, texts, None, and lists, tuples and dicts of"
        " these, so that reading it runs no code",
        hint="save it in such a form, or in a file of your own",
    )


def _is_dense(tensor: Tensor) -> bool:
    """Whether its values are in memory one by one."""
    return tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized)


def _is_key(key: Any) -> bool:
    return isinstance(key, (str, Integral)) and not isinstance(key, bool)


def optimizer_state(optimizer: Optimizer, model: nn.Module, where: str) -> dict[str, Any]:
    """The state of an optimizer, and the names of its parameters in their order.

    Raises:
        InputError: it holds no parameter of the model, or its state cannot be saved.
    """
    check_optimizer(optimizer, model)
    return {
        "kind": type(optimizer).__name__,
        "names": parameter_names(optimizer, model),
        "state": plain(optimizer.state_dict(), where),
    }


def put_optimizer_state(optimizer: Optimizer, model: nn.Module, saved: Mapping[str, Any]) -> None:
    """Give an optimizer the state that was saved; parameters are told by their names.

    Raises:
        InputError: it is of another class, or its groups hold other parameters.
    """
    check_optimizer(optimizer, model)
    kind = type(optimizer).__name__
    if saved["kind"] != kind:
        raise InputError(
            f"the checkpoint has the state of an optimizer {saved['kind']}, this one is {kind}",
            hint="make the optimizer as in the run that was saved",
        )
    try:
        _put_state(optimizer, parameter_names(optimizer, model), saved["names"], saved["state"])
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the state of the {kind} in the checkpoint does not fit: {in_one_line(error)}",
            hint="make the optimizer as in the run that was saved",
        ) from error


def _put_state(
    optimizer: Optimizer,
    here: Sequence[Sequence[str]],
    there: Sequence[Sequence[str]],
    state: Mapping[str, Any],
) -> None:
    """Give an optimizer a state of which the parameters are in another order."""
    _check_groups(here, there)
    _check_room(state["state"])
    numbers = {
        name: number
        for names, group in zip(there, state["param_groups"], strict=True)
        for name, number in zip(names, group["params"], strict=True)
    }
    groups = [
        {**group, "params": [numbers[name] for name in names]}
        for names, group in zip(here, state["param_groups"], strict=True)
    ]
    for group, own in zip(groups, optimizer.param_groups, strict=True):
        group.pop("param_names", None)  # those of the optimizer, which has them in its own order
        if "param_names" in own:
            group["param_names"] = list(own["param_names"])
    optimizer.load_state_dict({**state, "param_groups": groups})


def _check_room(state: Mapping[Any, Mapping[str, Any]]) -> None:
    """Refuse tensors that say the same memory many times: it would be filled by a copy."""
    for number, entries in state.items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor) and value.numel() > value.untyped_storage().nbytes():
                raise ValueError(f"{key} of parameter {number} has more elements than memory")


def _check_groups(here: Sequence[Sequence[str]], there: Sequence[Sequence[str]]) -> None:
    hint = "make the optimizer of progressive.model, with the groups of the run that was saved"
    if len(here) != len(there):
        raise InputError(
            f"the checkpoint has {len(there)} groups of parameters, the optimizer {len(here)}",
            hint=hint,
        )
    for number, (ours, theirs) in enumerate(zip(here, there, strict=True)):
        more = [f"{name} is in the checkpoint only" for name in theirs if name not in ours]
        more += [f"{name} is in the optimizer only" for name in ours if name not in theirs]
        if more:
            rest = f" and {len(more) - 3} more" if len(more) > 3 else ""
            raise InputError(
                f"group {number} of the optimizer has other parameters than in the checkpoint",
                why="; ".join(more[:3]) + rest,
                hint=hint,
            )


def parameter_names(optimizer: Optimizer, model: nn.Module) -> list[list[str]]:
    """The names of an optimizer's parameters; of those that are not the model's their places."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        [
            known.get(id(parameter), f"(parameter {place} of group {number})")
            for place, parameter in enumerate(group["params"])
        ]
        for number, group in enumerate(optimizer.param_groups)
    ]
