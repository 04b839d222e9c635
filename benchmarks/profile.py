"""Where the time of a run goes: that of chosen functions, without what they call of one another."""

from __future__ import annotations

import pkgutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import fxprune
from benchmarks.peer import Made
from benchmarks.tables import table
from fxprune import meta_cache

MODELS = (
    Made("{} residual blocks", 100),
    *map(Made, ("mobilenet_v2", "efficientnet_v2_s", "vit_b_16", "regnet_y_8gf")),
)
RUNS = 5
PARTS = {
    "tracing with torch.fx": ("fxprune.tracing:Tracer.trace",),
    "code of graphs": ("torch.fx.graph_module:GraphModule.recompile",),
    "copies of module trees": (
        "fxprune.capture:clone_tree",
        "fxprune.interpretation:clone_tree",
        "fxprune.passes.base:clone_tree",
        "fxprune.passes.repair_shapes:clone_tree",
    ),
    "copies of graphs": ("torch.fx.graph:Graph.__deepcopy__",),
    "running the model on meta tensors": ("fxprune.interpretation:_Interpreter.run",),
    "labels: rules, accounts, known values": ("fxprune.label_mode:LabelMode.__torch_dispatch__",),
    "kernels without data": ("fxprune.label_mode:run_on_meta",),
    "groups and diagnostics": ("fxprune.analysis:build_groups", "fxprune.analysis:_unused"),
    "scores of weights": ("fxprune.importance.criterion:Elementwise._sums",),
    "looking for NaN": ("fxprune.planning.criteria:check_values",),
    "the rest of planning": ("fxprune:plan",),
    "slicing tensors": ("fxprune.passes.slice_state:sliced",),
    "running the new graph in lockstep": ("fxprune.passes.repair_shapes:RepairShapes.apply",),
    "lowering what hides sizes": (
        "fxprune.lowering:Lowering.lower",
        "fxprune.lowering:Lowering.operators",
    ),
    "the table of layers": ("fxprune.api:layers_made",),
    "the rest of analysis": ("fxprune:analyze",),
    "the rest of shrinking": ("fxprune:shrink",),
}
"""Functions by what they do; one that another calls counts for itself."""


REASONS = (
    "No part stands out: a node of a graph is traced, run for its labels, copied, run again in",
    "lockstep and written as code, each of which is Python's work of 0.05 to 0.3 ms. The peer runs",
    "a model once with hooks and cuts it in place, without a graph, a second look at shapes or a",
    "table of layers. So models of many small layers without branches take us longer; where it",
    "searches for what is coupled, as in dense blocks, it takes longer.",
    "",
    "Kept, for it was faster: axes are resolved all at once; a batch norm unites its vectors in",
    "one step; kernels without data run once for equal operands, so repeated blocks share them;",
    "squares are added up in one sweep, in pieces that stay in the cache, just too small for",
    "threads; a sum looks for NaN before any mask does; a tensor is sliced once, and never copied",
    "before; nodes that call no operator are not lowered; modules, tensors and their names are",
    "looked up in tables; Python's collector waits until a stage is over.",
    "",
    "Tried and left: matrix products with ones instead of sums (the conversion to float64 takes as",
    "long as both sums), sums in float32 (no faster, and less exact), norms by",
    "`torch.linalg.vector_norm` (seven times as long along the first dim), one gather for all dims",
    "of a slice (twice as long), freezing all objects instead of collecting (nothing to gain:",
    "1 to 5 ms). Leaving out the run in lockstep would gain its share, and lose the check that",
    "every shape is what was predicted.",
)


class Clock:
    """Takes the time of functions, each without those that it calls."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        """Put the time since the last turn down to what runs innermost."""
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for a part."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn()
                self._running.pop()

        return run

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take the time of all parts meanwhile."""
        with ExitStack() as stack:
            for part, places in PARTS.items():
                for place in places:
                    timed = self.timed(part, pkgutil.resolve_name(place))
                    stack.enter_context(patch(place.replace(":", "."), timed))
            yield


def measured(made: Made) -> tuple[float, dict[str, float]]:
    """Seconds of a whole run, and the shares of the parts in runs with clocks: medians."""

    def run() -> float:
        meta_cache.forget()
        start = time.perf_counter()
        deps = fxprune.analyze(model, inputs)
        fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5), verify=False)
        return time.perf_counter() - start

    model, inputs = made.model()
    run()  # warms up
    whole = statistics.median(run() for _ in range(RUNS))
    shares: list[Counter[str]] = []
    for _ in range(RUNS):
        clock = Clock()
        with clock.watching():
            run()
        total = clock.seconds.total()
        shares.append(Counter({part: taken / total for part, taken in clock.seconds.items()}))
    return whole, {part: statistics.median(share[part] for share in shares) for part in PARTS}


def profile() -> list[str]:
    """What analyzing, planning and shrinking is made of."""
    found = [measured(made) for made in MODELS]
    head = f"| part | {' | '.join(map(str, MODELS))} |"
    rows = [
        f"| {part} | {' | '.join(f'{shares[part]:.0%}' for _, shares in found)} |" for part in PARTS
    ]
    whole = " | ".join(f"{seconds * 1000:.0f} ms" for seconds, _ in found)
    return [
        "Half of the channels of each group removed, without a proof. What a part takes is told",
        "without the other parts that it calls; clocks make small parts seem larger than they",
        "are.",
        *table(head, [*rows, f"| **all** | {whole} |"]),
        "",
        *REASONS,
    ]
