"""What a result means: which of the legal readings of "removed" it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from fxprune.errors import InputError

Norm: TypeAlias = Literal["kept", "exact"]
Constants: TypeAlias = Literal["drop", "fold"]


@dataclass(frozen=True)
class Meaning:
    """How a shrunk model relates to the original where that is a choice (`docs/correctness.md`).

    Attributes:
        norm: what an operator sees that looks across a pruned axis in another way than summing (a
            layer norm, a mean, a softmax): "kept", the kept positions only; "exact", the original's
            width, with zeros at removed positions.
        constants: what becomes of the constant that a removed channel still emits (its bias through
            batch norm and activation): "drop", nothing; "fold", it goes into the bias of what
            reads the channel.

    Raises:
        InputError: there is no such meaning.
    """

    norm: Norm = "kept"
    constants: Constants = "drop"

    def __post_init__(self) -> None:
        for name, known in (("norm", Norm), ("constants", Constants)):
            value, choices = getattr(self, name), get_args(known)
            if value not in choices:
                listed = " or ".join(f'"{choice}"' for choice in choices)
                raise InputError(f"{name}={value!r} is not known", hint=f"pass {listed}")
