"""Putting a fault into the running fxprune, and taking it out again."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch

from fxprune.rules import Rule, registered
from fxprune.rules import registry as rules


class CannotInjectError(Exception):
    """A fault no longer fits the code that it was written for."""


@dataclass(frozen=True)
class Edit:
    """A function in which one piece of the source reads otherwise.

    Every function object that was made of that source gets new code, so that the fault is there
    whoever holds a reference: a rule table, a table of repairs, another module.

    Attributes:
        where: `module:qualified name` of the function, below `fxprune`.
        old: what its source says, exactly once; nested functions belong to it, decorators do not.
        new: what it says with the fault, on as many lines.
    """

    where: str
    old: str
    new: str

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inject the fault for the duration of a `with` block."""
        module, _, name = self.where.partition(":")
        file = import_module(f"fxprune.{module}").__file__
        assert file is not None
        source = Path(file).read_text(encoding="utf-8")
        before = _functions_of(compile(source, file, "exec"))
        after = _functions_of(compile(self._changed(source, name), file, "exec"))
        live = [
            function
            for function in gc.get_objects()
            if type(function) is FunctionType and function.__code__.co_filename == file
        ]
        swaps = [(f, new) for f in live if (new := _changed_code(f, before, after)) is not None]
        if not swaps:
            raise CannotInjectError(f"{self.where}: no function changes")
        known = [(function, function.__code__) for function, _ in swaps]
        try:
            for function, code in swaps:
                function.__code__ = code
            yield
        finally:
            for function, code in known:
                function.__code__ = code

    def _changed(self, source: str, name: str) -> str:
        first, last = _span(source, name)
        lines = source.splitlines(keepends=True)
        text = "".join(lines[first - 1 : last])
        if text.count(self.old) != 1:
            raise CannotInjectError(f"{self.where}: {self.old!r} is there {text.count(self.old)}x")
        changed = text.replace(self.old, self.new)
        if changed.count("\n") != text.count("\n"):
            raise CannotInjectError(f"{self.where}: the fault must not move lines")
        return "".join([*lines[: first - 1], changed, *lines[last:]])


def _span(source: str, name: str) -> tuple[int, int]:
    """First and last line of a function, without its decorators."""
    body: list[Any] = [ast.parse(source)]
    for part in name.split("."):
        found = [node for parent in body for node in parent.body]
        body = [node for node in found if getattr(node, "name", None) == part]
        if not body:
            raise CannotInjectError(f"there is no function {name}")
    return body[0].lineno, body[0].end_lineno


def _functions_of(code: CodeType) -> dict[tuple[str, int], CodeType]:
    """All code objects inside another by their qualified name and line."""
    found, pending = {}, [code]
    while pending:
        for inner in (c for c in pending.pop().co_consts if isinstance(c, CodeType)):
            found[inner.co_qualname, inner.co_firstlineno] = inner
            pending.append(inner)
    return found


def _changed_code(
    function: FunctionType,
    before: Mapping[tuple[str, int], CodeType],
    after: Mapping[tuple[str, int], CodeType],
) -> CodeType | None:
    key = function.__code__.co_qualname, function.__code__.co_firstlineno
    return None if key not in after or before[key] == after[key] else after[key]


@dataclass(frozen=True)
class Missing:
    """An entry that a table does not have.

    Attributes:
        table: `module:name` of a dictionary, below `fxprune`.
        keys: the entries that are left out.
    """

    table: str
    keys: tuple[str, ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inject the fault for the duration of a `with` block."""
        module, _, name = self.table.partition(":")
        table: dict[str, Any] = getattr(import_module(f"fxprune.{module}"), name)
        if absent := set(self.keys) - table.keys():
            raise CannotInjectError(f"{self.table} has no {sorted(absent)}")
        known = dict(table)
        try:
            for key in self.keys:
                del table[key]
            yield
        finally:
            table.clear()
            table.update(known)


@dataclass(frozen=True)
class WrongRule:
    """Operators with another rule than theirs.

    Attributes:
        operators: names of operators of `torch.ops.aten`, which stand for all overloads.
        rule: the operator (with overload) whose rule they get, or None for their own.
        sums: whether removed positions are masked where the operators sum.
        normalizes: whether the operators see only kept positions where they look across.
    """

    operators: tuple[str, ...]
    rule: str | None = None
    sums: bool = True
    normalizes: bool = True

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inject the fault for the duration of a `with` block."""
        known = registered()
        packets = [getattr(torch.ops.aten, name) for name in self.operators]
        overloads = [getattr(packet, name) for packet in packets for name in packet.overloads()]
        wrong = {op: self._changed(known[op], known) for op in overloads if op in known}
        if not wrong:
            raise CannotInjectError(f"no rule for {', '.join(self.operators)}")
        try:
            rules._RULES.update(wrong)
            rules._INHERITED.clear()
            yield
        finally:
            rules._RULES.update(known)
            rules._INHERITED.clear()

    def _changed(self, rule: Rule, known: Mapping[Any, Rule]) -> Rule:
        if self.rule is not None:
            packet, _, overload = self.rule.partition(".")
            rule = known[getattr(getattr(torch.ops.aten, packet), overload)]
        sums = rule.sums if self.sums else rules._nothing
        normalizes = rule.normalizes if self.normalizes else rules._nothing
        return replace(rule, sums=sums, normalizes=normalizes)


Injection = Edit | Missing | WrongRule
