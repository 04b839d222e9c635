"""The rule table: what each operator does to labels.

A rule has up to three parts:

- `propagate` derives the labels of the outputs and couples the labels of the inputs;
- `sums` names the operands and dims that the op sums over. Zeroing the removed positions there is
  what "removed" means (a contraction, a sum);
- `normalizes` names the operands and dims that the op looks across in another way (a mean, a
  softmax, a layer norm). There the op is meant to see the kept positions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch

from fxprune.errors import FxPruneError, shown
from fxprune.rules.call import Call
from fxprune.rules.kept import Kept, sliced_and_spread

if TYPE_CHECKING:
    from torch._ops import OpOverload, OpOverloadPacket

Propagate: TypeAlias = Callable[[Call], None]
Operands: TypeAlias = Callable[[Call], Iterable[tuple[str, int]]]
OnKept: TypeAlias = Callable[[Call, Kept], object]


def _nothing(call: Call) -> Iterable[tuple[str, int]]:
    return ()


@dataclass(frozen=True)
class Rule:
    """What an operator does to labels; see the module's text for the parts.

    `on_kept` runs the op on the kept positions of what it normalizes over. Its outputs have the
    full size, with zeros at removed positions.
    """

    propagate: Propagate
    sums: Operands = _nothing
    normalizes: Operands = _nothing
    on_kept: OnKept = sliced_and_spread


_HOW = "pass an overload: @fxprune.rule(torch.ops.mylib.op.default)"
_RULES: dict[OpOverload, Rule] = {}
_NAMED: dict[str, Rule] = {}
"""Rules of operators whose library need not be there: schema name -> rule, for all overloads."""
_INHERITED: dict[OpOverload, Rule | None] = {}
"""What `lookup` found for operators that have no rule of their own."""


def rule(
    *ops: OpOverload | OpOverloadPacket,
    sums: Operands | Mapping[str, int] | None = None,
    normalizes: Operands | None = None,
    on_kept: OnKept = sliced_and_spread,
) -> Callable[[Propagate], Propagate]:
    """Register the label rule of one or more operators; use it as a decorator.

    Args:
        ops: overloads such as `torch.ops.mylib.op.default`, or packets (all their overloads).
            The in-place variant `op_` shares the rule of `op`.
        sums: the operands (argument name -> dim) that the op sums over, or a function of the call
            that tells. Removed positions are zeroed there.
        normalizes: a function of the call that tells the operands and dims which the op looks
            across in another way.
        on_kept: how to run the op on the kept positions only. By default the operand is sliced,
            and the outputs are put back to full size.

    Raises:
        FxPruneError: an operator already has a rule, or is none, or the rule is no function.

    Example:
        >>> import torch, fxprune
        >>> lib = torch.library.Library("fxprune_doc", "DEF")
        >>> lib.define("scale(Tensor x, Tensor weight) -> Tensor")
        'scale'
        >>> @fxprune.rule(torch.ops.fxprune_doc.scale.default)
        ... def scale(call):
        ...     x, weight = call.axes("x"), call.axes("weight")
        ...     call.labels.unify(x[1], weight[0])
        ...     call.result(x)
    """
    overloads = _overloads(ops)

    def register(propagate: Propagate) -> Propagate:
        if not callable(propagate):
            raise FxPruneError(f"the label rule {shown(propagate)} is no function")
        entry = Rule(propagate, _operands(sums), normalizes or _nothing, on_kept)
        for op in overloads:
            found = _RULES.get(op) or _NAMED.get(op._schema.name)
            if found is not None:
                raise FxPruneError(
                    f"operator {op} already has a label rule",
                    where=found.propagate.__qualname__,
                    hint="remove the second registration",
                )
        _RULES.update(dict.fromkeys(overloads, entry))
        _INHERITED.clear()
        return propagate

    return register


def rule_by_name(
    *names: str, sums: Operands | Mapping[str, int] | None = None
) -> Callable[[Propagate], Propagate]:
    """As `rule`, for built-in rules of a library that may not be installed.

    Args:
        names: schema names such as `torchvision::nms`, which stand for all overloads.
        sums: as for `rule`.
    """

    def register(propagate: Propagate) -> Propagate:
        _NAMED.update(dict.fromkeys(names, Rule(propagate, _operands(sums))))
        return propagate

    return register


def _operands(given: Operands | Mapping[str, int] | None) -> Operands:
    if isinstance(given, Mapping):
        fixed = tuple(given.items())
        return lambda call: fixed
    return given or _nothing


def _overloads(ops: Iterable[OpOverload | OpOverloadPacket]) -> list[OpOverload]:
    found: list[OpOverload] = []
    if not ops:
        raise FxPruneError("a label rule is for no operator", hint=_HOW)
    for op in ops:
        if isinstance(op, torch._ops.OpOverload):
            found.append(op)
        elif isinstance(op, torch._ops.OpOverloadPacket):
            found += [getattr(op, name) for name in op.overloads()]
        else:
            raise FxPruneError(
                f"{getattr(op, '__name__', shown(op))} is not a torch operator", hint=_HOW
            )
    return found


def lookup(op: OpOverload) -> Rule | None:
    """The rule of an operator: its own, that of its functional variant, or the pointwise one."""
    found = _RULES.get(op)
    if found is not None:
        return found
    if op not in _INHERITED:
        _INHERITED[op] = _inherited(op)
    return _INHERITED[op]


def _inherited(op: OpOverload) -> Rule | None:
    named = _NAMED.get(op._schema.name)
    if named is not None:
        return named
    functional = _functional_variant(op)
    found = _RULES.get(functional) if functional is not None else None
    if found is None and any(
        torch.Tag.pointwise in variant.tags for variant in (op, functional) if variant
    ):
        found = _RULES[torch.ops.aten.add.Tensor]
    return found


def _functional_variant(op: OpOverload) -> OpOverload | None:
    """`op` for the in-place `op_`, with the same overload name or the only one there is."""
    namespace, name = op._schema.name.split("::")
    if not name.endswith("_") or name.endswith("__"):
        return None
    packet = getattr(getattr(torch.ops, namespace), name[:-1], None)
    if packet is None:
        return None
    overload: OpOverload = getattr(packet, op._overloadname, None) or getattr(
        packet, packet.overloads()[0]
    )
    return overload


def registered() -> Mapping[OpOverload, Rule]:
    """All rules, by operator."""
    return dict(_RULES)
