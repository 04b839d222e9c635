"""docs/coverage.md, from the rows."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence

from sweeps.rows import OUTCOMES, Row, versions

_ENOUGH = 0.15
_LONGEST_REASON = 300
_INTRODUCTION = """\
# Coverage

What fxprune makes of every torchvision model (the quantized ones, whose weights are no parameters,
left out), of one small model for each timm family, and of transformers architectures in small
random configurations.

Parameters and norm statistics are random, so that no layer scale of 1e-6 and no zero-initialized
head hides an error. Half of the channels and heads of every group are removed
(`fxprune.plan(deps, ratio=0.5)`), and the result is verified against the masked original on the
example inputs and on all-negative ones. Each model runs in a process of its own.

- *prunable*: share of the parameters that go if every channel that may go does, heads and all;
- *cut*: share of the parameters that were removed;
- *error*: worst relative error of the verification, and its precision;
- *seconds*: analyze, plan, shrink and verify on a CPU, building the model not counted.

A *refused* model raised an error of fxprune before anything was returned; *wrong* means that
verification found a difference, *crashed* any other exception or the death of the process, and
*unusable* that the model itself does not run or returns NaN.
"""
_MADE = (
    "Written by `make sweep` (`python -m sweeps`) with {versions} and Python {python}; a model may "
    "take {timeout:.0f} s."
)


def render(rows: Sequence[Row], timeout: float) -> str:
    """The whole document."""
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    made = _MADE.format(versions=found, python=platform.python_version(), timeout=timeout)
    libraries = dict.fromkeys(row.library for row in rows)
    tables = [f"## {name}\n\n{table(r for r in rows if r.library == name)}" for name in libraries]
    return "\n\n".join([f"{_INTRODUCTION}\n{made}", f"## Totals\n\n{totals(rows)}", *tables]) + "\n"


def totals(rows: Iterable[Row]) -> str:
    """How many of each family had which outcome."""
    families: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        families.setdefault((row.library, row.family), []).append(row)
        families.setdefault((row.library, "all"), []).append(row)
    libraries = list(dict.fromkeys(library for library, _ in families))
    order = sorted(families, key=lambda key: (libraries.index(key[0]), key[1] == "all"))
    head = ["library", "family", "models", "shrunk", f"cut >= {_ENOUGH:.0%}", *OUTCOMES[1:]]
    lines = [_line(head), _line(["---"] * 2 + ["--:"] * (len(head) - 2))]
    for library, family in order:
        members = families[library, family]
        counts = [sum(row.outcome == outcome for row in members) for outcome in OUTCOMES]
        enough = sum(row.outcome == "shrunk" and (row.cut or 0) >= _ENOUGH for row in members)
        cells = [len(members), counts[0], enough, *counts[1:]]
        mark = "**" if family == "all" else ""
        lines.append(_line([library, family, *(f"{mark}{cell}{mark}" for cell in cells)]))
    return "\n".join(lines)


def table(rows: Iterable[Row]) -> str:
    """One line for each model."""
    head = [
        "model",
        "family",
        "captured by",
        "prunable",
        "cut",
        "error",
        "emit",
        "seconds",
        "outcome",
    ]
    lines = [_line(head), _line(["---", "---", "---", "--:", "--:", "--:", "---", "--:", "---"])]
    return "\n".join([*lines, *map(_model_line, rows)])


def _model_line(row: Row) -> str:
    return _line(
        [
            row.name,
            row.family,
            row.captured or "-",
            _share(row.prunable),
            _share(row.cut),
            "-" if row.error is None else f"{row.error:.0e} {row.dtype}",
            row.emit or "-",
            "-" if row.seconds is None else f"{row.seconds:.1f}",
            outcome(row),
        ]
    )


def outcome(row: Row) -> str:
    """The outcome in words, with the stage and the reason where there is one."""
    stage = f" in {row.stage}" if row.stage else ""
    reason = row.reason.replace("\n", " ")
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}…"
    return f"{row.outcome}{stage}" + (f": {reason}" if reason else "")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _line(cells: Iterable[object]) -> str:
    # A bar would end the cell, and a tag would vanish.
    text = (str(cell).replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(text)} |"
