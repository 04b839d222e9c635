"""The tables of docs/correctness.md, from the rows."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence

import torch

from faults.fault import Case
from faults.running import Row

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
_COMMAND = "Written by `make faults` (`python -m faults`) with torch {torch} and Python {python}."


def render(rows: Sequence[Row]) -> str:
    """What stands between the markers."""
    caught = [row for row in rows if row.fault.expected == "caught"]
    refused = [row for row in rows if row.fault.expected == "refused"]
    made = _COMMAND.format(
        torch=torch.__version__.partition("+")[0], python=platform.python_version()
    )
    score = f"**{_right(caught)} of {len(caught)} named faults are caught by `verify`.**"
    earlier = (
        f"{_right(refused)} of {len(refused)} more are refused before there is a result to verify, "
        "because a shape gives them away:"
    )
    parts = [made, score, table(caught, "caught by"), earlier, table(refused, "refused at")]
    return "\n\n".join(parts)


def replaced(document: str, text: str) -> str:
    """A document with other text between the markers."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"the document lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def table(rows: Iterable[Row], heading: str) -> str:
    """One line for each fault, area by area."""
    ordered: dict[str, list[Row]] = {}
    for row in rows:
        ordered.setdefault(row.fault.area, []).append(row)
    lines = [_line(["area", "fault", "shows on", heading]), _line(["---"] * 4)]
    for area, members in ordered.items():
        lines += [_line([area, r.fault.name, case(r.fault.case), told(r)]) for r in members]
    return "\n".join(lines)


def case(given: Case) -> str:
    """A model and how it is pruned, as short as can be."""
    options = [f"{name}={value}" for name, value in given.options.items()]
    options += [f"emit={given.emit}"] if given.emit != "graph" else []
    return f"{given.model} ({', '.join(options)})" if options else given.model


def told(row: Row) -> str:
    """Where a fault was noticed, and what was wrong there."""
    if not row.is_as_expected:
        return f"**{row.outcome}** {row.where}".strip()
    kinds = {"differs": "differs", "has shape": "has another shape", "yields": "yields others"}
    kind = next((text for key, text in kinds.items() if key in row.why), "fails")
    return f"`{row.where}` {kind}" if row.outcome == "caught" else f"`{row.where}`"


def _right(rows: Iterable[Row]) -> int:
    return sum(row.is_as_expected for row in rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
