"""A sensitivity as data: JSON both ways, a table, a plot; what a file of anyone may hold."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fxprune import FxPruneError, InputError, Sensitivity
from fxprune.planning.sensitivity_data import Curve, Point


def curve(*values: float | None, size: int = 8) -> Curve:
    points = tuple(Point((i + 1) / 4, 2 * (i + 1), v, f"{i}") for i, v in enumerate(values))
    return Curve(size, "channels", points)


FOUND = Sensitivity(
    baseline=0.9,
    mode="max",
    curves={"conv": curve(0.875, 0.5, 0.1), "attn[heads]": curve(0.95, None)},
    digest="d" * 64,
    weights="w" * 64,
    made={"criterion": "l2", "reduction": "sum", "seed": 0},
)


def test_json_goes_both_ways_and_is_stable(tmp_path: Path) -> None:
    assert Sensitivity.from_json(FOUND.to_json()) == FOUND
    FOUND.save(tmp_path / "curves.json")
    assert Sensitivity.load(tmp_path / "curves.json") == FOUND
    assert Sensitivity.of(tmp_path / "curves.json") == FOUND
    assert Sensitivity.of(FOUND) is FOUND
    assert (tmp_path / "curves.json").read_text() == FOUND.to_json()
    assert sum('"points": [{' in line for line in FOUND.to_json().splitlines()) == 2


def test_drops_are_positive_where_the_model_is_worse() -> None:
    assert FOUND.drops["conv"][0.25] == pytest.approx(0.025)
    assert FOUND.drops["attn[heads]"][0.25] == pytest.approx(-0.05)
    loss = Sensitivity(1.0, "min", {"conv": curve(1.5, 0.5)}, "", "")
    assert loss.drops == {"conv": {0.25: 0.5, 0.5: -0.5}}


def test_the_table_has_a_row_for_each_group_and_a_column_for_each_ratio() -> None:
    assert str(FOUND).splitlines() == [
        "Sensitivity: 0.9 with all channels (higher is better)",
        "",
        " group          kind      size   0.25         0.5  0.75",
        "────────────────────────────────────────────────────────",
        " conv           channels     8  0.875         0.5   0.1",
        " attn[heads]    channels     8   0.95  not finite",
    ]


def test_groups_whose_values_read_the_same_are_one_row_unless_in_full() -> None:
    curves = {f"a.{k}": curve(0.5, 0.4) for k in range(3)} | {"a.3": curve(0.5)}
    found = Sensitivity(0.9, "max", curves, "", "")
    folded, full = (
        [line.split()[0] for line in text.splitlines()[4:]]
        for text in (str(found), found.text(full=True))
    )
    assert folded == ["a.{0-2}", "a.3"]
    assert full == list(curves)


def test_only_the_first_ratios_are_shown_unless_in_full() -> None:
    points = tuple(Point(k / 20, k, 0.5, "") for k in range(15))
    found = Sensitivity(0.9, "max", {"a": Curve(20, "channels", points)}, "", "")
    assert str(found).splitlines()[-1] == "- and 6 ratios more"
    assert len(found.text(full=True).splitlines()[-1].split()) == 3 + 15


def test_names_in_the_table_steer_no_terminal() -> None:
    found = Sensitivity(1.0, "min", {"a\x1b[2Jb": curve(1.5)}, "", "")
    assert "\x1b" not in str(found)


def edited(**changes: Any) -> str:
    return json.dumps({**json.loads(FOUND.to_json()), **changes})


def with_point(**changes: Any) -> str:
    point = {"ratio": 0.5, "removed": 4, "value": 0.5, "channels": "x", **changes}
    return edited(groups={"conv": {"size": 8, "kind": "channels", "points": [point]}})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not valid JSON"),
        (FOUND.to_json()[:-20], "not valid JSON"),
        ("[" * 10_000, "not valid JSON"),
        ("[]", "not a sensitivity"),
        (edited(format="fxprune plan"), "not a sensitivity"),
        (edited(version=2), "version 2 is not 1"),
        (edited(more=1), "'more' is not known"),
        (edited(mode="most"), "'most' is not a mode"),
        (edited(mode=["max"]), "is not a mode"),
        (edited(baseline="0.9"), "'0.9' is not"),
        (edited(baseline=True), "True is not"),
        (edited(baseline=None), "None is not"),
        (FOUND.to_json().replace("0.9,", "NaN,"), "NaN is no number"),
        (FOUND.to_json().replace("0.9,", "1e999,"), "1e999 is too large"),
        (FOUND.to_json().replace("0.9,", f"{'9' * 400},"), "is not an integer of 64 bits"),
        (edited(made={"criterion": [1]}), "is not a text, a number or null"),
        (edited(groups=[]), "is not an object"),
        (edited(groups={"conv": {"size": 0, "kind": "", "points": []}}), "number of channels"),
        (edited(groups={"conv": {"size": 8, "kind": 1, "points": []}}), "1 is not a string"),
        (edited(groups={"conv": {"size": 8, "kind": ""}}), "'points' is missing"),
        (with_point(ratio=1.0), "is not a ratio"),
        (with_point(ratio=-0.1), "is not a ratio"),
        (with_point(removed=9), "is not a number of channels up to 8"),
        (with_point(removed=2.0), "2.0 is not an integer"),
        (with_point(value="0.5"), "'0.5' is not"),
        (with_point(channels=3), "3 is not a string"),
        (with_point(more=3), "'more' is not known"),
        (FOUND.to_json().replace("0.25", "0.5"), "ratios in order, each once"),
        (FOUND.to_json().replace('"mode"', '"digest"'), "occurs twice"),
    ],
)
def test_what_is_no_sensitivity_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Sensitivity.from_json(text)


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (tmp_path / "text.json").write_text("{}")
    for name in ("missing.json", "bytes.json", "text.json", "."):
        with pytest.raises(InputError) as raised:
            Sensitivity.load(tmp_path / name)
        assert str(tmp_path) in str(raised.value)
    with pytest.raises(InputError, match="the sensitivity is a dict"):
        Sensitivity.of({})  # type: ignore[arg-type]  # as a user might


# -- the plot --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_a_plot_is_written_as_the_image_that_its_name_says(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"curves.{kind}"
    figure = FOUND.plot(path)
    start = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[kind]
    assert path.read_bytes().startswith(start)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["0.025", "0.4", "0.8", "-0.05", "not finite"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list(FOUND.curves)
    assert [path.name for path in tmp_path.iterdir()] == [f"curves.{kind}"]


def test_a_plot_takes_any_names_and_numbers() -> None:
    pytest.importorskip("matplotlib")
    same = Sensitivity(1.0, "min", {r"a$\frac{$": curve(1.0), "b": curve(None)}, "", "")
    same.plot().canvas.draw()  # type: ignore[no-untyped-call,unused-ignore]
    many = {f"g{i}": curve(0.5, 0.6, 0.7) for i in range(200)}
    assert not Sensitivity(1.0, "max", many, "", "").plot().axes[0].texts


def test_a_file_of_very_many_ratios_fills_no_memory() -> None:
    points = tuple(Point(k / 1000, 1, 0.5, "") for k in range(500))
    found = Sensitivity(1.0, "max", {"layer": Curve(8, "channels", points)}, "", "")
    assert found.text(full=True).endswith("and 300 ratios more")
    assert str(found).endswith("and 491 ratios more")
    assert len(str(found)) < 5000
    with pytest.raises(InputError, match="there are 500 ratios"):
        found.plot()


def test_a_plot_opens_no_window_and_leaves_no_figure_of_pyplot() -> None:
    pytest.importorskip("matplotlib")
    FOUND.plot()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_a_plot_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match=r"kind of an image(.|\n)*\.svg"):
        FOUND.plot(tmp_path / "curves.doc")
    with pytest.raises(FxPruneError, match="the folder does not exist"):
        FOUND.plot(tmp_path / "no" / "curves.svg")
    with pytest.raises(InputError, match="nothing to plot"):
        Sensitivity(1.0, "max", {}, "", "").plot()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r'pip install "fxprune\[plot\]"'):
        FOUND.plot()
    assert not list(tmp_path.iterdir())
