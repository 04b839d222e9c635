"""The dependency graph for networkx: operators, parameters and groups, with what is known of them.

`deps.to_networkx()` makes it, `write_graph` writes it to a file, and the others answer questions
about it: what a group touches, what blocks it, and which way through the model has the most work.
"""

from fxprune.graphs.questions import (
    Blocked,
    CriticalPath,
    Touched,
    blocked_by,
    critical_path,
    touched_by,
)
from fxprune.graphs.writing import write_graph

__all__ = [
    "Blocked",
    "CriticalPath",
    "Touched",
    "blocked_by",
    "critical_path",
    "touched_by",
    "write_graph",
]
