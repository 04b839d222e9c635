"""Folding is exact: the patterns together are just the names, whatever these are."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fxprune.repeats import Pattern, folded, patterns, template

PIECES = st.sampled_from(
    (
        "layer",
        ".",
        "conv",
        "[heads]",
        "#",
        "[0]",
        "007",
        "{",
        "}",
        ",",
        "-",
        "",
        "0",
        "1",
        "2",
        "10",
    )
)
WILD = st.lists(PIECES, max_size=7).map("".join)
INDICES = st.integers(0, 4)
NAMES = st.one_of(st.builds("layer{}.{}.conv{}".format, INDICES, INDICES, INDICES), WILD)
ROWS = st.lists(st.tuples(NAMES, st.sampled_from("ab")), max_size=40)


def shown(*names: str) -> list[str]:
    return [str(pattern) for pattern in patterns(names)]


@given(ROWS)
def test_expanding_the_patterns_gives_back_exactly_the_names(rows: list[tuple[str, str]]) -> None:
    found = folded(rows, lambda row: row[0], lambda row: row[1])
    expanded = [(name, alike[0][1]) for pattern, alike in found for name in pattern.names()]
    assert Counter(expanded) == Counter(rows)


@given(ROWS)
def test_a_pattern_comes_with_its_own_rows_in_their_order(rows: list[tuple[str, str]]) -> None:
    for pattern, alike in folded(rows, lambda row: row[0], lambda row: row[1]):
        assert len(pattern) == len(alike)
        assert Counter(pattern.names()) == Counter(name for name, _ in alike)
        assert len({key for _, key in alike}) == 1


@given(ROWS)
def test_patterns_stand_in_the_order_of_their_first_rows(rows: list[tuple[str, str]]) -> None:
    numbered = list(enumerate(rows))
    found = folded(numbered, lambda row: row[1][0], lambda row: row[1][1])
    firsts = [alike[0][0] for _, alike in found]
    assert firsts == sorted(firsts)
    assert all(alike == sorted(alike) for _, alike in found)


@given(st.lists(NAMES, unique=True, min_size=1))
def test_no_two_patterns_are_written_alike(names: list[str]) -> None:
    texts = shown(*names)
    assert len(set(texts)) == len(texts)


def test_blocks_and_their_layers_become_one_row() -> None:
    names = [f"layer1.{block}.conv{conv}" for block in range(3) for conv in (1, 2)]
    assert shown(*names) == ["layer1.{0-2}.conv{1,2}"]


def test_the_odd_one_keeps_its_own_row_in_its_place() -> None:
    rows = [(f"layer1.{block}.conv1", 64 if block else 32) for block in range(4)]
    found = folded(rows, lambda row: row[0], lambda row: row[1])
    assert [str(pattern) for pattern, _ in found] == ["layer1.0.conv1", "layer1.{1-3}.conv1"]


def test_what_makes_no_rectangle_becomes_several_rows() -> None:
    assert shown("a0.b0", "a0.b1", "a1.b0") == ["a0.b{0,1}", "a1.b0"]


def test_the_way_of_folding_that_leaves_fewer_rows_is_taken() -> None:
    assert shown("a0.b0", "a1.b0", "a1.b1", "a2.b1") == ["a{0,1}.b0", "a{1,2}.b1"]


def test_runs_of_three_are_ranges_and_others_are_listed() -> None:
    assert shown("a1", "a2") == ["a{1,2}"]
    assert shown("a9", "a10", "a11", "a7") == ["a{7,9-11}"]


def test_every_second_one_is_told_by_its_ends() -> None:
    assert shown(*(f"a{k}" for k in range(0, 31, 2))) == ["a{0,2,...,30}"]
    assert shown("a1", "a3", "a5", "a9") == ["a{1,3,5,9}"]
    assert shown("a1", "a3", "a5") == ["a{1,3,5}"]


def test_axes_and_numbers_with_zeros_before_them_are_no_indices() -> None:
    assert shown("w[0]", "w[1]") == ["w[0]", "w[1]"]
    assert shown("b01", "b02") == ["b01", "b02"]


def test_names_with_braces_stand_for_themselves() -> None:
    assert shown("a{0}", "a{1}") == ["a{0}", "a{1}"]


def test_the_name_of_an_instance_is_an_index_too() -> None:
    assert shown("qkv.weight#0", "qkv.weight#1") == ["qkv.weight#{0,1}"]


def test_a_name_that_comes_twice_is_in_two_patterns() -> None:
    assert shown("a0", "a1", "a0") == ["a{0,1}", "a0"]


def test_names_of_any_length_fold_in_no_time() -> None:
    names = ["1." * 30_000 + str(end) for end in range(3)] + ["9" * 5000, "9" * 4999 + "8"]
    assert shown(*names) == names


def test_a_pattern_lists_its_names_with_the_last_index_changing_first() -> None:
    pattern = Pattern(("a", ".b", ""), ((0, 1), (3, 5)))
    assert list(pattern.names()) == ["a0.b3", "a0.b5", "a1.b3", "a1.b5"]
    assert str(pattern) == "a{0,1}.b{3,5}"
    assert len(pattern) == 4


def test_a_template_is_what_indices_leave_of_a_name() -> None:
    assert template("layer1.0.conv1") == template("layer4.12.conv3")
    assert template("layer1.0.conv1") != template("layer1.0.bn1")
