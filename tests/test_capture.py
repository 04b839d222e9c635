"""Capture gives a graph that keeps names and flags, and leaves the model as it is."""

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fxprune import CaptureError, InputError, analyze
from fxprune.capture import capture
from fxprune.rules.place import module_path, source_line
from models_zoo import ZOO


class Block(nn.Module):
    """A container that is no leaf of the tracer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.heads = nn.ModuleList([nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return self.heads[0](x) + self.heads[1](x)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class BranchInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Linear(3, 3), Branching())

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x)


class Literal(nn.Module):
    """Makes a tensor in forward, and remembers what it did."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x) * torch.tensor([1.0, 2.0, 3.0])


class BranchAtTheTop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return x[: int(x.argmax())]


def test_module_names_are_kept() -> None:
    captured = capture(Network())
    targets = [node.target for node in captured.graph.nodes if node.op == "call_module"]
    assert targets == ["block.conv", "block.norm", "heads.0", "heads.1"]


def test_the_state_dict_has_the_same_keys_and_tensors() -> None:
    model = Network()
    captured = capture(model)
    assert {name: id(value) for name, value in captured.state_dict(keep_vars=True).items()} == {
        name: id(value) for name, value in model.state_dict(keep_vars=True).items()
    }


def test_the_graph_computes_what_the_model_computes() -> None:
    model, x = Network().eval(), torch.randn(2, 3, 5, 5)
    assert torch.equal(capture(model)(x), model(x))


def test_a_graph_module_passes_through_as_the_same_object() -> None:
    graph_module = fx.symbolic_trace(Network())
    assert capture(graph_module) is graph_module


def test_a_single_leaf_module_can_be_captured() -> None:
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    assert torch.equal(capture(linear)(x), linear(x))


def _flags(module: nn.Module) -> dict[str, bool]:
    return {name: child.training for name, child in module.named_modules()}


def _eval_container(model: Network) -> None:
    model.train()
    model.block.training = False  # but its children train


def _eval_leaf(model: Network) -> None:
    model.train()
    model.block.norm.eval()


def _train_leaf(model: Network) -> None:
    model.eval()
    model.heads[1].train()


@pytest.mark.parametrize(
    "choose", [nn.Module.train, nn.Module.eval, _eval_container, _eval_leaf, _train_leaf]
)
def test_every_train_flag_survives_also_on_containers(choose: Callable[[Network], object]) -> None:
    model = Network()
    choose(model)
    captured = _flags(capture(model))
    assert captured == {name: flag for name, flag in _flags(model).items() if name in captured}
    assert {"", "block", "block.norm", "heads", "heads.1"} <= captured.keys()


@pytest.mark.parametrize("name", ["residual", "index_channels", "shared_module", "raw_parameter"])
def test_the_model_is_not_changed(name: str) -> None:
    model = ZOO[name].build()
    modules = {path: (id(module), set(vars(module))) for path, module in model.named_modules()}
    values = {path: value.clone() for path, value in model.state_dict().items()}
    objects = {path: id(value) for path, value in model.state_dict(keep_vars=True).items()}
    capture(model)
    assert {p: (id(m), set(vars(m))) for p, m in model.named_modules()} == modules
    assert {p: id(v) for p, v in model.state_dict(keep_vars=True).items()} == objects
    assert all(torch.equal(value, values[p]) for p, value in model.state_dict().items())


def test_a_tensor_made_in_forward_is_kept_by_the_graph_and_not_by_the_model() -> None:
    model, x = Literal(), torch.randn(2, 3)
    before = set(vars(model))
    captured = capture(model)
    assert set(vars(model)) == before
    assert torch.equal(captured(x), model(x))


def test_what_forward_sets_while_it_is_traced_is_not_set_on_the_model() -> None:
    model = Literal()
    capture(model)
    assert model.calls == 0


def test_capturing_twice_gives_the_same_graph() -> None:
    model = Literal()
    first, again = capture(model), capture(model)
    assert again.code == first.code
    assert list(again.state_dict()) == list(first.state_dict())


def test_every_node_knows_the_users_source_line() -> None:
    captured = capture(Network())
    lines = {node.name: source_line(node) for node in captured.graph.nodes}
    assert lines["relu"].startswith("tests/test_capture.py:")
    assert lines["relu"].endswith(" in forward")


class Guarded(nn.Module):
    """Goes on after a part has failed."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Branching()

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.part(x)
        except fx.proxy.TraceError:
            x = x - 1
        return x + 1


def test_source_lines_are_right_after_a_part_that_failed() -> None:
    last = list(capture(Guarded()).graph.nodes)[-2]
    lines = str(last.stack_trace).splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("in forward")


class Unpacking(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        out = []
        for k in range(2):
            (batch, channels), (low, high) = x.shape, x.chunk(2, 1)
            out.append(low.reshape(batch, channels // 2) + k * high)
        return out


def test_shapes_and_outcomes_can_be_unpacked() -> None:
    model, x = Unpacking(), torch.randn(3, 4)
    captured = capture(model)
    assert str(captured.graph) == str(fx.symbolic_trace(model).graph)
    assert all(map(torch.equal, captured(x), model(x)))


def test_every_node_knows_the_module_that_made_it() -> None:
    paths = {node.name: module_path(node) for node in capture(Network()).graph.nodes}
    assert (paths["relu"], paths["block_conv"], paths["add"]) == ("block", "block.conv", "")


def test_control_flow_on_values_is_an_error_that_names_module_line_and_remedy() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(BranchInside())
    error = caught.value
    assert "BranchInside" in error.what
    assert "control flow" in error.what
    assert "module stage.1" in str(error.where)
    assert "tests/test_capture.py:" in str(error.where)
    assert "if x.sum() > 0:" in str(error.where)
    assert "torch.fx.wrap" in error.hint
    assert error.__cause__ is not None


def test_an_error_in_the_top_module_says_so() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(BranchAtTheTop())
    assert "the top module" in str(caught.value.where)
    assert "int(x.argmax())" in str(caught.value.where)


def test_a_failed_capture_leaves_the_model_alone() -> None:
    model = BranchInside()
    before = {path: set(vars(module)) for path, module in model.named_modules()}
    with pytest.raises(CaptureError):
        capture(model)
    assert {path: set(vars(module)) for path, module in model.named_modules()} == before


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_script_module_is_refused_with_a_remedy() -> None:
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.randn(1, 2))
    with pytest.raises(CaptureError, match="TorchScript") as caught:
        capture(scripted)
    assert "original nn.Module" in caught.value.hint


@pytest.mark.parametrize("thing", ["resnet18", None, 3, torch.zeros(2), [nn.ReLU()]])
def test_what_is_not_a_module_is_refused_by_its_type(thing: object) -> None:
    with pytest.raises(InputError, match=type(thing).__name__) as caught:
        capture(thing)  # type: ignore[arg-type]  # that is the test
    assert "pass the module itself" in caught.value.hint


def test_the_mode_is_that_of_the_analysis_whatever_becomes_of_the_model_later() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x / 2 if self.training else x)

    model = Halved().train()
    deps = analyze(model, torch.randn(2, 4))
    model.eval()
    assert [d.what for d in deps.diagnostics if "in train mode" in d.what]


def test_a_class_is_no_model() -> None:
    with pytest.raises(InputError, match="the model is the class Linear") as caught:
        capture(nn.Linear)  # type: ignore[arg-type]  # that is the test
    assert caught.value.hint == "make one: Linear(...)"


class Named(nn.Module):
    """A layer or a parameter with a name, which forward may use."""

    def __init__(self, name: str, *, used: bool, layer: bool) -> None:
        super().__init__()
        self.table = nn.Module()
        if layer:
            self.table.add_module(name, nn.Linear(4, 4))
        else:
            self.table.register_parameter(name, nn.Parameter(torch.randn(4)))
        self.name, self.used, self.layer = name, used, layer
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.used:
            thing = getattr(self.table, self.name)
            x = thing(x) if self.layer else thing * x
        out: Tensor = self.last(x)
        return out


@pytest.mark.parametrize("layer", [True, False])
@pytest.mark.parametrize("name", ['a "b"', "a\\b", "a\nb", "a\0b", "class", "None", "µ"])
def test_names_that_code_cannot_have_are_refused_where_they_are_used(
    name: str, layer: bool
) -> None:
    x = torch.randn(2, 4)
    with pytest.raises(CaptureError, match="cannot be in a torch"):
        capture(Named(name, used=True, layer=layer), x)
    unused = Named(name, used=False, layer=layer)
    assert torch.equal(capture(unused, x)(x), unused(x))


def test_a_layer_that_is_called_as_code_calls_the_model_is_refused() -> None:
    layers = {"self": nn.Linear(4, 4), "last": nn.Linear(4, 2)}
    with pytest.raises(CaptureError, match="the name 'self' cannot be in a torch"):
        capture(nn.Sequential(OrderedDict(layers)), torch.randn(2, 4))


class Scaled(nn.Linear):
    """Multiplies by a parameter first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.self)


def test_a_parameter_that_is_called_as_code_calls_the_model_is_refused() -> None:
    model = Scaled(4, 2)
    model.register_parameter("self", nn.Parameter(torch.randn(4)))
    with pytest.raises(CaptureError, match="the name 'self' cannot be in a torch"):
        capture(model, torch.randn(2, 4))


@pytest.mark.parametrize("layer", [True, False])
@pytest.mark.parametrize("name", ["a b", "0", "x-y", "é", "self", "self_", "matches"])
def test_other_names_are_taken(name: str, layer: bool) -> None:
    model, x = Named(name, used=True, layer=layer), torch.randn(2, 4)
    assert torch.equal(capture(model, x)(x), model(x))
