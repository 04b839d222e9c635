"""`shrink(..., donate=True)`: the original's weights are used up."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from torch import fx, nn

import fxprune
from fxprune.module_trees import named_tensors
from fxprune.values import tensors


class Net(nn.Module):
    """A convolution and a tied linear layer, and a part that no plan takes anything from."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.head = nn.Linear(8, 4)
        self.register_buffer("scale", torch.rand(4))
        self.register_buffer("order", torch.arange(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        return self.head(self.second(self.first(x)))[:, self.order] * self.scale


X = torch.randn(2, 3, 6, 6)


def test_the_result_is_the_same_as_without() -> None:
    model = Net().eval()
    plan = fxprune.plan(model, X, ratio=0.5)
    kept = fxprune.shrink(copy.deepcopy(model), plan, verify=False)
    used = fxprune.shrink(model, plan, verify=False, donate=True)
    assert torch.equal(kept(X), used(X))
    assert kept.state_dict().keys() == used.state_dict().keys()
    assert used.meta["fxprune"].before == kept.meta["fxprune"].before
    assert used.meta["fxprune"].after == kept.meta["fxprune"].after
    assert used.code == kept.code
    for name, parameter in kept.named_parameters():
        assert used.get_parameter(name).requires_grad == parameter.requires_grad


def test_the_original_has_given_up_all_its_weights() -> None:
    model = Net().eval()
    fxprune.shrink(model, {"conv": 0.5}, X, verify=False, donate=True)
    left = {name: t.numel() for name, t in named_tensors(model).items() if t.is_floating_point()}
    assert set(left.values()) == {0}
    assert torch.equal(model.order, torch.arange(4))


def test_a_tensor_that_loses_nothing_is_not_copied() -> None:
    model = Net().eval()
    place = model.head.bias.data_ptr()
    small = fxprune.shrink(model, {"conv": 0.5}, X, verify=False, donate=True)
    assert small.get_parameter("head.bias").data_ptr() == place


def test_tensors_that_share_memory_are_not_handed_on_together() -> None:
    model = Net().eval()
    both = torch.rand(8)
    model.head.bias.data, model.scale = both[:4], both[4:]
    small = fxprune.shrink(model, {"conv": 0.5}, X, verify=False, donate=True)
    bias, scale = small.get_parameter("head.bias"), small.get_buffer("scale")
    assert bias.untyped_storage().data_ptr() != scale.untyped_storage().data_ptr()
    assert torch.equal(torch.cat([bias, scale]), both)


def test_what_was_tied_stays_tied() -> None:
    small = fxprune.shrink(Net().eval(), {"conv": 0.5}, X, verify=False, donate=True)
    assert small.get_parameter("first.weight") is small.get_parameter("second.weight")


def test_a_branch_that_goes_whole_leaves_its_constant() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return x + self.body(x)

    model, x = Branches().eval(), torch.randn(2, 4)
    plan = fxprune.plan(model, x, channels={"body.0": [0, 1, 2, 3]})
    kept = fxprune.shrink(copy.deepcopy(model), plan, verify=False)
    used = fxprune.shrink(model, plan, verify=False, donate=True)
    assert torch.equal(kept(x), used(x))
    assert model.stem.weight.numel() == 0


@pytest.mark.parametrize(
    ("ratios", "options"),
    [
        ({"embed": 0.5, "layer": 0.5}, {"norm": "kept"}),
        ({"embed": 0.5, "layer": 0.5}, {"norm": "exact"}),
        ({"layer.linear1": 0.5}, {"constants": "fold"}),
    ],
)
def test_every_meaning_is_the_same_as_without(
    ratios: dict[str, float], options: dict[str, Any]
) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(6, 8)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.layer(self.embed(x))))

    model, x = Encoder().eval(), torch.randn(2, 5, 6)
    plan = fxprune.plan(model, x, ratios=ratios)
    kept = fxprune.shrink(copy.deepcopy(model), plan, verify=False, **options)
    used = fxprune.shrink(model, plan, verify=False, donate=True, **options)
    assert torch.equal(kept(x), used(x))


def test_weights_that_are_needed_for_a_proof_are_not_used_up() -> None:
    model = Net().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(fxprune.InputError, match="leaves no original to verify against"):
        fxprune.shrink(model, {"conv": 0.5}, X, donate=True)
    with pytest.raises(fxprune.InputError, match="pass True or False"):
        fxprune.shrink(model, {"conv": 0.5}, X, donate=1, verify=False)  # type: ignore[call-overload]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_program_is_not_donated() -> None:
    program = torch.export.export(Net().eval(), (X,))
    with pytest.raises(fxprune.InputError, match="an ExportedProgram cannot be donated"):
        fxprune.shrink(program, {"conv": 0.5}, verify=False, donate=True)  # type: ignore[call-overload]


def test_a_shrink_that_is_refused_leaves_the_weights() -> None:
    model = Net().eval()
    with pytest.raises(fxprune.PlanError):
        fxprune.shrink(model, {"nothing": 0.5}, X, verify=False, donate=True)
    assert model.conv.weight.numel() == 8 * 3 * 9


class Listed(nn.Module):
    """Reads its weight out of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.weights = [self.weight]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weights[0]


class Whole(fx.Tracer):
    """Does not look into some modules."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (Listed, Sized)) or super().is_leaf_module(m, module_qualified_name)


class Sized(nn.Linear):
    """Uses its width as a size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.reshape(-1, self.in_features))


ROW = torch.randn(2, 4)


def whole(*parts: nn.Module) -> fx.GraphModule:
    model = nn.Sequential(*parts).eval()
    return fx.GraphModule(model, Whole().trace(model))


def test_weights_that_modules_keep_in_lists_are_taken_there_too() -> None:
    model = whole(Listed(), nn.Linear(4, 8), nn.Linear(8, 3))
    kept = fxprune.shrink(copy.deepcopy(model), {"1": 0.5}, ROW, verify=False)
    used = fxprune.shrink(model, {"1": 0.5}, ROW, verify=False, donate=True)
    assert torch.equal(kept(ROW), used(ROW))
    assert used.get_submodule("0").weights[0] is used.get_parameter("0.weight")


def test_nothing_is_refused_once_weights_are_given_up() -> None:
    layer = nn.Linear(4, 8)
    nn.init.ones_(layer.bias)
    model = whole(layer, nn.ReLU(), Sized(8, 3, bias=False))
    with pytest.raises(fxprune.RewriteError, match="cannot be folded into 2, which has no bias"):
        fxprune.shrink(model, {"0": 0.5}, ROW, verify=False, donate=True, constants="fold")
    assert all(parameter.numel() for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch 2.13 copies its own specs
def test_what_is_noted_of_values_is_the_same_as_without() -> None:
    def exported() -> fx.GraphModule:
        return torch.export.export(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), (ROW,)).module()

    kept = fxprune.shrink(exported(), {"0": 0.5}, ROW, verify=False)
    used = fxprune.shrink(exported(), {"0": 0.5}, ROW, verify=False, donate=True)

    def noted(small: fx.GraphModule) -> dict[str, str]:
        return {node.name: str(node.meta.get("val")) for node in small.graph.nodes}

    assert noted(used) == noted(kept)
    assert "FakeTensor" in noted(used)["linear"]


def test_an_analysis_without_weights_is_refused() -> None:
    deps = fxprune.analyze(Net().eval(), X)
    plan = fxprune.plan(deps, ratio=0.5)
    small = fxprune.shrink(deps, plan, verify=False, donate=True)
    for use in (
        lambda: fxprune.shrink(deps, plan, verify=False),
        lambda: fxprune.plan(deps, ratio=0.5),
        lambda: fxprune.verify(deps, small, plan),
    ):
        with pytest.raises(fxprune.InputError, match="has no weights any more"):
            use()


def test_a_model_without_data_can_be_donated() -> None:
    with torch.device("meta"):
        model = Net().eval()
    small = fxprune.shrink(model, {"conv": [0, 1]}, X.to("meta"), verify=False, donate=True)
    assert small.get_parameter("conv.weight").shape == (6, 3, 3, 3)
    assert all(tensor.is_meta for tensor in named_tensors(small).values())


def test_a_part_of_a_larger_memory_is_copied() -> None:
    model = Net().eval()
    larger = torch.rand(1000)
    model.head.bias.data = larger[:4]
    small = fxprune.shrink(model, {"conv": 0.5}, X, verify=False, donate=True)
    bias = small.get_parameter("head.bias")
    assert torch.equal(bias, larger[:4])
    assert bias.untyped_storage().nbytes() == 4 * 4


def test_weights_of_inference_mode_can_be_donated() -> None:
    with torch.inference_mode():
        model = Net().eval()
    small = fxprune.shrink(model, {"conv": 0.5}, X, verify=False, donate=True)
    small(X).sum().backward()
    assert small.get_parameter("head.bias").grad is not None


def test_gradients_are_given_up_too() -> None:
    model = Net().eval()
    model(X).sum().backward()
    fxprune.shrink(model, {"conv": 0.5}, X, verify=False, donate=True)
    assert all(parameter.grad is None for parameter in model.parameters())


# -- modules ----------------------------------------------------------------------------------


class Kept:
    """What holds a weight, and is no module."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight


class Elsewhere(nn.Module):
    """Reads its weight out of an object that a copy of the module shares."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 4)
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.kept = Kept(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)) @ self.kept.weight


class Deciding(nn.Module):
    """Goes another way for large values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x.relu() if x.abs().max().item() < 100 else x)


def listed() -> nn.Module:
    return nn.Sequential(Listed(), nn.Linear(4, 8), nn.Linear(8, 3))


def as_modules(model: nn.Module, x: torch.Tensor, **options: Any) -> tuple[nn.Module, nn.Module]:
    """What is made of a copy, and what is made of the model itself, which is used up."""
    plan = fxprune.plan(model, x, ratio=0.5)
    kept = fxprune.shrink(copy.deepcopy(model), plan, x, verify=False, emit="module", **options)
    options["donate"] = True
    return kept, fxprune.shrink(model, plan, x, verify=False, emit="module", **options)


@pytest.mark.parametrize(
    ("make", "x"),
    [(Net, X), (listed, ROW), (Deciding, ROW), (lambda: nn.LSTM(4, 8, 2), torch.randn(5, 2, 4))],
)
def test_a_donated_module_is_the_same_as_one_without(make: Any, x: torch.Tensor) -> None:
    model = make().eval()
    kept, used = as_modules(model, x)
    for expected, got in zip(tensors(kept(x)), tensors(used(x)), strict=True):
        assert torch.equal(expected, got)
    assert repr(kept) == repr(used)
    assert kept.meta["fxprune"].after == used.meta["fxprune"].after
    assert all(torch.equal(t, used.state_dict()[name]) for name, t in kept.state_dict().items())
    left = {name: t.numel() for name, t in named_tensors(model).items() if t.is_floating_point()}
    assert set(left.values()) == {0}


def test_constants_are_folded_into_a_donated_module() -> None:
    kept, used = as_modules(Deciding().eval().first, ROW)
    assert torch.equal(kept(ROW), used(ROW))
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3, bias=False)).eval()
    kept, used = as_modules(model, ROW, constants="fold")
    assert torch.equal(kept(ROW), used(ROW))
    assert used.get_parameter("2.bias").shape == (3,)


def test_what_was_tied_stays_tied_in_a_donated_module() -> None:
    _, used = as_modules(Net().eval(), X)
    assert used.get_parameter("first.weight") is used.get_parameter("second.weight")


def test_a_module_that_reads_a_weight_elsewhere_keeps_its_weights() -> None:
    model = Elsewhere().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(fxprune.RewriteError, match="forward reads weight from a place"):
        fxprune.shrink(model, {"first": 0.5}, ROW, verify=False, donate=True, emit="module")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_module_that_cannot_take_the_new_widths_keeps_its_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Unflatten(1, (2, 4)), nn.Flatten(), nn.Linear(8, 3))
    model[1].forward = lambda x: x.view(-1, 2, 4)
    before = copy.deepcopy(model.eval().state_dict())
    with pytest.raises(fxprune.RewriteError, match="cannot take the new widths"):
        fxprune.shrink(model, {"0": 0.5}, ROW, verify=False, donate=True, emit="module")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_kind_that_works_is_made_of_donated_weights() -> None:
    model = Deciding().eval()
    plan = fxprune.plan(model, ROW, ratio=0.5)
    used = fxprune.shrink(model, plan, ROW, verify=False, donate=True, emit="auto")
    assert used.meta["fxprune"].emit == "module"
    assert used(ROW).shape == (2, 3)


def test_a_module_without_data_can_be_donated() -> None:
    with torch.device("meta"):
        model = Net().eval()
    plan = fxprune.plan(model, X.to("meta"), channels={"conv": [0, 1]})
    small = fxprune.shrink(model, plan, verify=False, donate=True, emit="module")
    assert small.get_parameter("conv.weight").shape == (6, 3, 3, 3)


_MEASURED = textwrap.dedent(
    """
    import sys
    import torch
    from torch import nn
    import fxprune
    from tests.peak_memory import most_memory

    def model(width):
        layers = (nn.Linear(width, width) for _ in range(6))
        return nn.Sequential(nn.Linear(8, width), *layers, nn.Linear(width, 8)).eval()

    torch.set_num_threads(1)
    x = torch.randn(1, 8)
    fxprune.shrink(model(8), {"0": 0.5}, x, verify=False)  # imports, and what is made once
    large = model(2048)
    deps = fxprune.analyze(large, x)
    plan = fxprune.plan(deps, ratio=0.5)
    donate = sys.argv[1] == "donate"
    small, peak = most_memory(lambda: fxprune.shrink(deps, plan, verify=False, donate=donate))
    kept = sum(t.numel() * t.element_size() for t in small.state_dict().values())
    print(peak, kept)
    """
)


def _measured(how: str) -> tuple[int, int]:
    """Peak of the additional memory, and the bytes that are kept, of six layers of 16 MiB.

    The lower of two runs: what else the process does at the time only ever adds to it.
    """
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, how], capture_output=True, text=True, check=True
        )
        peak, kept = map(int, done.stdout.split())
        found.append((peak, kept))
    return min(found)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_shrinking_takes_little_more_memory_than_what_is_kept() -> None:
    peak, kept = _measured("copy")
    assert peak <= 1.15 * kept + (4 << 20)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_donated_weights_need_the_largest_tensor_at_most_besides() -> None:
    peak, _ = _measured("donate")
    assert peak <= 2048 * 2048 * 4
