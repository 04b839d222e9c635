"""What printing a report shows: layers before and after, the cost, and how it was verified."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

import fxprune
from fxprune.comparison import Verification
from fxprune.layers import Change, Layer, layers_of
from fxprune.report_page import costs_of, layer_table
from fxprune.tables import Page
from models_zoo import ZOO


def shrunk(model: nn.Module, x: torch.Tensor) -> fxprune.ShrinkReport:
    plan = fxprune.plan(model, x, ratio=0.5)
    report: fxprune.ShrinkReport = fxprune.shrink(model, plan, x, verify=False).meta["fxprune"]
    return report


def layer(name: str, taken: int, given: int, kind: str = "Linear", macs: int = 8) -> Layer:
    sizes = [Change(n, n // 2) for n in (taken, given, taken * given, macs * given)]
    return Layer(name, kind, *sizes)


def rows(layers: list[Layer], *, full: bool = False) -> list[list[str]]:
    """The cells of all rows but the total."""
    return [line.split() for line in str(Page.of(layer_table(layers, full=full))).split("\n")[2:-2]]


def test_a_report_tells_widths_parameters_and_macs_of_every_layer() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    lines = [line.split() for line in str(shrunk(model, torch.randn(1, 5))).split("\n")]
    assert ["0", "5", "8", "->", "4", "48", "->", "24", "40", "->", "20"] in lines
    assert ["2", "8", "->", "4", "2", "18", "->", "10", "16", "->", "8"] in lines
    assert ["all", "2", "66", "->", "34", "56", "->", "28"] in lines
    assert ["parameters", "66", "34", "51.5%"] in lines


def test_layers_that_are_alike_are_one_row_with_what_all_have() -> None:
    found = rows([layer("a.0", 4, 8), layer("a.1", 4, 8), layer("b", 4, 6)])
    assert [" ".join(cells) for cells in found] == [
        "a.{0,1} x2 4 -> 2 8 -> 4 64 -> 32 128 -> 64",
        "b 4 -> 2 6 -> 3 24 -> 12 48 -> 24",
    ]


def test_in_full_every_layer_has_a_row_with_its_kind() -> None:
    found = rows([layer("a.0", 4, 8), layer("a.1", 4, 8)], full=True)
    assert [cells[:2] for cells in found] == [["a.0", "Linear"], ["a.1", "Linear"]]


def test_norms_are_told_together_and_one_by_one_in_full() -> None:
    layers = [layer("a", 4, 8), *(layer(f"n{k}", 8, 8, "LayerNorm", macs=0) for k in range(3))]
    assert rows(layers)[-1] == ["LayerNorm", "x3", "192", "->", "96"]
    assert [cells[0] for cells in rows(layers, full=True)] == ["a", "n0", "n1", "n2"]


def test_a_norm_that_multiplies_is_no_mere_norm() -> None:
    assert rows([layer("n0", 8, 8, "NormedLinear")])[0][0] == "n0"


def test_too_many_rows_are_folded_with_the_widths_that_they_take_as_a_range() -> None:
    few = [layer(f"dense.{k}", 4 + k, 8) for k in range(20)]
    assert len(rows(few)) == 20
    many = [layer(f"dense.{k}", 4 + k, 8) for k in range(40)]
    ((name, count, before, _, after, *_),) = rows(many)
    assert (name, count, before, after) == ("dense.{0-39}", "x40", "4-43", "2-21")
    assert len(rows(many, full=True)) == 40


def test_layers_of_other_widths_or_kinds_are_not_folded_however_many_there_are() -> None:
    many = [layer(f"dense.{k}", 4, 8 + k) for k in range(40)]
    assert len(rows(many)) == 40
    mixed = [layer(f"d.{k}", 4 + k, 8, "Linear" if k < 20 else "Conv1d") for k in range(40)]
    assert [cells[0] for cells in rows(mixed)] == ["d.{0-19}", "d.{20-39}"]


def test_heads_are_told_beside_the_layers_and_other_groups_in_full() -> None:
    model = ZOO["qkv_fused"]
    report = shrunk(model.build().eval(), model.example_inputs()[0])
    other = {name: group for name, group in report.groups.items() if group.kind != "channels"}
    assert any(group.removed for group in other.values())
    for text, is_full in ((str(report), False), (report.text(full=True), True)):
        told = {line.split()[0] for line in text.split("\n") if " heads " in line}
        assert told
        channels = [line for line in text.split("\n") if " channels  " in line]
        assert bool(channels) == is_full


def test_a_report_without_layers_tells_the_widths_of_groups() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    report = replace(shrunk(model, torch.randn(1, 5)), layers=())
    lines = [line.split() for line in str(report).split("\n")]
    assert ["0", "channels", "8", "->", "4", "50.0%"] in lines


def test_the_costs_of_layers_are_those_of_the_report() -> None:
    for name in ("bottleneck_grouped", "channel_shuffle", "dense_concat"):
        model = ZOO[name]
        deps = fxprune.analyze(model.build().eval(), model.example_inputs())
        plan = fxprune.plan(deps, ratio=0.5)
        report = fxprune.shrink(deps.model, plan, verify=False).meta["fxprune"]
        found = costs_of(layers_of(deps, plan))
        assert found["parameters"] == Change(report.before.parameters, report.after.parameters)
        assert found["MACs"] == Change(report.before.macs, report.after.macs)


PROOF = Verification(
    nodes=12,
    inputs=("example", "all negative"),
    skipped={"another batch": "the graph was captured for one size"},
    shapes=7,
    undisturbed=6,
    gradients=5,
    absolute=2e-14,
    relative=1e-15,
    where="conv2",
    tolerance=1e-9,
    why="float64 has 53 bits",
    dtype="float64",
    seconds=1.5,
)


def test_a_verification_prints_as_aligned_lines() -> None:
    head, *told = str(PROOF).split("\n")
    assert head == "verified: 12 values, every node; 1.50 s"
    error = "worst relative error 1.0e-15 (absolute 2.0e-14) at conv2, tolerance 1e-09 in float64"
    assert told == [
        "  inputs    example, all negative",
        f"  error     {error}",
        "  also      7 shapes, 6 values undisturbed by removed channels, 5 gradients",
        "  left out  another batch",
    ]


def test_a_verification_in_full_tells_why() -> None:
    text = PROOF.text(full=True)
    assert "  tolerance  float64 has 53 bits" in text
    assert "  left out   another batch: the graph was captured for one size" in text


def test_what_rounding_explains_is_told() -> None:
    text = " ".join(str(replace(PROOF, rounded=3, noise=1e-8)).split())
    assert "(exceeded 3 times by rounding: the last bits of its weights change the original" in text


class Borrowed(nn.Module):
    """A linear layer whose weights another module multiplies with, as windows of an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.inner = nn.Linear(6, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.linear(self.stem(x), self.inner.weight, self.inner.bias)
        out: torch.Tensor = self.head(x.relu())
        return out


def test_widths_of_a_linear_layer_are_told_however_it_is_called() -> None:
    x = torch.randn(3, 7, 4)
    exported = torch.export.export(Borrowed().eval(), (x,))
    for model in (Borrowed().eval(), exported):
        deps = fxprune.analyze(model, x)
        found = {layer.name: layer for layer in layers_of(deps, fxprune.plan(deps, ratio=0.5))}
        assert found["stem"].width_out == Change(6, 3)
        (product,) = (layer for layer in found.values() if layer.kind == "linear")
        for layer in (product, *([] if model is exported else [found["inner"]])):
            assert (layer.width_in, layer.width_out) == (Change(6, 3), Change(8, 4))
    assert found["inner"].width_out is None  # of an exported module no class tells which axis it is
