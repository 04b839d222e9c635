"""A report as Markdown: the same figures, short enough for a comment, and no markup of others."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fxprune import Diagnostic, ShrinkReport
from fxprune.errors import Location
from fxprune.layers import Change, Layer
from fxprune.planning import GroupPlan
from tests.reports.samples import LATENCY, candidates, report, sensitivity

_CELL = re.compile(r"(?<!\\)\|")
HOSTILE = (
    "a|b`c`` <img src=x> @someone #1 **bold** [x](http://a.b) \\| ~~no~~ _i_ $x$ &amp; \n\n# T"
)


def tables(text: str) -> list[list[list[str]]]:
    """The fields of every table, as a renderer divides them; each row has as many as the first."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        found[-1].append([cell.strip() for cell in _CELL.split(line)[1:-1]])
    for table in found:
        assert all(len(row) == len(table[0]) for row in table)
        assert all(re.fullmatch(r"--[-:]", cell) for cell in table[1])
    return found


def table_of(text: str, title: str) -> list[list[str]]:
    return next(rows[2:] for rows in tables(text) if rows[0][0] == title)


def full_text(found: ShrinkReport | None = None) -> str:
    return (found or report()).to_markdown(
        title="Small",
        command="fxprune report zoo:small",
        sensitivity=sensitivity(),
        candidates=candidates(),
        latency=LATENCY,
    )


def hostile(text: str = HOSTILE, count: int = 3) -> ShrinkReport:
    diagnostic = Diagnostic(text, Location(text, text, text), text)
    change = Change(4, 2)
    layer = Layer(text, text, change, change, change, change, (text,), diagnostic)
    proof = report().verification
    assert proof is not None
    return replace(
        report(),
        layers=(layer,) * count,
        groups={f"{text}{k}": GroupPlan(4, text, (1, 2)) for k in range(count)},
        diagnostics=(diagnostic,) * count,
        renormalized=(diagnostic,) * count,
        unsavable=(diagnostic,) * count,
        verification=replace(proof, where=text, skipped={f"{text}{k}": text for k in range(count)}),
        inputs={f"{text}{k}": text for k in range(count)},
        dropped=(text,) * count,
    )


def test_figures_are_those_of_the_report() -> None:
    text, told = full_text(), report()
    rows = table_of(text, "layer")
    assert [row[0] for row in rows] == [f"`{layer.name}`" for layer in told.layers]
    for row, layer in zip(rows, told.layers, strict=True):
        change = layer.parameters
        shown = f"{change.before:,} → {change.after:,}"
        assert row[4] == (f"**{shown}**" if change.changed else f"{change.before:,}")
    assert [row[0] for row in table_of(text, "group")] == [f"`{name}`" for name in told.groups]
    before, after = told.before.macs, told.after.macs
    assert f"**{before:,} → {after:,}**" in text
    assert [row[0] for row in table_of(text, "plan")] == [
        f"`{each.name}`" for each in candidates().candidates
    ]
    assert table_of(text, "model")[2][3] == "it cannot be compiled"


def test_a_bar_tells_the_share_that_is_left() -> None:
    layers = (
        Layer("a", "Linear", None, None, Change(100, 25), Change(100, 96)),
        Layer("b", "Linear", None, None, Change(100, 0), Change(0, 0)),
    )
    rows = table_of(replace(report(), layers=layers).to_markdown(), "layer")
    assert rows[0][5] == "███░░░░░░░ 25.0%"
    assert rows[0][7] == "██████████ 96.0%"
    assert rows[1][5] == "░░░░░░░░░░ 0.0%"
    assert rows[1][7] == ""


def test_the_same_report_gives_the_same_text() -> None:
    assert full_text() == full_text()


def test_a_page_has_no_images() -> None:
    assert "<svg" not in full_text()
    assert "The plot is left out" not in full_text()


def test_every_folded_part_is_closed_and_has_a_blank_line_before_its_table() -> None:
    text = full_text()
    assert text.count("<details>") == text.count("</details>") > 0
    for match in re.finditer(r"<summary>.*?</summary>\n(.*)\n", text):
        assert match[1] == ""


def test_texts_of_others_are_no_markup_mentions_or_links() -> None:
    text = hostile().to_markdown(title=HOSTILE, command=HOSTILE)
    tables(text)
    assert "<img" not in text
    plain = re.sub(r"`[^`\n]*`|<code>.*?</code>", "", text)
    for mark in ("@", "#1"):
        assert re.search(rf"(?<!<!-- -->){mark}", plain) is None
    assert "://" not in plain.replace(":<!-- -->//", "")
    for mark in "*_~[]$":
        assert not re.search(rf"(?<!\\)\{mark}", plain.replace("**", "").replace("\\\\", ""))


def test_names_are_shown_as_they_are() -> None:
    rows = table_of(hostile("a`b|c").to_markdown(), "layer")
    assert rows[0][0] == "<code>a&#96;b&#124;c</code>"
    rows = table_of(hostile("a_b*c").to_markdown(), "layer")
    assert rows[0][0] == "`a_b*c`"
    assert rows[0][1] == "a\\_b\\*c"


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("layer", 20_000),
        ("n" * 5_000, 50),
        ("n" * 200_000, 3),
        ("|`@" * 300, 400),
        ("😀é" * 99, 300),
    ],
    ids=["rows", "names", "giants", "markup", "unicode"],
)
def test_a_comment_is_always_short_enough_and_tells_what_was_cut(name: str, count: int) -> None:
    text = hostile(name, count).to_markdown(title=name, command=name)
    assert len(text.encode()) < 65_536
    tables(text)
    assert text.count("<details>") == text.count("</details>")
    if count > 3:
        assert f"of {count:,} rows are left out here, because a comment holds" in text
    assert "### How it was made" in text


def test_what_fits_is_not_cut() -> None:
    assert "left out here" not in full_text()


def test_a_result_that_was_not_verified_says_so() -> None:
    text = replace(report(), verification=None).to_markdown()
    assert "**This result was NOT verified.**" in text
    assert "❌ **not verified**" in text


def test_it_is_written_to_a_file(tmp_path: Path) -> None:
    text = report().to_markdown(tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text("utf-8") == text
