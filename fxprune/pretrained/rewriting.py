"""Configurations of shrunk models: `save_pretrained` writes what `from_pretrained` can load."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn

from fxprune.differences import alike, difference
from fxprune.dropping import Dropped
from fxprune.errors import Diagnostic, Location, RewriteError, first_line
from fxprune.guarded_writes import Lent
from fxprune.module_runs import call_model
from fxprune.module_trees import attribute_at, clone_tree, eval_clone, named_tensors
from fxprune.pretrained.configs import built, field_name, is_config, is_model, reread, with_numbers
from fxprune.pretrained.solving import Equations, quantities
from fxprune.reference import QuietMode
from fxprune.stepping import RESULT, seed
from fxprune.values import copied, tensors

_HINT = (
    "fxprune.plan(..., uniform=True) gives all layers of a type one width; where the hidden width"
    " is that of all heads together, take the same share of both; heads stay where their cache is"
    " returned, unless the example inputs say use_cache=False"
)
_ROUNDING = 16
"""How many units in the last place two calls of the same model may differ by."""


class _NoConfigError(Exception):
    """No configuration makes a model of these widths: why, and in which module."""

    def __init__(self, why: str, module: str = "") -> None:
        super().__init__(why)
        self.module = module


@dataclass(frozen=True)
class Refusal:
    """Stands for `save_pretrained` of a model that could not be loaded again."""

    reason: Diagnostic

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to save.

        Raises:
            RewriteError: always; says what no configuration can say.
        """
        raise RewriteError(
            "the model cannot be saved for from_pretrained",
            where=self.reason.where,
            why=self.reason.what,
            hint=self.reason.hint,
        )


def adapt_configs(
    small: nn.Module, original: nn.Module, arguments: Mapping[str, Any] | None
) -> tuple[Diagnostic, ...]:
    """Let the configurations of all pretrained models in a shrunk model tell its widths.

    A configuration is only changed if `from_pretrained` makes with it, and the weights, a model of
    the same sizes and numbers that returns the same. Where there is none, `save_pretrained` of the
    model refuses.

    Args:
        small: the shrunk model, whose modules get the new configurations.
        original: the model that it was made of; it may share configurations with `small`.
        arguments: values of forward's arguments by name, without data if the model has none; None
            for a model that is not to be called.

    Returns:
        Why there is none, for each model that has none.
    """
    refused = []
    outer = list(_outermost(small))
    if not outer:
        return ()
    with quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
        calls = _calls(small, [path for path, _ in outer], arguments)
        for path, module in outer:
            before = original.get_submodule(path)
            try:
                _check(_dropped(module), "without a block")
                if _sizes(module) != _sizes(before):
                    config = _fitted(module, before, calls.get(path))
                    _replace(module, module.config, config)
            except _NoConfigError as error:
                refused.append(_refuse(module, path, error))
    return tuple(refused)


def _refuse(model: nn.Module, path: str, error: _NoConfigError) -> Diagnostic:
    reason = Diagnostic(
        f"no configuration of {type(model).__name__} tells its new widths: {error}",
        Location(module=".".join(part for part in (path, error.module) if part)),
        _HINT,
    )
    for inner in filter(is_model, model.modules()):
        vars(inner)["save_pretrained"] = Refusal(reason)
    return reason


def without_refusals(small: nn.Module) -> nn.Module:
    """A copy that shares all tensors, and can be unpickled without fxprune.

    What stands for dropped blocks needs fxprune anyway, so such a model keeps its refusals.
    """
    twin = clone_tree(small, lambda tensor: tensor)
    if not any(isinstance(module, Dropped) for module in twin.modules()):
        for module in twin.modules():
            if isinstance(vars(module).get("save_pretrained"), Refusal):
                del vars(module)["save_pretrained"]
    return twin


def _outermost(model: nn.Module, path: str = "") -> Iterator[tuple[str, Any]]:
    if is_model(model):
        yield path, model
        return
    for name, child in model.named_children():
        yield from _outermost(child, f"{path}.{name}" if path else name)


def _sizes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in named_tensors(model).items()}


@dataclass(frozen=True)
class _Call:
    args: Any
    kwargs: Any
    output: Any


def _calls(
    small: nn.Module, paths: list[str], arguments: Mapping[str, Any] | None
) -> dict[str, _Call]:
    """The first call of each of some modules, and what it returned."""
    taken: dict[str, tuple[Any, Any]] = {}
    found: dict[str, _Call] = {}
    if arguments is None or not paths:
        return found
    model = eval_clone(small, lambda tensor: tensor)

    def enter(path: str, args: Any, kwargs: Any) -> None:
        taken.setdefault(path, (copied(args), copied(kwargs)))

    def leave(path: str, output: Any) -> None:
        args, kwargs = taken[path]
        found.setdefault(path, _Call(args, kwargs, output))

    for path in paths:
        module = model.get_submodule(path)
        module.register_forward_pre_hook(
            lambda _, args, kwargs, path=path: enter(path, args, kwargs), with_kwargs=True
        )
        module.register_forward_hook(lambda _, args, output, path=path: leave(path, output))
    call_model(RESULT, model, arguments)
    return found


def _fitted(small: Any, original: Any, call: _Call | None) -> Any:
    """The configuration of a shrunk model, whose numbers that were of no use become its own.

    Raises:
        _NoConfigError: there is none.
    """
    kind = type(original)
    try:
        usual = built(kind, original.config)
        equations = Equations.of(lambda config: built(kind, config), original.config)
    except Exception as error:
        raise _NoConfigError(f"building it again fails: {first_line(error)}") from error
    _check(_other_sizes(original, usual), "that of the original does not fit it")
    numbers = equations.solved(quantities(small))
    changed = {f: n for f, n in numbers.items() if n != equations.numbers[f]}
    said = ", ".join(f"{field_name(f)}={n}" for f, n in changed.items())
    said = f"with {said}" if said else "with the same numbers"
    config = with_numbers(equations.config, numbers)
    stale = _stale_numbers(small, original) if call is not None else set()
    own = set(_other_numbers(original, usual))
    try:
        _check(_other_sizes(small, built(kind, reread(config))), said)
        again, lent = _again(small, config)
        if call is not None and _is_on_meta(small):
            stale -= _read_numbers(again, call, stale)
        others = _other_numbers(small, again).items()
        _check(((n, what) for n, what in others if n not in stale | own), said)
        _check(_other_buffers(small, again), said)
        if call is not None:
            with lent:
                _check(_other_outputs(again, call), said)
    except _NoConfigError:
        raise
    except Exception as error:
        raise _NoConfigError(f"{said} there is none: {first_line(error)}") from error
    for name in stale:
        path, _, attribute = name.rpartition(".")
        setattr(small.get_submodule(path), attribute, attribute_at(again, name))
    return config


def _stale_numbers(small: nn.Module, original: nn.Module) -> set[str]:
    """Whole numbers that modules keep and that are as they were."""
    was = dict(_numbers(original))
    return {
        name
        for name, value in _numbers(small)
        if not isinstance(value, float) and was.get(name) == value
    }


def _read_numbers(model: nn.Module, call: _Call, names: set[str]) -> set[str]:
    """Which of these numbers the forward of a model reads, that or any of its modules.

    Without data no outputs tell whether a number matters; one that nothing reads does not.

    Args:
        model: of no more use then: its modules get other classes.
        call: what it is called with.
        names: of attributes of modules.
    """
    read: set[str] = set()
    for path, module in model.named_modules():
        own = {n.rpartition(".")[2] for n in names if n.rpartition(".")[0] == path}
        if own:
            module.__class__ = _spied(type(module), path, own, read)
    with QuietMode():
        model(*copied(call.args), **copied(call.kwargs))
    return read


def _spied(kind: Any, path: str, attributes: set[str], read: set[str]) -> Any:
    """A class that notes which of some attributes are read."""

    class Spied(kind):  # type: ignore[misc]  # a class of anyone
        def __getattribute__(self, name: str) -> Any:
            if name in attributes:
                read.add(f"{path}.{name}" if path else name)
            return super().__getattribute__(name)

    Spied.__name__, Spied.__qualname__ = kind.__name__, kind.__qualname__
    Spied.__module__ = kind.__module__
    return Spied


def _check(found: Iterator[tuple[str, str]], said: str) -> None:
    for name, what in found:
        raise _NoConfigError(f"{said}, {name} {what}", name.rpartition(".")[0])


def _dropped(model: nn.Module) -> Iterator[tuple[str, str]]:
    for path, module in model.named_modules():
        if isinstance(module, Dropped):
            yield path, "would be there again, with random weights"


def _other_sizes(model: nn.Module, again: nn.Module) -> Iterator[tuple[str, str]]:
    mine, theirs = _sizes(model), _sizes(again)
    for name, shape in mine.items():
        if name not in theirs:
            yield name, "is not there"
        elif theirs[name] != shape:
            yield name, f"has shape {theirs[name]}, not {shape}"
    for name in theirs:
        if name not in mine:
            yield name, "is there as well"


def _other_numbers(model: nn.Module, again: nn.Module) -> dict[str, str]:
    theirs = dict(_numbers(again))
    return {
        name: f"is {theirs.get(name)}, not {value}"
        for name, value in _numbers(model)
        if theirs.get(name) != value
    }


def _numbers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Numbers, and lists of them, that modules keep."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            parts = value if isinstance(value, (tuple, list)) else (value,)
            if not name.startswith("_") and all(type(part) in (int, float) for part in parts):
                yield f"{path}.{name}" if path else name, value


def _other_buffers(model: nn.Module, again: nn.Module) -> Iterator[tuple[str, str]]:
    theirs = dict(again.named_buffers())
    for name, buffer in model.named_buffers():
        other = theirs[name]
        if other.dtype != buffer.dtype:
            yield name, f"has type {other.dtype}, not {buffer.dtype}"
        elif not (buffer.is_meta or torch.equal(buffer, other)):
            yield name, "has other values"


def _other_outputs(again: nn.Module, call: _Call) -> Iterator[tuple[str, str]]:
    seed()
    with QuietMode():
        output = again(*call.args, **call.kwargs)
    if not alike(call.output, output):
        yield "the model", "returns another kind of value"
        return
    for expected, got in zip(tensors(call.output), tensors(output), strict=True):
        if expected.shape != got.shape:
            yield "the model", f"returns shape {tuple(got.shape)}, not {tuple(expected.shape)}"
            continue
        if expected.is_meta:
            continue
        apart = difference(expected, got)[1]
        exact = not (expected.is_floating_point() or expected.is_complex())
        if apart > (0 if exact else _ROUNDING * torch.finfo(expected.dtype).eps):
            yield "the model", f"returns other values (relative difference {apart:.1e})"


def _again(small: Any, config: Any) -> tuple[Any, Lent]:
    """What `from_pretrained` makes of the configuration's file and the weights.

    Weights without values cannot be loaded; then what the configuration makes. Others are lent to
    it, or copied if loading writes into them; the mode that is returned keeps them from it.
    """
    config = reread(config)
    if _is_on_meta(small):
        return built(type(small), config), Lent(())
    state = {name: tensor.detach() for name, tensor in small.state_dict().items()}
    lent = Lent(state.values())
    try:
        with lent:
            again = _loaded(small, config, state)
    except Exception:
        if not lent.is_written:
            raise
    if lent.is_written:
        lent, state = Lent(()), {name: tensor.clone() for name, tensor in state.items()}
        again = _loaded(small, config, state)
    return again, lent


def _loaded(small: Any, config: Any, state: Mapping[str, torch.Tensor]) -> Any:
    again = type(small).from_pretrained(
        None,
        config=config,
        state_dict=state,
        dtype=small.dtype,
        attn_implementation=small.config._attn_implementation,
    )
    return again.to(small.device)


def _is_on_meta(model: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in named_tensors(model).values())


@contextmanager
def quiet() -> Iterator[None]:
    """Without the reports, progress bars and warnings of building and loading."""
    from transformers.utils import logging  # noqa: PLC0415  # a model of it is there

    verbosity, shows = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if shows:
            logging.enable_progress_bar()


def _replace(model: nn.Module, old: Any, new: Any) -> None:
    """Give every module that refers to a configuration the new one, parts of it likewise."""
    pairs = dict(_pairs(old, new))
    for module in model.modules():
        for name, value in vars(module).items():
            if id(value) in pairs:
                vars(module)[name] = pairs[id(value)]


def _pairs(old: Any, new: Any) -> Iterator[tuple[int, Any]]:
    yield id(old), new
    for name, value in vars(old).items():
        if is_config(value):
            yield from _pairs(value, getattr(new, name))
