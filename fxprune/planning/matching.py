"""From module names and patterns to the groups and channels that the modules produce."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from fxprune.errors import InputError, PlanError, shown
from fxprune.rules import as_diagnostic
from fxprune.rules.place import module_path
from fxprune.suggestions import nearest
from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import fx

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.labels import Axis, Ids

_OF_GROUP = re.compile(r"(\[(heads|head_dims|groups|copies)\])?(#\d+)?$")
"""What the name of a group can have behind that of the module that produces it."""


def is_meant(name: str, pattern: str) -> bool:
    """Whether a pattern means a module of that name: `layer1` means all below it, too."""
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") or name == pattern


def checked_patterns(value: Any, name: str) -> list[str]:
    """Names and patterns as a list; those of a set in the order of the alphabet.

    Raises:
        InputError: it is no collection of texts, or a dict, whose values would count for nothing.
    """
    try:
        found: list[Any] = [None] if isinstance(value, (str, Mapping)) else list(value)
        found = sorted(found) if isinstance(value, (set, frozenset)) else found
    except TypeError:
        found = [None]
    if not all(isinstance(each, str) for each in found):
        raise InputError(f"{name} is {shown(value)}", hint="pass a list of names or patterns")
    return found


class ModuleMatcher:
    """Knows what each module produces: the channels on its own parameters and on its output."""

    def __init__(self, deps: DependencyGraph) -> None:
        self.deps = deps
        self._outputs = _outputs(deps)
        self._called = {n.target for n in deps.graph_module.graph.nodes if n.op == "call_module"}
        self._own: dict[str, list[Axis]] = defaultdict(list)
        for name, axes in deps.trace.axes.items():
            if deps.trace.tied[name] in deps.trace.touched:
                owner = name.rpartition(".")[0]
                for module in {owner, self._called_with(owner)}:
                    self._own[module] += axes
        self._group_of = np.full(len(deps.trace.labels), -1, dtype=np.int64)
        for number, group in enumerate(deps.groups):
            self._group_of[group.ids] = number

    def matching(self, pattern: str) -> list[str]:
        """Names of the modules with parameters that a name or pattern means.

        `layer1` means the module and all below it; `*` and `?` match as in file names.

        Raises:
            PlanError: no module matches; the message tells the nearest names.
        """
        names = [name for name in self._own if is_meant(name, pattern)]
        if not names:
            prefixes = {n[:i] for n in self._own for i in range(len(n) + 1) if n[i : i + 1] in ".["}
            known = [*self._own, *prefixes, *(group.name for group in self.deps.groups)]
            raise PlanError(
                f"no module with parameters matches {pattern!r}", hint=nearest(pattern, known)
            )
        return names

    def is_left(self, pattern: str) -> bool:
        """Whether a name or pattern means a module with parameters, or is a group's name."""
        is_group = any(group.name == pattern for group in self.deps.groups)
        return is_group or any(is_meant(name, pattern) for name in self._own)

    def gone_with(self, pattern: str) -> str:
        """The dropped block that has all that a name or pattern means; empty if something is left.

        Of groups that went with a block, names of modules and what follows these are known.
        """
        drop = self.deps.drop
        if drop is None or self.is_left(pattern):
            return ""
        block_of = {id(m): b for b in drop.names for m in drop.model.get_submodule(b).modules()}
        meant = {pattern, _OF_GROUP.sub("", pattern)}
        for name, module in drop.model.named_modules(remove_duplicate=False):
            is_inside = id(module) in block_of and next(module.parameters(), None) is not None
            if is_inside and any(is_meant(name, each) for each in meant):
                return block_of[id(module)]
        return ""

    def groups(self, pattern: str) -> list[Group]:
        """The groups that a group name means, or that matching modules produce.

        Of what a module with modules inside computes on the way, if it is one node of the graph,
        only the names of groups tell where it comes from.

        Raises:
            PlanError: neither a group nor a module matches.
        """
        named = [group for group in self.deps.groups if group.name == pattern]
        if named and pattern not in self._own:
            return named
        modules = self.matching(pattern)
        numbers = {
            int(number)
            for name in modules
            for axis in self.output_axes(name)
            for vector in self.deps.trace.labels.roots(axis)
            for number in np.unique(self._group_of[vector])
            if number >= 0
        }
        inside = tuple(
            f"{name}{mark}" for name in modules if self._is_inside(name) for mark in ".[#"
        )
        numbers.update(n for n, g in enumerate(self.deps.groups) if g.name.startswith(inside))
        return [self.deps.groups[number] for number in sorted(numbers)]

    def _called_with(self, module: str) -> str:
        """The module that is one node of the graph and has this one inside; itself if none has."""
        parts = module.split(".")
        above = (".".join(parts[:count]) for count in range(1, len(parts)))
        return next((name for name in above if name in self._called), module)

    def _is_inside(self, module: str) -> bool:
        """Whether a module is one node of the graph, or inside of one that is."""
        return module in self._called or self._called_with(module) != module

    def output_axes(self, module: str) -> list[Axis]:
        """The distinct axes of a module's outputs that carry channels of its parameters."""
        labels = self.deps.trace.labels
        own: set[int] = set()
        for axis in self._own[module]:
            for vector in labels.roots(axis):
                own.update(vector.tolist())
        own.discard(0)
        found: dict[tuple[bytes, ...], Axis] = {}
        for outputs in self._outputs:
            for axis in outputs[module]:
                vectors = labels.roots(axis)
                if any(own.intersection(vector.tolist()) for vector in vectors):
                    found.setdefault(tuple(vector.tobytes() for vector in vectors), axis)
            if found:
                break
        return list(found.values())

    def channel_ids(self, module: str, channels: Sequence[int]) -> Ids:
        """The ids to remove so that these output channels of a module, or of a group, go.

        A pattern means each of the modules that it matches.

        Raises:
            PlanError: no such module, a channel out of range, or one that must stay.
        """
        axes = self.output_axes(module) if module in self._own else []
        named = next((group for group in self.deps.groups if group.name == module), None)
        if named is not None and named.pinned is None and len(axes) != 1:
            for channel in channels:
                _check_channel(channel, module, named.size)
            return named.ids[list(channels)]
        if module not in self._own and any(mark in module for mark in "*?"):
            found = [name for name in self.matching(module) if self.output_axes(name)]
            return np.concatenate([self.channel_ids(name, channels) for name in found])
        if module not in self._own:
            raise PlanError(
                f"no module with parameters is named {module!r}", hint=nearest(module, self._own)
            )
        if len(axes) != 1:
            raise PlanError(
                f"{module} has {len(axes)} output axes with channels of its own",
                hint="name the group instead of the module",
            )
        vectors = self.deps.trace.labels.expand(axes[0].vectors, keep_pinned=True)
        ids = []
        for channel in channels:
            _check_channel(channel, module, axes[0].size)
            free = self._id_at(vectors, channel)
            if free is None:
                raise PlanError(
                    f"channel {channel} of {module} cannot be removed",
                    why=str(as_diagnostic(self.deps.trace.labels.reason_of(axes[0]))),
                )
            ids.append(free)
        return np.array(ids, dtype=np.int64)

    def staying(self, channels: Mapping[str, Sequence[int]]) -> NDArray[np.bool_]:
        """Which ids must stay so that these output channels of modules, or of groups, stay.

        Args:
            channels: module name, pattern or group name -> channels. Those that stay anyway do.

        Raises:
            PlanError: no such module, or a channel is out of range.
        """
        kept = np.zeros(len(self.deps.trace.labels), dtype=np.bool_)
        for name, numbers in channels.items():
            named = [group for group in self.deps.groups if group.name == name]
            modules = [] if named and name not in self._own else self.matching(name)
            axes = [axis for module in modules for axis in self.output_axes(module)]
            found: list[Sequence[Ids]] = [*map(self.deps.trace.labels.roots, axes)]
            found += [[group.ids] for group in named if not modules]
            for vectors in found:
                for number in numbers:
                    _check_channel(number, name, len(vectors[0]))
                for vector in vectors:
                    kept[vector[list(numbers)]] = True
        kept[0] = False
        return kept

    def _id_at(self, vectors: Sequence[Ids], position: int) -> int | None:
        """The free id to remove for one position: a channel or head rather than a whole group."""
        free = []
        for vector in vectors:
            number = self._group_of[vector[position]]
            if vector[position] and number >= 0 and self.deps.groups[number].pinned is None:
                rank = self.deps.groups[number].kind not in ("channels", "heads")
                free.append((rank, int(vector[position])))
        return min(free)[1] if free else None


def _check_channel(channel: Any, module: str, size: int) -> None:
    if isinstance(channel, bool) or not isinstance(channel, (int, np.integer)):
        raise PlanError(f"channel {shown(channel)} of {module} is not an integer")
    if not 0 <= channel < size:
        raise PlanError(
            f"channel {shown(channel)} of {module} is out of range",
            why=f"it has {size} output channels",
        )


def _outputs(deps: DependencyGraph) -> tuple[dict[str, list[Axis]], dict[str, list[Axis]]]:
    """What each module computes with its parameters, and what it computes of its inputs alone.

    Of parameters alone counts only where there is nothing else. So neither an input that a module
    reshapes nor a weight that it transposes is what it produces, if there is more.
    """
    made: dict[str, list[Axis]] = defaultdict(list)
    unmade: dict[str, list[Axis]] = defaultdict(list)
    of_state: dict[str, list[Axis]] = defaultdict(list)
    from_state: set[fx.Node] = set()
    with_own: set[fx.Node] = set()
    for node in deps.graph_module.graph.nodes:
        sources = node.all_input_nodes
        if node.op == "get_attr" or (sources and from_state.issuperset(sources)):
            from_state.add(node)
        if _has_parameters(deps, node) or any(
            _is_own(source, node, of_state=source in from_state)
            for source in sources
            if source in from_state or source in with_own
        ):
            with_own.add(node)
        found = of_state if node in from_state else made if node in with_own else unmade
        for tensor in traced_tensors(deps.trace.values[node.name]):
            if node.op.startswith("call"):
                found[module_path(node)] += tensor.axes
    for module, axes in of_state.items():
        if module not in made and module not in unmade:
            unmade[module] = axes
    return made, unmade


def _has_parameters(deps: DependencyGraph, node: fx.Node) -> bool:
    """Whether a node is a module that has parameters."""
    if node.op != "call_module":
        return False
    return next(deps.graph_module.get_submodule(str(node.target)).parameters(), None) is not None


def _is_own(source: fx.Node, node: fx.Node, *, of_state: bool) -> bool:
    """Whether what a node reads was made in its module, or is a parameter from further out."""
    path = str(source.target).rpartition(".")[0] if source.op == "get_attr" else module_path(source)
    module = module_path(node)
    return _is_within(path, module) or (of_state and _is_within(module, path))


def _is_within(path: str, module: str) -> bool:
    """Whether a module is another one or inside of it, as all are of the top."""
    return not module or f"{path}.".startswith(f"{module}.")
