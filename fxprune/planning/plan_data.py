"""A plan as data: readable, stable JSON both ways."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from fxprune.analysis import DependencyGraph, Model
from fxprune.deferred import deferred
from fxprune.documents import compact_lists
from fxprune.dropping import without_blocks
from fxprune.errors import FxPruneError, InputError, PlanError, first_of, shown
from fxprune.files import write_atomically
from fxprune.groups import Group
from fxprune.model_checks import check_model
from fxprune.module_trees import named_tensors
from fxprune.notebook_tables import Shown
from fxprune.planning.layout import Layout
from fxprune.planning.notebook_plans import plan_html, plot_of_widths
from fxprune.planning.plan_page import plan_page
from fxprune.planning.plan_text import (
    FORMAT,
    VERSION,
    decoded,
    dim,
    document_in,
    encoded,
    integer,
    integers,
    load,
    mapping,
    sequence,
    text_in,
    with_keys,
)
from fxprune.planning.state_dicts import sliced_state
from fxprune.tables import Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class GroupPlan:
    """What a plan does to one group: its size, its kind, and the removed channels."""

    size: int
    kind: str
    removed: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """How many channels stay."""
        return self.size - len(self.removed)


@dataclass(frozen=True)
class Plan(Shown):
    """Which channels of which groups to remove from which model.

    Attributes:
        groups: group name -> size, kind and removed channels, for every prunable group.
        slices: name of a parameter or buffer -> dim -> removed positions.
        shapes: name -> shape of every parameter and buffer of the model that the plan is for.
        inputs: shape, dtype and integer range of the example inputs, one for each argument.
        digest: SHA-256 of the model's structure.
        made: how the plan was made (ratio, criterion ...); for one of masks, "kept" tells of groups
            that are dead as a whole why a channel of each stays all the same.
        dropped: the residual blocks that go whole; groups and slices are of the model without them.
    """

    groups: Mapping[str, GroupPlan]
    slices: Mapping[str, Mapping[int, tuple[int, ...]]]
    shapes: Mapping[str, tuple[int, ...]]
    inputs: tuple[Any, ...]
    digest: str
    made: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The plan as JSON text, the same for the same plan."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "digest": self.digest,
            "made": dict(self.made),
            **({"dropped": list(self.dropped)} if self.dropped else {}),
            "inputs": [encoded(value) for value in self.inputs],
            "groups": {
                name: {"size": g.size, "kind": g.kind, "removed": list(g.removed)}
                for name, g in self.groups.items()
            },
            "slices": {
                name: {str(dim): list(positions) for dim, positions in dims.items()}
                for name, dims in self.slices.items()
            },
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
        }
        return compact_lists(json.dumps(document, indent=2))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan in a JSON text.

        Raises:
            PlanError: the text is not JSON, not a plan, or of another version.
        """
        document = document_in(text)
        return cls(
            groups={name: _group(entry) for name, entry in mapping(document["groups"]).items()},
            slices={
                name: {dim(key): integers(ids) for key, ids in mapping(dims).items()}
                for name, dims in mapping(document["slices"]).items()
            },
            shapes={name: integers(s) for name, s in mapping(document["shapes"]).items()},
            inputs=tuple(map(decoded, sequence(document["inputs"]))),
            digest=text_in(document["digest"]),
            made=mapping(document["made"]),
            dropped=tuple(map(text_in, sequence(document.get("dropped", [])))),
        )

    @classmethod
    def from_masks(
        cls, model: Model, example_inputs: Any = None, *, ignore: Sequence[str] = ()
    ) -> Plan:
        """The plan that removes every channel which masks or zero weights have made useless.

        These are the channels that are the same whatever the input is (a filter of zeros, a batch
        norm whose scale is zero, and all that is made of nothing but such), and those that nothing
        reads but what goes as well. Masks of `torch.nn.utils.prune` may be in place or permanent.
        `fxprune.shrink(model, plan, norm="exact", constants="fold")` then computes what the model
        computes, in eval mode. What would not be exact stays: a constant that a convolution with
        zero padding reads, for one, and one channel of a group whose branch cannot go; printing
        the plan tells of which, and why.

        Args:
            model: the model with its masks, or the DependencyGraph that `analyze` made of it.
            example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments; not
                needed with a DependencyGraph.
            ignore: names or patterns of modules whose output channels all stay.

        Raises:
            PlanError: an unknown module; or constants cannot be told, because forward decides by
                values, or the model has no data or computes with complex numbers.
            InputError: the inputs do not fit, or the model does not run on them.
            CaptureError, AnalysisError: see `analyze`.
        """
        made: Plan = deferred("plan of masks")(model, example_inputs, ignore=ignore)
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as a JSON file; the file appears whole or not at all."""
        write_atomically(Path(path), lambda stream: stream.write(self.to_json().encode()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan from a JSON file.

        Raises:
            PlanError: the file cannot be read or holds no plan.
        """
        return load(path, cls.from_json, "Plan.save or fxprune plan")

    @classmethod
    def of(cls, plan: Plan | str | os.PathLike[str]) -> Plan:
        """A plan, or the one in the file of that path.

        Raises:
            InputError: it is neither.
            PlanError: see `load`.
        """
        if isinstance(plan, Plan):
            return plan
        if isinstance(plan, (str, os.PathLike)):
            return cls.load(plan)
        raise InputError(
            f"the plan is a {type(plan).__name__}",
            hint="pass a Plan, the path of one, or {module: ratio or channels} to shrink",
        )

    def apply_to_state_dict(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict of the original without what the plan removes; no model is needed.

        It is the state dict of `fxprune.shrink(model, plan, emit="module")`. Entries that lose
        nothing stay the objects that they are, tied ones stay tied, those of dropped blocks are
        left out. Slices alone do not tell what `constants="fold"` adds to biases, nor the buffers
        that a graph gets in the place of others (positions that are looked up): `fxprune.save`
        writes these.

        Args:
            state_dict: of the original that the plan is for.

        Raises:
            PlanError: an entry that the plan slices is missing or has another shape, the state dict
                is of another model, or the plan leaves nothing of an axis.
        """
        return sliced_state(self, state_dict)

    def analyze(self, model: Model, inputs: Any) -> DependencyGraph:
        """`fxprune.analyze`; where that fails, a plan for another model is named as the cause.

        If the plan drops blocks, it is the analysis of the model without them.

        Raises:
            PlanError: the analysis failed, and parameters have other shapes than in the plan; or a
                block cannot be dropped.
            InputError, CaptureError, AnalysisError: see `fxprune.analyze`.
        """
        try:
            return without_blocks(model, inputs, self.dropped)
        except FxPruneError as error:
            if isinstance(model, nn.Module):
                check_model(model)  # what is wrong with it says more
            shapes = _shapes(model)
            known = [n for n in shapes if n in self.shapes] or list(shapes)  # some may be unread
            wrong = next((n for n in known if shapes[n] != self.shapes.get(n)), None)
            if wrong is None:
                raise
            planned = self.shapes.get(wrong)
            there = "the plan has none" if planned is None else f"in the plan {list(planned)}"
            raise PlanError(
                "the plan belongs to another model",
                why=f"{wrong} has shape {list(shapes[wrong])}, {there}",
                hint="make a plan for this model",
            ) from error

    def layout(self, deps: DependencyGraph) -> Layout:
        """The plan applied to the analysis of its model.

        Raises:
            PlanError: the plan is for another model (says what differs), names a channel that is
                not there, or its slices contradict its groups.
        """
        self._check_model(deps)
        removed: list[int] = []
        for name, entry in self.groups.items():
            group = deps.group(name)
            if (entry.size, entry.kind) != (group.size, group.kind):
                raise PlanError(
                    f"the plan takes group {name} for {entry.size} {entry.kind}",
                    why=f"it has {group.size} {group.kind}",
                )
            if entry.removed and group.pinned is not None:
                raise PlanError(f"group {name} is pinned", why=str(group.pinned))
            _check_channels(group, entry.removed)
            removed += group.ids[list(entry.removed)].tolist()
        layout = Layout(deps, np.array(removed, dtype=np.int64))
        if layout.slices != {name: dict(dims) for name, dims in self.slices.items()}:
            both = {**layout.slices, **self.slices}
            name = next(n for n in both if layout.slices.get(n) != self.slices.get(n))
            raise PlanError(
                f"the plan's slices of {name} contradict the removed channels of its groups",
                why=f"the groups remove {layout.slices.get(name)}",
                hint="change the groups with fxprune.plan, not the file by hand",
            )
        return layout

    def _check_model(self, deps: DependencyGraph) -> None:
        if self.digest == deps.digest:
            return
        if deps.dropped != self.dropped:
            raise PlanError(
                f"the plan drops {_told(self.dropped)}, the analysis {_told(deps.dropped)}",
                hint="analyze the model with Plan.analyze, which drops what the plan does",
            )
        shapes = deps.shapes
        differences = [
            *(f"{n}: not in this model" for n in self.shapes if n not in shapes),
            *(f"{n}: not in the plan's model" for n in shapes if n not in self.shapes),
            *(
                f"{n}: shape {list(shapes[n])} here, {list(self.shapes[n])} in the plan"
                for n in shapes
                if n in self.shapes and tuple(self.shapes[n]) != shapes[n]
            ),
            *(f"group {n}: not in this model" for n in self.groups if not _has(deps, n)),
        ]
        why = (
            first_of(differences)
            or "its channels couple otherwise, or its tensors have another dtype"
        )
        hint = "make a plan for this model"
        if deps.decisions:
            hint += ", or pass the DependencyGraph that it was made of: on other inputs forward may"
            hint += " go another way"
        raise PlanError("the plan belongs to another model", why=why, hint=hint)

    def text(self, *, full: bool = False) -> str:
        """What printing it shows: the width of every group before and after.

        Groups whose names differ in indices only, and of which as much goes, are one row:
        `layer1.{0-2}.conv{1,2}`.

        Args:
            full: every group on its own.
        """
        return str(plan_page(self, full=full))

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The width of every group before and after, as bars.

        Args:
            path: where to write it, as an image of the kind that the name ends with. No window is
                opened.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            InputError: matplotlib is not installed, or writes no such images; or no group is there.
            FxPruneError: the file cannot be written.
        """
        return plot_of_widths(self.groups, path)

    def _repr_html_(self) -> str:
        return plan_html(self)

    def __str__(self) -> str:
        return self.text()

    def __rich__(self) -> Page:
        return plan_page(self)


def _group(entry: Any) -> GroupPlan:
    content = with_keys(entry, ("size", "kind", "removed"))
    return GroupPlan(
        integer(content["size"]), text_in(content["kind"]), integers(content["removed"])
    )


def _check_channels(group: Group, channels: Sequence[Any]) -> None:
    for channel in channels:
        if isinstance(channel, bool) or not isinstance(channel, (int, np.integer)):
            raise PlanError(f"channel {shown(channel)} of group {group.name} is not an integer")
        if not 0 <= channel < group.size:
            raise PlanError(
                f"channel {shown(channel)} of group {group.name} is out of range",
                why=f"the group has {group.size} channels",
            )
    if list(channels) != sorted(set(channels)):
        raise PlanError(
            f"the removed channels of group {group.name} are not in order, each once",
            why=f"they are {shown(list(channels))}",
        )


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    state = named_tensors(model) if isinstance(model, nn.Module) else {}
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _told(dropped: Sequence[str]) -> str:
    return f"blocks {', '.join(dropped)}" if dropped else "no blocks"


def _has(deps: DependencyGraph, name: str) -> bool:
    return any(group.name == name for group in deps.groups)
