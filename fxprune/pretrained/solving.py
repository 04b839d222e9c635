"""Which numbers of a configuration make a model of given widths.

The class itself is asked: it is built on the meta device with one number after another doubled.
What doubles with a number is a multiple of it, what halves is divided by it. With these exponents
the sizes of all tensors are equations, of which the new numbers are the solution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from torch import nn

from fxprune.module_trees import named_tensors
from fxprune.pretrained.configs import Field, fields, with_numbers

Quantity: TypeAlias = tuple[str, str, int]
"""What a model has: ("shape", name, dim), or ("number", name of an attribute, place)."""
Build: TypeAlias = Callable[[Any], nn.Module]
_FACTORS = (Fraction(2), Fraction(1, 2), Fraction(3))


def quantities(model: nn.Module) -> dict[Quantity, int]:
    """The sizes of all tensors of a model, and the whole numbers that its modules keep."""
    found: dict[Quantity, int] = {}
    for name, tensor in named_tensors(model).items():
        for dim, size in enumerate(tensor.shape):
            found["shape", name, dim] = size
    for path, module in model.named_modules(remove_duplicate=False):
        for name, value in vars(module).items():
            parts = value if isinstance(value, (tuple, list)) else (value,)
            for place, part in enumerate(parts):
                if type(part) is int and not name.startswith("_"):
                    found["number", f"{path}.{name}" if path else name, place] = part
    return found


@dataclass(frozen=True)
class Equations:
    """How quantities follow from the numbers of a configuration.

    Attributes:
        config: the configuration, with a number in the place of every None that matters.
        numbers: its numbers that some quantity follows from.
        before: the quantities of the model that is built of it.
        powers: for each quantity the numbers that it follows from: 1 for a factor, -1 for a
            divisor, 0 for anything else.
    """

    config: Any
    numbers: Mapping[Field, int]
    before: Mapping[Quantity, int]
    powers: Mapping[Quantity, Mapping[Field, int]]

    @classmethod
    def of(cls, build: Build, config: Any) -> Equations:
        """Ask the class."""
        before = quantities(build(config))
        known = fields(config)
        given = {field: n for field, n in known.items() if n is not None}
        for field in [field for field, n in known.items() if n is None]:
            number = _default(build, config, field, before)
            if number is not None:
                given[field] = number
        explicit = with_numbers(config, given)
        powers: dict[Quantity, dict[Field, int]] = {}
        for field, number in given.items():
            for quantity, power in _powers(build, explicit, field, number, before).items():
                powers.setdefault(quantity, {})[field] = power
        used = {field for each in powers.values() for field in each}
        return cls(explicit, {f: n for f, n in given.items() if f in used}, before, powers)

    def solved(self, after: Mapping[Quantity, int]) -> dict[Field, int]:
        """The numbers that make a model of these quantities, if any do: who asks has to check.

        Where quantities do not agree, most of them count. Sizes of tensors come first: a number
        that a module keeps may be of no use, and be as it was.
        """
        shared = [q for q in self.powers if q in after]
        sizes = [q for q in shared if q[0] == "shape"]
        changed = [q for q in shared if q[0] == "number" and after[q] != self.before[q]]
        ranks, ratios = (sizes, changed, shared), dict[Field, Fraction]()
        while votes := next(filter(None, (self._votes(r, after, ratios) for r in ranks)), None):
            (field, ratio), _ = votes.most_common(1)[0]
            ratios[field] = ratio
        found = {field: n * ratios.get(field, Fraction(1)) for field, n in self.numbers.items()}
        return {field: int(n) for field, n in found.items() if n.denominator == 1}

    def _votes(
        self,
        among: Iterable[Quantity],
        after: Mapping[Quantity, int],
        ratios: Mapping[Field, Fraction],
    ) -> Counter[tuple[Field, Fraction]]:
        """How many quantities say what of a number, of those that follow from no other open one."""
        votes: Counter[tuple[Field, Fraction]] = Counter()
        for quantity in among:
            powers = self.powers[quantity]
            open_ = [field for field in powers if field not in ratios]
            before, now = self.before[quantity], after[quantity]
            if len(open_) != 1 or 0 in powers.values() or not before or not now:
                continue
            ratio = Fraction(now, before)
            for field, power in powers.items():
                if field != open_[0]:
                    ratio /= ratios[field] ** power
            votes[open_[0], ratio ** powers[open_[0]]] += 1
        return votes


def _tried(build: Build, config: Any, field: Field, number: int) -> dict[Quantity, int] | None:
    """The quantities with another number; None if the class does not take it."""
    try:
        return quantities(build(with_numbers(config, {field: number})))
    except Exception:  # noqa: BLE001  # a class may refuse numbers, each in its own way
        return None


def _default(build: Build, config: Any, field: Field, before: Mapping[Quantity, int]) -> int | None:
    """What a class takes where the configuration says None: whatever becomes a number put there."""
    for probe in (6, 24):
        found = _tried(build, config, field, probe)
        if found is None:
            continue
        direct = {
            before[q]
            for q, size in found.items()
            if size == probe and before.get(q, probe) not in (probe, 0)
        }
        if len(direct) == 1:
            number = direct.pop()
            if _tried(build, config, field, number) == dict(before):
                return number
    return None


def _powers(
    build: Build, config: Any, field: Field, number: int, before: Mapping[Quantity, int]
) -> dict[Quantity, int]:
    """What follows from a number, and with which exponent (0 for what is no power of it)."""
    powers: dict[Quantity, int] = {}
    for factor in _FACTORS:
        other = number * factor
        found = _tried(build, config, field, int(other)) if other.denominator == 1 else None
        if found is None:
            continue
        for quantity, size in before.items():
            new = found.get(quantity, size)
            if new != size and not powers.get(quantity):
                powers[quantity] = int(new == size * factor) - int(new * factor == size)
        if all(powers.values()):
            break
    return powers
