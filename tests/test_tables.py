"""Tables are plain text: aligned, of one width, and nothing in them steers a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fxprune.tables import WIDTH, Page, arrows, broken, entries, item, short, table

LONG = "encoder.layers.encoder_layer_{0-11}.self_attention.in_proj_weight[head_dims]"


def lines(*parts: object) -> list[str]:
    return str(Page.of(*parts)).split("\n")  # type: ignore[arg-type]


def test_numbers_stand_to_the_right_and_names_to_the_left() -> None:
    assert lines(table(("name", "n"), [("a", "1"), ("bcdef", "1,000")])) == [
        " name       n",
        "──────────────",
        " a          1",
        " bcdef  1,000",
    ]


def test_a_total_stands_below_a_rule() -> None:
    text = lines(table(("name", "n"), [("a", "1")], total=("all", "1")))
    assert text[-1].split() == ["all", "1"]
    assert set(text[-2]) == {"─"}


def test_no_line_ends_with_spaces() -> None:
    text = lines("a sentence", "", table(("name", "n"), [("a", "")]), item("x " * 99))
    assert all(line == line.rstrip() for line in text)


def test_a_long_name_is_broken_so_that_the_table_fits() -> None:
    made = table(("name", "kind", "n"), [(LONG, "head_dims", "9" * 20)], left=(0, 1))
    text = lines(made)
    assert max(map(len, text)) <= WIDTH
    assert len(text) > 3
    assert "".join(line.strip().partition("  ")[0] for line in text[2:]) == LONG


def test_a_name_is_whole_where_there_is_room() -> None:
    assert any(LONG in line for line in lines(table(("name", "n"), [(LONG, "1")])))


def test_what_cannot_be_broken_makes_the_lines_longer_and_is_not_cut() -> None:
    wide = "9" * 150
    assert any(wide in line for line in lines(table(("name", "n"), [("a", wide)])))


def test_brackets_are_no_markup() -> None:
    name = "attn[heads][bold red]"
    assert name in str(Page.of(name, table((name,), [(name,)]), item(name), entries({name: name})))
    assert str(Page.of(name, table((name,), [(name,)]), item(name))).count(name) == 4


@pytest.mark.parametrize("mark", ["\x1b[2J", "\r", "\x07", "\n"])
def test_nothing_in_a_cell_steers_a_terminal(mark: str) -> None:
    text = str(Page.of(table(("name", "n"), [(f"a{mark}b", "1")], total=(f"c{mark}d", ""))))
    assert len(text.split("\n")) == 5
    assert mark == "\n" or mark not in text


def test_an_item_goes_on_below_its_first_word() -> None:
    first, second, *_ = lines(item("word " * 40))
    assert first.startswith("- word")
    assert second.startswith("  word")


def test_a_page_in_an_item_is_indented_as_a_whole() -> None:
    inner = Page.of("head", entries({"a": "one", "bcd": "two"}))
    assert lines(item(inner)) == ["- head", "    a    one", "    bcd  two"]


def test_none_is_left_out_and_an_empty_text_is_an_empty_line() -> None:
    assert lines("a", None, "", "b") == ["a", "", "b"]


def test_a_terminal_shows_the_same_words_with_what_matters_less_dimmed() -> None:
    page = Page.of(table(("name", "n"), [("a", "1"), ("b", "2")], dim=[1]))
    buffer = io.StringIO()
    Console(file=buffer, force_terminal=True, color_system="standard", width=60).print(page)
    shown = {line.split()[0]: line for line in buffer.getvalue().split("\n") if line.split()}
    assert any("\x1b[2m" in line and "b" in line for line in shown.values())


@given(st.text("ab .[]{}#", max_size=80), st.integers(24, 40))
def test_breaking_a_text_keeps_all_but_spaces(text: str, width: int) -> None:
    found = broken(text, width)
    assert found.replace("\n", "").replace(" ", "") == text.replace(" ", "")
    assert all(len(line) <= width for line in found.split("\n"))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=9))
def test_arrows_stand_below_one_another(pairs: list[tuple[int, int]]) -> None:
    cells = arrows((str(before), str(after)) for before, after in pairs)
    assert len(set(map(len, cells))) <= 1
    assert len({cell.index("->") for cell in cells if "->" in cell}) <= 1
    for cell, (before, after) in zip(cells, pairs, strict=True):
        assert cell.split() == (
            [f"{before}"] if before == after else [f"{before}", "->", f"{after}"]
        )


@given(st.integers(0, 10**15))
def test_a_short_number_is_the_number_to_three_digits(number: int) -> None:
    text = short(number)
    units = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
    if text[-1] not in units:
        assert text == f"{number:,}"
        assert number < 10_000
        return
    value = float(text[:-1]) * units[text[-1]]
    assert abs(value - number) <= 0.00501 * number
    assert len(text.replace(".", "")) == 4


def test_a_text_is_a_text_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page.of("a sentence", table(["name"], [["conv1"]]))
    expected = str(page)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(page) == expected
