"""A program in the making: what the steps of `fuzz.steps` write to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from fuzz.program import Layout, Program, Value

T = TypeVar("T")
Step: TypeAlias = "Callable[[Draft, Value], Value | None]"
STEPS: dict[str, tuple[tuple[Layout, ...], Step]] = {}
WIDEST = 16


def step(*layouts: Layout) -> Callable[[Step], Step]:
    """Register a step that takes values of these layouts.

    A step writes members and lines to the draft, and returns the value that it made, or None if it
    cannot take the value that it is given.
    """

    def register(function: Step) -> Step:
        STEPS[function.__name__.strip("_")] = (layouts, function)
        return function

    return register


class Draft:
    """Members, lines and values of a program that is being written.

    All choices come from bytes, so that any bytes are a program, and smaller bytes a simpler one.
    """

    def __init__(self) -> None:
        self._bytes = iter(b"")
        self.inputs: list[Value] = []
        self.members: list[str] = []
        self.lines: list[str] = []
        self.values: list[Value] = []
        self.steps: list[str] = []
        self._count = 0

    # -- choices ----------------------------------------------------------------------------

    def take_choices_from(self, given: bytes) -> None:
        """Where the next choices come from; after the last byte all are the simplest."""
        self._bytes = iter(given)

    def choose(self, *options: T) -> T:
        """One of several; the first is the simplest."""
        return options[self.number(0, len(options) - 1)]

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        place = next(self._bytes, 0) * 256 + next(self._bytes, 0)
        return low + place * (high - low + 1) // 65536

    def yes(self) -> bool:
        """A decision."""
        return self.number(0, 1) == 1

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """Items in some order."""
        left, order = list(items), []
        while left:
            order.append(left.pop(self.number(0, len(left) - 1)))
        return order

    def width(self, *multiples: int) -> int:
        """A number of channels that these divide."""
        base = 1
        for multiple in multiples:
            base = base * multiple
        fitting = [n for n in (4, 6, 8, 12, 3, 5, 2) if n % base == 0]
        return self.choose(*fitting) if fitting else base * self.choose(1, 2)

    def divisor(self, n: int, *, least: int = 1) -> int:
        """A divisor of n."""
        found = [k for k in range(least, n + 1) if n % k == 0]
        return self.choose(*found) if found else 1

    # -- writing ----------------------------------------------------------------------------

    def module(self, text: str) -> str:
        """A submodule; returns how forward calls it."""
        return self._member("m", text)

    def parameter(self, *shape: int) -> str:
        """A parameter of the module itself."""
        return self._member("p", f"nn.Parameter(torch.empty({', '.join(map(str, shape))}))")

    def buffer(self, text: str) -> str:
        """A constant that is kept in a buffer."""
        self._count += 1
        self.members.append(f'self.register_buffer("b{self._count}", {text})')
        return f"self.b{self._count}"

    def _member(self, letter: str, text: str) -> str:
        self._count += 1
        self.members.append(f"self.{letter}{self._count} = {text}")
        return f"self.{letter}{self._count}"

    def line(self, text: str) -> None:
        """A line of forward."""
        self.lines.append(text)

    def name(self, expression: str) -> str:
        """A name for the value of an expression."""
        self._count += 1
        self.lines.append(f"v{self._count} = {expression}")
        return f"v{self._count}"

    def names(self, count: int, expression: str) -> list[str]:
        """Names for the values that an expression unpacks to."""
        names = []
        for _ in range(count):
            self._count += 1
            names.append(f"v{self._count}")
        self.lines.append(f"{', '.join(names)} = {expression}")
        return names

    def value(
        self,
        expression: str,
        like: Value,
        *,
        channels: int | None = None,
        extent: tuple[int, ...] | None = None,
        layout: Layout | None = None,
    ) -> Value:
        """A named value, in all that is not told as another one."""
        return Value(
            self.name(expression),
            layout or like.layout,
            like.channels if channels is None else channels,
            like.extent if extent is None else extent,
        )

    # -- values -----------------------------------------------------------------------------

    def pick(self, values: list[Value]) -> Value:
        """One of the values; the latest is the simplest."""
        return values[-1 - self.number(0, len(values) - 1)]

    def projected(self, x: Value, channels: int) -> Value:
        """A value through a layer that gives it this many channels."""
        if x.layout == "image":
            layer = self.module(f"nn.Conv2d({x.channels}, {channels}, 1)")
        elif x.layout == "signal":
            layer = self.module(f"nn.Conv1d({x.channels}, {channels}, 1)")
        else:
            layer = self.module(f"nn.Linear({x.channels}, {channels})")
        return self.value(f"{layer}({x.name})", x, channels=channels)

    def partner(self, x: Value, *, channels: bool = True) -> Value:
        """Another value of the layout and extent of `x`, and of its channels if that is asked for.

        If there is none that fits, or sometimes so, a new layer makes one.
        """
        near = [v for v in self.values if (v.layout, v.extent) == (x.layout, x.extent)]
        fitting = [v for v in near if not channels or v.channels == x.channels]
        others = [v for v in fitting if v.name != x.name] or fitting
        if others and self.number(0, 2) < 2:
            return self.pick(others)
        return self.projected(self.pick(near), x.channels if channels else self.width())

    def finished(self, results: list[str]) -> Program:
        """The program."""
        return Program(
            tuple(self.inputs),
            tuple(self.members),
            tuple(self.lines),
            tuple(results),
            tuple(self.steps),
        )
