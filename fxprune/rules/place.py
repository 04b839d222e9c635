"""Where in the traced model something happened, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fxprune.errors import Diagnostic, Location

if TYPE_CHECKING:
    import torch.fx
    from torch._ops import OpOverload

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_CELL = re.compile(r"^ipykernel_\d+/\d+\.py$")
_LIBRARY = re.compile(r"[/\\](torch[/\\](fx|nn|_|utils|overrides))|^<")


def source_line(node: torch.fx.Node) -> str:
    """`file:line in function` of the user's code that made a node, or an empty string."""
    frames = [m for m in _FRAME.finditer(node.stack_trace or "") if not _LIBRARY.search(m["file"])]
    if not frames:
        return ""
    file = "/".join(frames[-1]["file"].replace("\\", "/").split("/")[-2:])
    file = _CELL.sub("notebook cell", file)  # its name is another in every run
    return f"{file}:{frames[-1]['line']} in {frames[-1]['function']}"


def module_path(node: torch.fx.Node) -> str:
    """Path of the module whose forward made a node."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()), ("",))[0] if stack else ""
    return str(path)


def target_name(target: Any) -> str:
    """The name of what a node calls; of an object without one that of its class."""
    return target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)


def locate(node: torch.fx.Node, op: OpOverload | None = None) -> Location:
    """A node as a place that can be shown to a person."""
    return Location(node.name, module_path(node), source_line(node), str(op) if op else "")


@dataclass(frozen=True)
class Place:
    """The operator that is being interpreted. Turning it into text is left until it is needed."""

    node: torch.fx.Node
    op: OpOverload | None = None
    what: str = "coupled here to positions that must stay"
    hint: str = ""

    def because(self, what: str, hint: str = "") -> Place:
        """The same place with a reason."""
        return Place(self.node, self.op, what, hint)

    def diagnostic(self) -> Diagnostic:
        """The place and reason as text."""
        return Diagnostic(self.what, locate(self.node, self.op), self.hint)


def as_diagnostic(reason: Any) -> Diagnostic:
    """Any reason for a pin as a Diagnostic."""
    if isinstance(reason, Place):
        return reason.diagnostic()
    if isinstance(reason, Diagnostic):
        return reason
    return Diagnostic(str(reason))
