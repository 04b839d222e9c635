"""The strategy: programs that hypothesis draws, and shrinks.

A program is made of one run of bytes, a block for its inputs and outputs and one for each step. So
programs are drawn evenly, and hypothesis, which makes bytes smaller, makes the program simpler: a
step whose block starts with zero is left out.
"""

from __future__ import annotations

from hypothesis import strategies as st

import fuzz.steps  # noqa: F401 (registers the steps)
from fuzz.drafting import STEPS, Draft
from fuzz.program import Layout, Program, Value

STARTS: dict[Layout, tuple[int, tuple[int, ...]]] = {
    "image": (3, (4, 4)),
    "sequence": (5, (4,)),
    "vector": (6, ()),
    "tokens": (1, (4,)),
}


BLOCK = 48
STEPS_AT_MOST = 7


def programs() -> st.SearchStrategy[Program]:
    """Programs of up to `STEPS_AT_MOST` steps."""
    size = BLOCK * (2 + STEPS_AT_MOST)
    return st.binary(min_size=size, max_size=size).map(program)


def program(choices: bytes) -> Program:
    """The program that bytes stand for; any will do."""
    first, last, *blocks = [choices[i : i + BLOCK] for i in range(0, len(choices), BLOCK)]
    d = Draft()
    d.take_choices_from(first)
    _start(d)
    if d.number(0, 4) == 4:
        _start(d)
    for block in blocks:
        if block[0]:
            d.take_choices_from(block[1:])
            _step(d)
    d.take_choices_from(last)
    return d.finished(_results(d))


def _start(d: Draft) -> None:
    """An input, and a layer that makes channels of it."""
    layout = d.choose(*STARTS, *STARTS, "image", "image")
    channels, extent = STARTS[layout]
    x = Value("xyz"[len(d.inputs)], layout, channels, extent)
    d.inputs.append(x)
    if layout == "tokens":
        made = STEPS["embedded"][1](d, x)
        assert made is not None
        d.values.append(made)
    else:
        d.values.append(d.projected(x, d.width()))


def _step(d: Draft) -> None:
    """A step that takes one of the values, most often the latest, and more often one for images.

    Steps that take every layout are drawn less often than those of the value's own.
    """
    x = d.values[-1] if d.number(0, 2) < 2 else d.pick(d.values)
    if x.layout == "vector" and d.yes():
        x = next((v for v in reversed(d.values) if v.layout == "image"), x)
    fitting = {name: layouts for name, (layouts, _) in STEPS.items() if x.layout in layouts}
    is_own = d.number(0, 9) < 7
    name = d.choose(*(name for name, layouts in fitting.items() if (len(layouts) < 4) is is_own))
    kept = len(d.members), len(d.lines)
    made = STEPS[name][1](d, x)
    if made is None:
        del d.members[kept[0] :], d.lines[kept[1] :]
        return
    d.steps.append(name)
    d.values.append(made)


def _results(d: Draft) -> list[str]:
    """The latest value through a head, or as it is; sometimes another one as well."""
    last = d.values[-1]
    results = [last.name if d.number(0, 9) == 9 else d.projected(last, 3).name]
    if d.number(0, 2) == 2:
        other = d.pick(d.values)
        results.append(other.name if d.number(0, 4) == 4 else d.projected(other, 2).name)
    return results
