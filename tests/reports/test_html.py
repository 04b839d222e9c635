"""A report as HTML: its figures are those of the data, and nothing in it does anything."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import fxprune
from fxprune import Diagnostic, FxPruneError, PlanError, ShrinkReport
from fxprune.errors import Location
from fxprune.layers import Change, Layer
from fxprune.planning import GroupPlan
from fxprune.reports import plan_digest
from fxprune.reports.charts import curves_figure, front_figure
from tests.reports.reading import Parsed
from tests.reports.samples import LATENCY, X, candidates, model, plan, report, sensitivity

HOSTILE = "<script>alert(1)</script>&\"'|`\x1b[2J"


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)


def full_page(found: ShrinkReport | None = None) -> str:
    return (found or report()).to_html(
        title="Small",
        command="fxprune report zoo:small",
        sensitivity=sensitivity(),
        candidates=candidates(),
        latency=LATENCY,
    )


def hostile() -> ShrinkReport:
    diagnostic = Diagnostic(HOSTILE, Location(HOSTILE, HOSTILE, HOSTILE), HOSTILE)
    change = Change(4, 2)
    layer = Layer(HOSTILE, HOSTILE, change, change, change, change, (HOSTILE,), diagnostic)
    proof = report().verification
    assert proof is not None
    return replace(
        report(),
        layers=(layer,) * 3,
        groups={HOSTILE: GroupPlan(4, HOSTILE, (1, 2))},
        diagnostics=(diagnostic,),
        renormalized=(diagnostic,),
        unsavable=(diagnostic,),
        verification=replace(proof, where=HOSTILE, skipped={HOSTILE: HOSTILE}),
        inputs={HOSTILE: HOSTILE},
        dropped=(HOSTILE,),
    )


def test_costs_and_layers_are_those_of_the_report() -> None:
    page, told = Parsed.of(report().to_html()), report()
    before, after = told.before, told.after
    assert page.values("costs", 1) == [
        (before.parameters, after.parameters),
        (before.macs, after.macs),
        (before.bytes, after.bytes),
    ]
    assert page.texts("layers", 0) == [layer.name for layer in told.layers]
    assert page.texts("layers", 1) == [layer.kind for layer in told.layers]
    columns = {2: "width_in", 3: "width_out", 4: "parameters", 6: "macs"}
    for column, name in columns.items():
        wanted = [getattr(layer, name) for layer in told.layers]
        assert page.values("layers", column) == [(c.before, c.after) for c in wanted]
    assert page.texts("layers", 2)[1] == "8 → 4"


def test_groups_and_verification_are_those_of_the_report() -> None:
    proof = report().verification
    assert proof is not None
    skipping = replace(proof, skipped={"another size": "forward refuses it"})
    told = replace(report(), verification=skipping)
    page = Parsed.of(told.to_html())
    assert page.texts("groups", 0) == list(told.groups)
    assert page.values("groups", 2) == [(g.size, g.width) for g in told.groups.values()]
    rows = {row[0].text: row[1] for row in page.tables["verification"]}
    assert rows["worst relative error"].values == (proof.relative,)
    assert rows["tolerance"].values == (proof.tolerance,)
    assert rows["values compared (every node)"].values == (proof.nodes,)
    assert rows["shapes as the labels predict"].values == (proof.shapes,)
    assert rows["gradients that agree"].values == (proof.gradients,)
    assert rows["inputs"].text == ", ".join(proof.inputs)
    assert page.texts("skipped", 0) == ["another size"]
    assert page.texts("skipped", 1) == ["forward refuses it"]


def test_pins_and_statistics_are_told_with_their_places() -> None:
    page, told = Parsed.of(report().to_html()), report()
    assert told.renormalized
    assert page.texts("renormalized", 0) == [d.what for d in told.renormalized]
    assert page.texts("renormalized", 1) == [str(d.where) for d in told.renormalized]
    hinted = replace(told, diagnostics=(Diagnostic("stays", Location("node"), "do that"),))
    page = Parsed.of(hinted.to_html())
    assert [field.text for field in page.tables["diagnostics"][0]] == [
        "stays",
        "node node",
        "do that",
    ]
    assert "outputs stay: input x of the model" in page.texts("layers", 8)
    assert 'constants="drop"' in page.texts("meaning", 0)


def test_the_page_tells_how_it_was_made() -> None:
    page = Parsed.of(full_page())
    rows = {row[0].text: row[1].text for row in page.tables["origin"]}
    assert rows["command"] == "fxprune report zoo:small"
    assert rows["fxprune"] == fxprune.__version__
    assert rows["torch"] == torch.__version__
    assert rows["captured by"] == "symbolic_trace"
    assert rows["plan"] == plan_digest(plan())
    assert rows["structure of the original (SHA-256)"] == plan().digest
    assert dict(zip(page.texts("made", 0), page.texts("made", 1), strict=True))["ratio"] == "0.5"


def test_a_sensitivity_is_told_point_by_point() -> None:
    page, told = Parsed.of(full_page()), sensitivity()
    assert page.texts("sensitivity", 0) == list(told.curves)
    for column, ratio in enumerate(told.ratios, 3):
        assert page.values("sensitivity", column) == [(row[ratio],) for row in told.values.values()]
    assert page.texts("sensitivity", 2) == ["50%"] * len(told.curves)


def test_candidates_are_told_with_the_front_and_the_plan_of_the_report() -> None:
    page, told = Parsed.of(full_page()), candidates()
    assert page.texts("candidates", 0) == [each.name for each in told.candidates]
    assert page.values("candidates", 1) == [(each.parameters,) for each in told.candidates]
    assert page.values("candidates", 2) == [(each.macs,) for each in told.candidates]
    assert page.values("candidates", 3) == [(each.value,) for each in told.candidates]
    chosen = [text.startswith("this plan") for text in page.texts("candidates", 4)]
    assert chosen == [each.name == "half" for each in told.candidates]
    for cost in ("MACs", "parameters"):
        front = {each.name for each in told.front("macs" if cost == "MACs" else "parameters")}
        rows = page.tables["candidates"]
        assert {row[0].text for row in rows if cost in row[4].text} == front
    tile = next(tile for tile in page.tiles if tile.text.startswith("Mean error"))
    assert tile.values == (told.candidates[2].value,)


def test_latencies_are_told_and_so_is_what_failed() -> None:
    page = Parsed.of(full_page())
    spreads = [each.milliseconds for each in LATENCY.measurements]
    wanted = [(s.median, s.low, s.high) if s else () for s in spreads]
    assert page.values("latency", 2) == wanted
    assert page.texts("latency", 3)[2] == "it cannot be compiled"
    assert page.values("latency", 4)[:2] == [(300 << 20,), (200 << 20,)]
    assert any(tile.text.startswith("Latency0.50x") for tile in page.tiles)


def test_the_same_report_gives_the_same_bytes() -> None:
    pytest.importorskip("matplotlib")
    assert full_page() == full_page()
    assert "date>" not in full_page()


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    pytest.importorskip("matplotlib")
    text = full_page()
    page = Parsed.of(text)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "image", "base"})
    assert "@import" not in text
    assert "@font-face" not in text
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name.endswith(("href", "src")):
            assert value.startswith("#")
        assert "url(" not in value.replace("url(#", "")


def test_identifiers_are_unique_and_links_lead_to_them() -> None:
    pytest.importorskip("matplotlib")
    page = Parsed.of(full_page())
    assert len(set(page.ids)) == len(page.ids)
    for name, value in page.attributes:
        if name.endswith("href"):
            assert value.removeprefix("#") in page.ids
    assert page.sections == [value[1:] for name, value in page.attributes if name == "href"]


def test_plots_take_the_colour_of_the_text() -> None:
    pytest.importorskip("matplotlib")
    text = full_page()
    assert text.count("<svg") == 3
    assert "currentColor" in text
    assert "#010203" not in text


def test_names_that_are_cut_alike_have_each_their_own_place_in_a_plot() -> None:
    ends = ("a" * 30, "b" * 30)
    made = candidates()
    names = [middle.join(ends) for middle in ("/x/", "/y/")]
    alike = [replace(c, name=name) for c, name in zip(made.candidates[:2], names, strict=True)]
    front = front_figure(replace(made, candidates=tuple(alike)))
    assert [len(axes.texts) for axes in front.axes] == [2, 2]
    found = sensitivity()
    curves = dict(zip(names, found.curves.values(), strict=True))
    legend = curves_figure(replace(found, curves=curves)).axes[0].get_legend()
    assert legend is not None
    colours = [line.get_color() for line in legend.get_lines()]
    assert len(set(colours)) == len(colours) == 2


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_the_page_has_all_figures_and_says_what_is_left_out() -> None:
    page = Parsed.of(full_page())
    assert "svg" not in page.tags
    assert page.text.count("The plot is left out: matplotlib cannot be imported") == 3
    assert 'pip install "fxprune[plot]"' in page.text
    assert {"sensitivity", "candidates", "latency"} <= page.tables.keys()


@pytest.mark.parametrize("plots", [True, False])
def test_texts_of_others_are_no_markup(plots: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not plots:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    curves = replace(
        sensitivity(),
        curves={HOSTILE: next(iter(sensitivity().curves.values()))},
        digest=plan().digest,
    )
    first = replace(candidates().candidates[0], name=HOSTILE)
    offered = replace(candidates(), metric=HOSTILE, candidates=(first,))
    measured = replace(LATENCY, measurements=(replace(LATENCY.measurements[0], name=HOSTILE),))
    found = replace(hostile(), dropped=(), groups={HOSTILE: GroupPlan(8, "channels", (1,))})
    text = found.to_html(
        title=HOSTILE, command=HOSTILE, sensitivity=curves, candidates=offered, latency=measured
    )
    page = Parsed.of(text)
    assert "script" not in page.tags
    assert "\x1b" not in text
    shown = HOSTILE.replace("\x1b", "\\x1b")
    assert page.texts("layers", 0) == [shown] * 3
    assert page.texts("groups", 0) == [shown]
    assert page.tables["latency"][0][0].text == shown
    assert Parsed.of(hostile().to_html()).texts("dropped", 0) == [shown]


def test_a_result_that_was_not_verified_says_so() -> None:
    page = Parsed.of(replace(report(), verification=None).to_html())
    assert "NOT verified" in page.text
    assert "Verificationnot verified" in page.tiles[-1].text
    assert "verification" not in page.tables


def test_dropped_blocks_are_told_with_what_they_cost() -> None:
    residual = nn.Sequential(nn.Linear(4, 4), Residual(), nn.Linear(4, 2)).eval()
    found = fxprune.plan(residual, torch.ones(1, 4), drop=["1"])
    small = fxprune.shrink(residual, found, torch.ones(1, 4))
    page = Parsed.of(small.meta["fxprune"].to_html())
    assert [field.text for field in page.tables["dropped"][0]][:2] == ["1", "Residual"]
    assert page.tables["dropped"][0][2].values == (20,)
    assert page.tables["dropped"][0][3].values == (16,)
    assert "dropped whole" in page.texts("layers", 8)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.inner(x)
        return out


def test_a_plan_that_removes_nothing_says_so() -> None:
    small = fxprune.shrink(model(), fxprune.plan(model(), X.double(), ratio=0.0), X.double())
    page = Parsed.of(small.meta["fxprune"].to_html())
    assert "Nothing was removed" in page.text


def test_a_module_has_a_page_too() -> None:
    small = fxprune.shrink(model(), plan(), X.double(), emit="module")
    told = vars(small)["meta"]["fxprune"]
    page = Parsed.of(told.to_html())
    assert page.values("costs", 1)[0] == (told.before.parameters, told.after.parameters)
    rows = {row[0].text: row[1].text for row in page.tables["origin"]}
    assert rows["emitted as"] == "module"


def test_long_tables_are_folded_away_behind_a_table_of_modules() -> None:
    change = Change(10, 5)
    names = [f"blocks.{k}.{part}" for k in range(20) for part in ("a", "b")]
    layers = tuple(Layer(name, "Linear", change, change, change, change) for name in names)
    page = Parsed.of(replace(report(), layers=layers).to_html())
    assert "details" in page.tags
    assert page.texts("modules", 0) == [f"blocks.{k}" for k in range(20)]
    assert page.values("modules", 1) == [(20, 10)] * 20
    assert page.texts("layers", 0) == names


def test_a_sensitivity_of_another_model_is_refused() -> None:
    other = replace(sensitivity(), digest="0" * 64)
    with pytest.raises(PlanError, match="the sensitivity belongs to another model"):
        report().to_html(sensitivity=other)
    curves = {name: replace(curve, size=99) for name, curve in sensitivity().curves.items()}
    with pytest.raises(PlanError, match="99 channels there"):
        report().to_html(sensitivity=replace(sensitivity(), curves=curves))


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert path.write_text("old")
    text = report().to_html(path)
    assert path.read_bytes() == text.encode()
    with pytest.raises(FxPruneError, match="cannot be written"):
        report().to_html(tmp_path / "absent" / "report.html")
    assert list(_names(tmp_path)) == ["report.html"]


def _names(folder: Path) -> Iterator[str]:
    return (path.name for path in folder.iterdir())
