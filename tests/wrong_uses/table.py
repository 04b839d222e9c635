"""Rows of the table: what a user does wrong, on which model; and what comes of it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import fxprune
from tests.wrong_uses import nets, snapshots

CHECKOUT = Path(__file__).parents[2]
FOREIGN = "<words of torch or Python>"


@dataclass
class World:
    """What a user has at hand: a model, inputs, a folder; a plan and a result if asked for."""

    model: Any
    folder: Path
    x: torch.Tensor = field(default_factory=nets.rows)
    prepared: Any = None

    @cached_property
    def plan(self) -> fxprune.Plan:
        return fxprune.plan(self.model, self.x, ratio=0.5)

    @cached_property
    def small(self) -> Any:
        return fxprune.shrink(self.model, self.plan)

    @cached_property
    def saved(self) -> Path:
        """The plan's file."""
        self.plan.save(self.folder / "plan.json")
        return self.folder / "plan.json"


@dataclass(frozen=True)
class Wrong:
    """A wrong use.

    Attributes:
        name: what the user does, as a sentence's end: "a ratio of 1.5".
        act: does it.
        model: makes the model.
        before: what the user did before; its result is `world.prepared`.
        foreign: patterns of the words in the message that are not fxprune's, and differ from
            version to version.
    """

    name: str
    act: Callable[[World], object]
    model: Callable[[], Any] = nets.chain
    before: Callable[[World], object] = lambda world: None
    foreign: tuple[str, ...] = ()


class Outcome(Exception):  # noqa: N818  # what a command did, whether it failed or not
    """How a command of the command line ended."""


def error_of(row: Wrong, folder: Path) -> str:
    """The class and the text of the error that a wrong use gives; nothing else may change.

    Raises:
        AssertionError: there is no error, or something changed.
    """
    world = prepared(row, folder)
    with nothing_changes(world):
        try:
            row.act(world)
        except (fxprune.FxPruneError, Outcome) as error:
            text = f"{type(error).__name__}: {error}"
        else:
            raise AssertionError(f"{row.name}: no error")
    return _portable(text, row.foreign, folder)


def prepared(row: Wrong, folder: Path) -> World:
    """What the user has before the row's use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about the models
        torch.manual_seed(0)
        world = World(row.model(), folder)
        world.prepared = row.before(world)
    return world


@contextmanager
def nothing_changes(world: World) -> Iterator[None]:
    """The model, the inputs, the files and torch's state are the same afterwards, bit by bit.

    Raises:
        AssertionError: they are not.
    """
    model, x = snapshots.of_model(world.model), snapshots.of_tensor(world.x)
    surroundings = snapshots.of_surroundings(world.folder)
    yield
    assert snapshots.of_model(world.model) == model, "the model changed"
    assert snapshots.of_tensor(world.x) == x, "the inputs changed"
    assert snapshots.of_surroundings(world.folder) == surroundings, "files or torch's state changed"


def _portable(text: str, foreign: tuple[str, ...], folder: Path) -> str:
    """A text without what differs from machine to machine."""
    for path, name in ((folder.resolve(), "FOLDER"), (folder, "FOLDER"), (CHECKOUT, "")):
        text = text.replace(f"{path}{os.sep if not name else ''}", name)
    text = re.sub(r"(\w+\.py):\d+", r"\1:LINE", text)
    for pattern in foreign:
        assert re.search(pattern, text), f"{pattern!r} is not in {text!r}"
        text = re.sub(pattern, FOREIGN, text)
    return "\n".join(line.rstrip() for line in text.splitlines())
