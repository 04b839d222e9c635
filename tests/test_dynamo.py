"""`torch.compile`: shrunk models compile whole, and the backend prunes inside the pipeline."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._dynamo.exc import BackendCompilerFailed

import fxprune
from fxprune.dynamo import backend
from fxprune.dynamo_graphs import DynamoGraph
from models_zoo import ZOO, randomize

X = torch.randn(2, 3, 8, 8)
Graphs = list[fx.GraphModule]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Net(nn.Module):
    """Has statistics, tied weights, a tensor that is no buffer, and a literal width."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.blocks[1].weight = self.blocks[0].weight
        self.second, self.head = nn.Conv2d(8, 6, 3), nn.Linear(6, 4)
        self.scale = torch.rand(8, 1, 1) + 0.5

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.norm(self.first(x)).relu() * self.scale.view(1, 8, 1, 1))
        y = y.mean((2, 3))
        for block in self.blocks:
            y = y + block(y).relu()
        return self.head(y)


class Broken(Net):
    """Decides by a value in the middle."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        if y.sum() > 0:
            y = y * 2
        return self.head(self.second(y).mean((2, 3)))


def net(kind: type[Net] = Net) -> Net:
    torch.manual_seed(0)
    return randomize(kind()).eval()


def compiled(model: Any, plan: Any, **options: Any) -> Callable[..., Any]:
    """The model as `torch.compile` prunes it; by default every operator runs on its own."""
    options = {"plan": plan, "inner": "eager", "verify": "quick", **options}
    return torch.compile(model, backend=backend, options=options)


def kept(plan: fxprune.Plan, name: str, dim: int = 0) -> list[int]:
    gone = plan.slices[name][dim]
    return [k for k in range(plan.shapes[name][dim]) if k not in gone]


# -- shrunk models ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qkv_fused"])
def test_a_shrunk_model_compiles_whole_and_equals_itself(name: str) -> None:
    model, inputs = randomize(ZOO[name].build()).eval(), ZOO[name].example_inputs()
    small = fxprune.shrink(model, fxprune.plan(model, inputs, 0.5), inputs, verify="quick")
    whole = torch.compile(small, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(whole(*inputs), small(*inputs))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch 2.13 uses it itself
def test_inductor_computes_the_same_of_a_shrunk_model_and_inside() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    small, inside = fxprune.shrink(model, plan), compiled(model, plan, inner="inductor")
    whole = torch.compile(small, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(whole(X), small(X))
        torch.testing.assert_close(inside(X), small(X))


# -- pruning inside ----------------------------------------------------------------------------


def test_the_backend_computes_what_the_shrunk_model_computes_at_any_batch() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    small, inside = fxprune.shrink(model, plan), compiled(model, plan, inner="aot_eager")
    for batch in (2, 3, 7):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(inside(x), small(x))
        assert not torch.allclose(small(x), model(x))


@pytest.mark.parametrize("name", ["index_channels", "tied_weights"])
def test_models_of_the_zoo_are_pruned_inside(name: str) -> None:
    model, inputs = randomize(ZOO[name].build()).eval(), ZOO[name].example_inputs()
    plan = fxprune.plan(model, inputs, 0.5)
    inside = compiled(model, plan, inner="aot_eager")
    small = fxprune.shrink(model, plan, verify=False)
    torch.testing.assert_close(inside(*inputs), small(*inputs))


def test_a_resnet_is_pruned_inside() -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    model, x = models.resnet18(num_classes=10).eval(), torch.randn(2, 3, 32, 32)
    plan = fxprune.plan(model, x, 0.5)
    inside = compiled(model, plan)
    small = fxprune.shrink(model, plan, verify=False)
    with torch.no_grad():
        torch.testing.assert_close(inside(x), small(x))


def test_a_plan_may_be_a_file_or_ratios(tmp_path: Path) -> None:
    model = net()
    plan = fxprune.plan(model, X, ratios={"first": 0.5})
    plan.save(tmp_path / "plan.json")
    expected = fxprune.shrink(model, plan)(X)
    for given in (str(tmp_path / "plan.json"), {"first": 0.5}):
        torch._dynamo.reset()
        torch.testing.assert_close(compiled(model, given)(X), expected)


def test_the_inner_backend_gets_smaller_operators() -> None:
    seen: Graphs = []

    def inner(graph_module: fx.GraphModule, inputs: list[Any]) -> Any:
        seen.append(graph_module)
        return graph_module.forward

    model = net()
    plan = fxprune.plan(model, X, 0.5)
    compiled(model, plan, inner=inner)(X)
    inputs = seen[0].graph.find_nodes(op="placeholder")
    weights = [n for n in seen[0].graph.nodes if n.target is torch.index_select]
    assert len(inputs) == len(list(model.parameters())) + 4  # statistics, scale, x
    assert weights
    assert not list(seen[0].parameters())


def test_new_weights_count_at_once() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    inside = compiled(model, plan)
    first = inside(X)
    model.load_state_dict(net().state_dict())
    model.head.bias.data.add_(1)
    second = inside(X)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(second, fxprune.shrink(model, plan)(X))


def test_parameters_that_are_attributes_are_pruned_too() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    with torch._dynamo.config.patch(install_free_tensors=True):  # as for freezing
        inside = compiled(model, plan, inner="aot_eager")
        torch.testing.assert_close(inside(X), fxprune.shrink(model, plan)(X))


def test_norm_exact_is_an_option() -> None:
    model = nn.Sequential(nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 3)).eval()
    x = torch.randn(2, 8)
    plan = fxprune.plan(model, x, channels={"0": [2, 5]})
    expected = fxprune.shrink(model, plan, norm="exact")(x)
    torch.testing.assert_close(compiled(model, plan, norm="exact")(x), expected)
    assert not torch.allclose(fxprune.shrink(model, plan)(x), expected)


def test_inference_mode_is_no_obstacle() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(model, plan)(X), fxprune.shrink(model, plan)(X))


def test_autocast_holds_for_what_was_pruned() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    small = fxprune.shrink(model, plan)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        result = compiled(model, plan)(X)
        torch.testing.assert_close(result, small(X))
    assert result.dtype is torch.bfloat16


# -- training ----------------------------------------------------------------------------------


def test_a_step_of_an_optimizer_is_that_of_the_shrunk_model() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    small = fxprune.shrink(model, plan).train()
    inside = compiled(model.train(), plan, inner="aot_eager")
    for each, call in ((model, inside), (small, small)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            call(X).square().sum().backward()
            optimizer.step()
    expected = fxprune.shrink(model.eval(), plan)
    for name, parameter in small.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name))


def test_removed_channels_get_no_gradient() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    compiled(model, plan)(X).sum().backward()
    gone = list(plan.slices["first.weight"][0])
    assert model.first.weight.grad is not None
    assert not model.first.weight.grad[gone].any()
    assert model.first.weight.grad[kept(plan, "first.weight")].any()


def test_running_statistics_of_kept_channels_are_written_back() -> None:
    model = net()
    plan = fxprune.plan(model, X, 0.5)
    small = fxprune.shrink(model, plan).train()
    before = copy.deepcopy(model.norm)
    inside = compiled(model.train(), plan)
    torch.testing.assert_close(inside(X), small(X))
    left, gone = kept(plan, "norm.weight"), list(plan.slices["norm.weight"][0])
    for name in ("running_mean", "running_var"):
        now, old = getattr(model.norm, name), getattr(before, name)
        torch.testing.assert_close(now[left], getattr(small.get_submodule("norm"), name))
        torch.testing.assert_close(now[gone], old[gone], rtol=0, atol=0)
    assert int(model.norm.num_batches_tracked) == 1


# -- refusals ----------------------------------------------------------------------------------


def refused(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(BackendCompilerFailed) as caught:
        call(*args)
    assert isinstance(caught.value.inner_exception, fxprune.FxPruneError)
    return str(caught.value)


def test_a_graph_break_that_the_plan_crosses_is_refused() -> None:
    model = net(Broken)
    plan = fxprune.plan(net(), X, ratios={"first": 0.5})
    text = refused(compiled(model, plan), X)
    assert "compiled in parts" in text
    assert "the graph breaks: " in text
    assert "fullgraph=True" in text
    assert "compiled in parts" in refused(compiled(model, {"first": 0.5}), X)


def test_parts_that_the_plan_does_not_concern_are_compiled_as_they_are() -> None:
    class Behind(Net):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 1e9:
                return x
            return super().forward(x)

    plan = fxprune.plan(net(), X, ratios={"first": 0.5})
    model = net(Behind)
    expected = fxprune.shrink(net(), plan)(X)
    model.load_state_dict(net().state_dict())
    model.scale = net().scale
    torch.testing.assert_close(compiled(model, plan)(X), expected)


def test_a_plan_for_another_model_is_refused() -> None:
    other = fxprune.plan(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 2)), torch.zeros(1, 8), 0.5)
    assert "the plan belongs to another model" in refused(compiled(net(), other), X)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    text = refused(compiled(Wrapped(), fxprune.plan(net(), X, 0.5)), X)
    assert "inner.first.weight has shape [8, 3, 3, 3], the plan has none" in text
    assert "compile the module that the plan was made for" in text


def test_two_models_in_one_graph_are_refused() -> None:
    one, other = net(), net()
    plan = fxprune.plan(one, X, 0.5)
    assert "of 2 modules" in refused(compiled(lambda x: one(x) + other(x), plan), X)


def test_a_graph_that_needs_what_is_gone_is_refused() -> None:
    model = net()
    plan = fxprune.plan(model, X, channels={"first": [1, 3]})

    def with_features(x: Tensor) -> tuple[Tensor, Tensor]:
        return model(x), model.first(x)

    text = refused(compiled(with_features, plan), X)
    assert "cannot go alone" in text
    assert "output of the model" in text


class Branch(Net):
    def __init__(self) -> None:
        super().__init__()
        self.blocks[1] = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.norm(self.first(x)).relu()).mean((2, 3))
        return self.head(y + self.blocks[1](self.blocks[0](y).relu()))


def test_whole_branches_and_blocks_are_refused() -> None:
    model = net(Branch)
    plan = fxprune.plan(model, X, channels={"blocks.0": range(6)})
    assert "takes all of blocks." in refused(compiled(model, plan), X)
    residual = nn.Sequential(nn.Linear(8, 8), Residual(), nn.Linear(8, 2)).eval()
    dropped = fxprune.plan(residual, X[0, 0], drop=["1"])
    assert "which this backend cannot do" in refused(compiled(residual, dropped), X[0, 0])


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).relu()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (None, "needs a plan"),
        ({"inner": "eager"}, "needs a plan"),
        ({"plan": {"first": 0.5}, "iner": "eager"}, r"no option 'iner'.*inner"),
        ({"plan": {"first": 0.5}, "inner": "inducter"}, r"'inducter' is no backend.*inductor"),
        ({"plan": {"first": 0.5}, "inner": "fxprune"}, "is no backend"),
        ({"plan": {"first": 0.5}, "inner": backend}, "is no backend"),
        ({"plan": {"first": 0.5}, "norm": "half"}, "half"),
        ({"plan": {"first": 0.5}, "verify": "twice"}, "verify='twice' is not known"),
        ({"plan": 7}, "the plan is a int"),
        ({"plan": "no such file"}, "no such file"),
        ({"plan": {"frst": 0.5}, "inner": "eager"}, r"'frst'.*first"),
    ],
)
def test_wrong_options_are_refused(options: Any, message: str) -> None:
    model = torch.compile(net(), backend=backend, options=options)
    with pytest.raises(BackendCompilerFailed, match=f"(?s){message}"):
        model(X)


def test_the_original_is_not_changed() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    compiled(model, fxprune.plan(model, X, 0.5), verify=True)(X)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_mistake_between_the_graphs_would_be_found() -> None:
    seen: list[Any] = []

    def note(graph_module: fx.GraphModule, inputs: list[Any]) -> Any:
        seen.append(DynamoGraph.of(graph_module, inputs))
        return graph_module.forward

    model = net()
    torch.compile(model, backend=note)(X)
    captured = seen[0]
    dense, values = captured.as_module()
    deps = fxprune.analyze(dense, values)
    plan = fxprune.plan(deps, ratio=0.5)
    layout = plan.layout(deps)
    small = fxprune.shrink(deps, plan, verify=False)
    pruned = captured.with_inputs(small, layout)
    captured.check(pruned, small, layout)
    node = next(n for n in pruned.graph.nodes if n.target is torch.index_select)
    index = node.args[2]
    index.args = ([*index.args[0][:-1], plan.slices["first.weight"][0][0]],)
    pruned.recompile()
    with pytest.raises(fxprune.VerificationError, match="the pruned graph does not compute"):
        captured.check(pruned, small, layout)
