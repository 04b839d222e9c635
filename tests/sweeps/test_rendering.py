"""The document shows every row, whatever is missing in it."""

from __future__ import annotations

from sweeps.rendering import outcome, render, table, totals
from sweeps.rows import Row

SHRUNK = Row(
    "timm",
    "images",
    "resnet/test_resnet",
    "shrunk",
    parameters=1000,
    captured="symbolic_trace",
    prunable=0.998,
    cut=0.5,
    error=2e-16,
    dtype="float64",
    emit="graph",
    seconds=1.25,
)
UNTOUCHED = Row("timm", "images", "odd/odd_net", "shrunk", cut=0.0)
REFUSED = Row(
    "transformers",
    "decoders",
    "llama",
    "refused",
    stage="analyze",
    seconds=0.1,
    reason="CaptureError: a | b\nin <module>",
)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_shrunk_model_shows_all_its_figures() -> None:
    assert table([SHRUNK]).splitlines()[2] == (
        "| resnet/test_resnet | images | symbolic_trace | 99.8% | 50.0% | 2e-16 float64 | graph "
        "| 1.2 | shrunk |"
    )


def test_a_refused_model_shows_where_and_why_on_one_line() -> None:
    line = table([REFUSED]).splitlines()[2]
    assert line.startswith("| llama | decoders | - | - | - | - | - | 0.1 | ")
    assert line.endswith("| refused in analyze: CaptureError: a \\| b in &lt;module> |")


def test_a_long_reason_is_cut() -> None:
    row = Row("timm", "images", "net", "crashed", reason="x" * 1000)
    assert outcome(row) == f"crashed: {'x' * 300}…"


def test_totals_count_outcomes_and_tell_who_lost_too_little() -> None:
    lines = totals([SHRUNK, UNTOUCHED, REFUSED]).splitlines()
    assert cells(lines[0])[:6] == ["library", "family", "models", "shrunk", "cut >= 15%", "refused"]
    assert cells(lines[2])[:6] == ["timm", "images", "2", "2", "1", "0"]
    assert cells(lines[3])[:4] == ["timm", "all", "**2**", "**2**"]
    assert cells(lines[4])[:6] == ["transformers", "decoders", "1", "0", "0", "1"]


def test_every_line_of_a_table_has_the_same_number_of_cells() -> None:
    for text in (table([SHRUNK, REFUSED]), totals([SHRUNK, REFUSED])):
        lines = text.replace("\\|", "").splitlines()
        assert len({line.count("|") for line in lines}) == 1


def test_the_document_tells_how_it_was_made_and_has_a_table_for_each_library() -> None:
    document = render([SHRUNK, REFUSED], timeout=300)
    headings = [line for line in document.splitlines() if line.startswith("#")]
    assert headings == ["# Coverage", "## Totals", "## timm", "## transformers"]
    assert "`make sweep`" in document
    assert "300 s" in document
    assert document.endswith("|\n")
