"""The names of repaired tensors go where a model goes, and no others are taken from a result."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import InputError, Plan, VerificationError
from fxprune.model_files import load_program, save_program
from fxprune.programs import export_module
from models_zoo import randomize

NOTE = "_fxprune_repaired"
# torch 2.13 warns of its own specs.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


def network() -> nn.Sequential:
    """The third and the fourth layer make and read the channels that are removed."""
    layers: tuple[nn.Module, ...] = (nn.Linear(6, 10), nn.LayerNorm(10), nn.Linear(10, 12))
    layers += (nn.ReLU(), nn.Linear(12, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    return randomize(nn.Sequential(*layers)).eval()


def data() -> list[Tensor]:
    return [torch.randn(50, 6, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]


def plan_of(model: nn.Module) -> Plan:
    return fxprune.plan(model, data()[0], channels={"2": range(5)})


def repaired(model: nn.Module, emit: Any = "graph") -> nn.Module:
    small: nn.Module = fxprune.shrink(model, plan_of(model), calibrate=data(), emit=emit)
    return small


def pickled(model: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


NAMES = ("4.weight", "4.bias", "5.weight", "5.bias")

# -- where they go --------------------------------------------------------------------------


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize("is_copy", [False, True])
def test_what_is_pickled_knows_its_repaired_tensors(emit: Any, *, is_copy: bool) -> None:
    """Also if it was copied before, and if it is cast since."""
    model = network()
    small = repaired(model, emit)
    again = pickled(copy.deepcopy(small) if is_copy else small)
    assert fxprune.verify(model, again, plan_of(model)).repaired == NAMES
    assert fxprune.verify(model, again.double().float(), plan_of(model)).repaired == NAMES


def test_a_report_counts_more_than_what_goes_into_files() -> None:
    """A report that says nothing of a repair is believed."""
    model = network()
    small = repaired(model)
    small.meta["fxprune"] = replace(small.meta["fxprune"], repaired=())
    with pytest.raises(VerificationError, match="differs from the original"):
        fxprune.verify(model, small, plan_of(model))


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_what_is_shrunk_again_without_a_repair_tells_of_none(emit: Any) -> None:
    """It is the smaller model, and not the one that was repaired before it."""
    small = repaired(network(), emit)
    plan = fxprune.plan(small, data()[0], ratio=0.5)
    smaller = fxprune.shrink(small, plan, emit=emit)
    for each in (smaller, copy.deepcopy(smaller), pickled(smaller)):
        assert NOTE not in vars(each)
        assert fxprune.verify(small, each, plan).repaired == ()


def test_a_program_in_a_file_knows_them(tmp_path: Path) -> None:
    model = network()
    program = export_module(repaired(model), data()[0])
    save_program(program, tmp_path / "small.pt2")
    for each in (program, load_program(tmp_path / "small.pt2")):
        assert fxprune.verify(model, each, plan_of(model)).repaired == NAMES


@pytest.mark.parametrize("text", ["{", "3", '["4.weight", 3]', "[" * 10_000])
def test_a_program_that_names_none_is_refused(tmp_path: Path, text: str) -> None:
    program = export_module(repaired(network()), data()[0])
    path = tmp_path / "small.pt2"
    torch.export.save(program, path, extra_files={"fxprune_repaired.json": text})
    with pytest.raises(InputError, match="no list of names"):
        load_program(path)


def test_names_from_a_file_must_be_names() -> None:
    model = network()
    again = pickled(repaired(model))
    vars(again)[NOTE] = (1, 2)
    with pytest.raises(InputError, match="no list of names"):
        fxprune.verify(model, again, plan_of(model))


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_where_names_are_lost_the_error_says_so(emit: Any) -> None:
    """What `torch.export` wrote of a result, and what is shrunk from a repaired original."""
    model = network()
    found = fxprune.reconstruct(model, plan_of(model), data(), progress=False)
    file = io.BytesIO()
    torch.export.save(torch.export.export(repaired(model, emit), (data()[0],)), file)
    program = torch.export.load(io.BytesIO(file.getvalue()))
    for small in (program, fxprune.shrink(found.model, plan_of(model), emit=emit)):
        with pytest.raises(VerificationError) as caught:
            fxprune.verify(model, small, plan_of(model))
        told = "the shrunk model has other values in 4.weight; 4.bias and 2 more. If"
        assert caught.value.hint.startswith(told)
        assert "it lacks their names" in caught.value.hint
        assert "defect" not in str(caught.value)
        assert fxprune.verify(found.model, small, plan_of(model)).repaired == ()


def test_where_names_are_known_a_difference_is_told_as_ever() -> None:
    model = network()
    small = repaired(model)
    with torch.no_grad():
        small.get_parameter("0.weight").mul_(2)
    with pytest.raises(VerificationError) as caught:
        fxprune.verify(model, small, plan_of(model))
    assert caught.value.hint.startswith("if this model was shrunk from exactly this original")


# -- which are taken ------------------------------------------------------------------------


def claiming(model: nn.Module, name: str) -> nn.Module:
    """A repaired model that says that another tensor was repaired too, which is wrong in it."""
    small = repaired(model)
    report = small.meta["fxprune"]
    small.meta["fxprune"] = replace(report, repaired=tuple({*report.repaired, name}))
    with torch.no_grad():
        small.get_parameter(name).mul_(5)
    return small


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.weight", "1.bias", "6.weight", "6.bias"])
@pytest.mark.parametrize("quick", [False, True])
def test_what_no_repair_changes_is_not_taken(name: str, *, quick: bool) -> None:
    """Layers that have none of the removed channels, and norms before these."""
    model = network()
    small = claiming(model, name)
    with pytest.raises(InputError, match=f"^{name} was repaired, as the shrunk model says"):
        fxprune.verify(model, small, plan_of(model), quick=quick)


@pytest.mark.parametrize("name", ["2.weight", "2.bias", *NAMES])
def test_what_has_or_follows_removed_channels_is_taken_and_told(name: str) -> None:
    """What makes them, what reads them, what takes up their constants, and norms after them."""
    model = network()
    proof = fxprune.verify(model, claiming(model, name), plan_of(model))
    assert set(proof.repaired) == {*NAMES, name}


def test_a_pickle_and_a_checkpoint_are_believed_no_more(tmp_path: Path) -> None:
    model = network()
    small = claiming(model, "0.weight")
    fxprune.save(small, tmp_path / "small.safetensors")
    again = pickled(small)
    vars(again)[NOTE] = ("0.weight", *NAMES)
    for each in (again, fxprune.load(network(), tmp_path / "small.safetensors")):
        with pytest.raises(InputError, match=r"^0\.weight was repaired, as"):
            fxprune.verify(model, each, plan_of(model))


def test_a_plan_that_removes_nothing_allows_nothing() -> None:
    model = network()
    plan = fxprune.plan(model, data()[0], channels={"2": []})
    small = fxprune.shrink(model, plan)
    small.meta["fxprune"] = replace(small.meta["fxprune"], repaired=("5.weight",))
    with pytest.raises(InputError, match=r"^5\.weight was repaired, as"):
        fxprune.verify(model, small, plan)


class Stacked(nn.Module):
    """Biases of two layers are rows of one matrix, and so are scales of two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4, bias=False)
        self.biases = nn.Parameter(torch.zeros(2, 4))
        self.scales = nn.Parameter(torch.ones(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        """A layer, a bias and a root mean square norm."""
        y = self.second(self.first(x).relu()) + self.biases[1]
        normed: Tensor = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6) * self.scales[0]
        return normed


def test_rows_of_a_matrix_may_be_repaired() -> None:
    """They are vectors though the stored tensor is none."""
    model = randomize(Stacked()).eval()
    plan = fxprune.plan(model, data()[0], channels={"first": [0, 3, 4]})
    small = fxprune.shrink(model, plan, calibrate=data())
    assert {"biases", "scales"} <= set(small.meta["fxprune"].repaired)
    assert fxprune.verify(model, pickled(small), plan).relative < 1e-6


def test_statistics_of_norms_before_any_removed_channel_are_not_taken() -> None:
    layers: tuple[nn.Module, ...] = (nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 12))
    layers += (nn.ReLU(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model = randomize(nn.Sequential(*layers)).eval()
    small = repaired(model)
    report = small.meta["fxprune"]
    for name in ("running_mean", "running_var"):
        small.meta["fxprune"] = replace(report, repaired=(*report.repaired, f"5.{name}"))
        assert f"5.{name}" in fxprune.verify(model, small, plan_of(model)).repaired
        small.meta["fxprune"] = replace(report, repaired=(*report.repaired, f"1.{name}"))
        with pytest.raises(InputError, match=rf"^1\.{name} was repaired, as"):
            fxprune.verify(model, small, plan_of(model))


# -- weights that share memory --------------------------------------------------------------


class Sharing(nn.Module):
    """Two parameters over the same memory, two over parts of it that overlap, and two that do not.

    All read the same channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        flat = torch.randn(8 * 18)
        self.same = nn.Parameter(torch.randn(3, 8))
        self.twin = nn.Parameter(self.same.data)
        self.left, self.right = (nn.Parameter(flat[n : n + 32].view(4, 8)) for n in (0, 16))
        self.one, self.other = (nn.Parameter(flat[n : n + 32].view(4, 8)) for n in (64, 96))

    def forward(self, x: Tensor) -> Tensor:
        """All of them, beside each other."""
        y = self.first(x).relu()
        weights = (self.same, self.twin, self.left, self.right, self.one, self.other)
        return torch.cat([nn.functional.linear(y, weight) for weight in weights], -1)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_parameters_that_share_memory_are_left(mode: Any) -> None:
    """A repair of one is one of the other, too; those beside one another in memory are apart."""
    model = Sharing().eval()
    plan = fxprune.plan(model, data()[0], channels={"first": [0, 3, 4]})
    found = fxprune.reconstruct(model, plan, data(), mode=mode, progress=False)
    left = {each.weight for each in found.repairs if each.why == "its weight is used elsewhere"}
    assert left == {"same", "twin", "left", "right"}
    assert set(found.tensors) == {"one", "other"}
