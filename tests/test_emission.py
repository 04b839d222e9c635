"""`emit="module"`: the user's own class, smaller."""

import copy
import pickle
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import module_runs
from models_zoo import ZOO, randomize

X = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """Self-attention that reads its sizes from attributes."""

    def __init__(self, dim: int = 12, heads: int = 4) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = dim // heads
        self.inner_dim = dim
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) -> (N, L, C)."""
        n, length, _ = x.shape
        qkv = self.qkv(x).view(n, length, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, length, self.inner_dim))


class Encoder(nn.Module):
    """Blocks on a residual stream, and a method beside forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 12)
        self.norm = nn.LayerNorm(12)
        self.attention = Attention()
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, 6) -> (N, 5)."""
        x = self.stem(x)
        x = x + self.attention(self.norm(x))
        return self.head(x.mean(1))

    def classify(self, x: Tensor) -> Tensor:
        """The class of each row."""
        return self(x).argmax(-1)


SEQUENCES = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(0))


def encoder() -> Encoder:
    return randomize(Encoder()).eval()


def shrunk(model: nn.Module, inputs: Any, **options: Any) -> Any:
    deps = fxprune.analyze(model, inputs)
    return fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5, **options), inputs, emit="module")


def test_class_and_methods_are_the_users() -> None:
    small = shrunk(encoder(), SEQUENCES)
    assert type(small) is Encoder
    assert small.classify(SEQUENCES).shape == (2,)


@pytest.mark.parametrize("options", [{}, {"heads": False, "head_dims": True}])
def test_attributes_follow_heads_and_head_dims(options: dict[str, bool]) -> None:
    attention = shrunk(encoder(), SEQUENCES, **options).attention
    inner = attention.qkv.out_features // 3
    assert attention.num_heads * attention.head_dim == attention.inner_dim == inner < 12
    assert (attention.num_heads == 2) is not bool(options)
    assert attention.scale == 3**-0.5


def test_it_computes_what_the_graph_computes() -> None:
    model = encoder()
    plan = fxprune.plan(model, SEQUENCES, ratio=0.5)
    graph = fxprune.shrink(model, plan, SEQUENCES)
    module = fxprune.shrink(model, plan, SEQUENCES, emit="module")
    torch.testing.assert_close(module(SEQUENCES), graph(SEQUENCES))
    assert module.state_dict().keys() == graph.state_dict().keys()


@dataclass(frozen=True)
class Sample:
    """What a model may take in one piece."""

    features: Tensor
    scale: float = 2.0


class TakesSample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, sample: Sample) -> Tensor:
        return self.second(self.first(sample.features).relu() * sample.scale)


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize("given", [True, False])
def test_dataclasses_are_inputs(emit: Literal["graph", "module"], given: bool) -> None:
    model, inputs = randomize(TakesSample()).eval(), (Sample(X),)
    plan = fxprune.plan(model, inputs, ratio=0.5)
    small = fxprune.shrink(model, plan, inputs if given else None, emit=emit)
    assert small.meta["fxprune"].verification.relative < 1e-12
    assert small(Sample(X[:2])).shape == (2, 3)


class EmbedsAlongWidths(nn.Module):
    """Has tuples of widths as attributes, one of them in a module without parameters."""

    class Scale(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.shape = (1, width)
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight.view(self.shape)

    class Norm(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.normalized_shape = (width,)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.layer_norm(x, self.normalized_shape)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 3)
        self.scale, self.norm = self.Scale(16), self.Norm(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.scale(self.first(x))))


def test_tuples_of_widths_follow_and_modules_without_parameters_go_by_their_input() -> None:
    small = shrunk(EmbedsAlongWidths().eval(), X)
    assert small.scale.shape == (1, 8)
    assert small.norm.normalized_shape == (8,)


def test_other_batches_and_lengths_run() -> None:
    small = shrunk(encoder(), SEQUENCES)
    assert small(torch.randn(5, 3, 6)).shape == (5, 5)


def test_it_trains_copies_and_pickles() -> None:
    small = shrunk(encoder(), SEQUENCES)
    small(SEQUENCES).sum().backward()
    assert all(p.grad is not None for p in small.parameters())
    for twin in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(twin(SEQUENCES), small(SEQUENCES))


def test_the_original_stays_as_it_was_and_shares_nothing() -> None:
    model = encoder()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = shrunk(model, SEQUENCES)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert model.attention.num_heads == 4
    pointers = {t.data_ptr() for t in model.state_dict().values()}
    assert pointers.isdisjoint(t.data_ptr() for t in small.state_dict().values())


def test_what_takes_too_much_memory_to_be_compared_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module_runs, "_LARGEST", 2000)
    proof = shrunk(encoder(), SEQUENCES).meta["fxprune"].verification
    assert proof.left_out > 0
    assert proof.nodes > 0
    assert f"every module but {proof.left_out} that others follow from" in str(proof)


def test_a_changed_weight_is_refuted_and_its_module_named() -> None:
    model = encoder()
    plan = fxprune.plan(model, SEQUENCES, ratio=0.5)
    small = fxprune.shrink(model, plan, SEQUENCES, emit="module")
    with torch.no_grad():
        small.attention.proj.weight[0, 0] += 1
    with pytest.raises(fxprune.VerificationError, match=r"module attention\.proj differs"):
        fxprune.verify(model, small, plan, SEQUENCES)


def test_a_wrong_attribute_is_refuted() -> None:
    model = encoder()
    plan = fxprune.plan(model, SEQUENCES, ratio=0.5)
    small = fxprune.shrink(model, plan, SEQUENCES, emit="module")
    small.attention.scale *= 2
    with pytest.raises(fxprune.VerificationError, match="attention"):
        fxprune.verify(model, small, plan, SEQUENCES)


def test_a_module_that_fails_is_named() -> None:
    model = encoder()
    plan = fxprune.plan(model, SEQUENCES, ratio=0.5)
    small = fxprune.shrink(model, plan, SEQUENCES, emit="module")
    small.attention.num_heads = 3
    with pytest.raises(fxprune.VerificationError, match="fails in module attention") as caught:
        fxprune.verify(model, small, plan, SEQUENCES)
    assert "@fxprune.fixer" in caught.value.hint


def test_a_module_shrunk_by_hand_is_compared_by_its_outputs() -> None:
    model = randomize(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))).eval()
    plan = fxprune.plan(model, X, ratio=0.5)
    kept = [k for k in range(8) if k not in plan.groups["0"].removed]
    small = nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        small[0].weight.copy_(model[0].weight[kept])
        small[0].bias.copy_(model[0].bias[kept])
        small[2].weight.copy_(model[2].weight[:, kept])
        small[2].bias.copy_(model[2].bias)
    assert fxprune.verify(model, small, plan, X).compared == "outputs"
    with torch.no_grad():
        small[2].bias += 1
    with pytest.raises(fxprune.VerificationError, match="output differs"):
        fxprune.verify(model, small, plan, X)


def test_a_graph_module_has_no_module_to_emit() -> None:
    model = torch.fx.symbolic_trace(encoder())
    plan = fxprune.plan(model, SEQUENCES, ratio=0.5)
    with pytest.raises(fxprune.RewriteError, match="GraphModule"):
        fxprune.shrink(model, plan, SEQUENCES, emit="module")
    assert fxprune.shrink(model, plan, SEQUENCES, emit="auto").meta["fxprune"].emit == "graph"


def test_literal_sizes_in_forward_are_refused() -> None:
    class Literal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).view(-1, 8))

    model = randomize(Literal()).eval()
    plan = fxprune.plan(model, X, ratio=0.5)
    with pytest.raises(fxprune.RewriteError, match="cannot take the new widths") as caught:
        fxprune.shrink(model, plan, X, emit="module", verify=False)
    assert "@fxprune.fixer" in caught.value.hint
    assert fxprune.shrink(model, plan, X, emit="auto").meta["fxprune"].emit == "graph"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(fxprune.InputError, match="emit='onnx'"):
        fxprune.shrink(encoder(), {}, SEQUENCES, emit="onnx")


def test_a_module_of_meta_tensors_shrinks_unverified() -> None:
    model = encoder().to("meta")
    plan = fxprune.plan(model, SEQUENCES.to("meta"), ratio=0.5, criterion="random")
    small = fxprune.shrink(model, plan, emit="module", verify=False)
    assert small.attention.num_heads == 2
    assert small.stem.weight.device.type == "meta"


@pytest.mark.parametrize(
    "name",
    [
        "residual",
        "vgg",
        "unet",
        "grouped_conv",
        "inverted_residual",
        "group_norm",
        "recurrent_lstm",
    ],
)
def test_zoo_models_shrink_as_modules(name: str) -> None:
    entry = ZOO[name]
    model = randomize(entry.build()).eval()
    deps = fxprune.analyze(model, entry.example_inputs())
    plan = fxprune.plan(deps, ratio=0.5)
    small = fxprune.shrink(deps, plan, entry.example_inputs(), emit="module")
    graph = fxprune.shrink(deps, plan, entry.example_inputs(), verify=False)
    assert type(small) is type(model)
    theirs = dict(graph.named_modules())
    for path, module in small.named_modules():
        if path in theirs and not list(module.children()):
            assert repr(module) == repr(theirs[path])


class ReturnsFeatures(nn.Module):
    """Returns what it computes early if that is large."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = nn.Linear(3, 3)
        self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 12) -> (N, 2), or (N, 8)."""
        x = self.first(x)
        if x.abs().max().item() > 1e3:
            return x
        return self.second(x.relu())


def test_an_output_that_lost_channels_on_another_path_is_refuted() -> None:
    model = randomize(ReturnsFeatures()).eval()
    deps = fxprune.analyze(model, X)
    plan = fxprune.plan(deps, ratio=0.5)
    small = fxprune.shrink(deps, plan, X, emit="module")
    assert model(X * 1e6).shape == (3, 8)
    with pytest.raises(fxprune.VerificationError, match="returns channels that were removed"):
        fxprune.verify(deps, small, plan, X * 1e6)


def test_a_model_that_has_to_be_run_is_verified_on_the_given_inputs() -> None:
    model = randomize(ReturnsFeatures()).eval()
    plan = fxprune.plan(model, X, ratio=0.5)
    small = fxprune.shrink(model, plan, X, emit="module")
    assert fxprune.verify(model, small, plan, X).compared == "every module"
    with pytest.raises(fxprune.CaptureError, match="traced symbolically"):
        fxprune.verify(model, small, plan)


def test_a_module_that_fails_in_its_own_types_only_is_refused() -> None:
    class ByType(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.second(x.view(-1, 8) if x.dtype is torch.float32 else x)

    model = randomize(ByType()).eval()
    deps = fxprune.analyze(model, X)
    with pytest.raises(fxprune.RewriteError, match="cannot take the new widths"):
        fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5), X, emit="module")


def test_methods_that_a_module_keeps_are_those_of_the_copy() -> None:
    model = encoder()
    model.forward = MethodType(Encoder.forward, model)  # as a patch does
    model.again = partial(Encoder.forward, model)
    small = shrunk(model, SEQUENCES)
    assert small.forward.__self__ is small
    assert torch.equal(small.again(SEQUENCES), small(SEQUENCES))
    assert small.stem.out_features == 6


@pytest.mark.parametrize("path", ["pairs", "halves", "added"])
def test_a_path_that_couples_more_than_the_analyzed_one_is_refuted(path: str) -> None:
    class Paths(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            if x.abs().max().item() > 1e3:
                if path == "pairs":
                    y = y + y.view(-1, 4, 2).flip(1).reshape(-1, 8)
                elif path == "halves":
                    y = torch.cat([y[:, :4] + y[:, 4:], y[:, 4:]], 1)
                else:
                    y = y + x[:, :8]
            return self.second(y.relu())

    model = randomize(Paths()).eval()
    deps = fxprune.analyze(model, X)
    plan = fxprune.plan(deps, X, channels={"first": [0, 3, 5]})
    small = fxprune.shrink(deps, plan, X, emit="module")
    with pytest.raises(fxprune.VerificationError, match="coupled to others"):
        fxprune.verify(deps, small, plan, X * 1e6)


def test_a_number_that_only_happens_to_fit_is_refuted() -> None:
    class Cuts(nn.Module):
        """Has a number that is no width, though it is called one."""

        def __init__(self) -> None:
            super().__init__()
            self.hidden_size = 8
            self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x[: self.hidden_size]))

    model, x = randomize(Cuts()).eval(), torch.randn(4, 12)
    plan = fxprune.plan(model, x, ratio=0.5)
    with pytest.raises(fxprune.VerificationError, match="has shape"):
        fxprune.shrink(model, plan, x, emit="module")


def test_fused_layers_compute_what_the_simple_ones_do() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = randomize(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()
    net = nn.Sequential(nn.Linear(6, 16), model, nn.Linear(16, 3)).eval()
    small = shrunk(net, SEQUENCES)
    with torch.no_grad():
        fused = small(SEQUENCES)
    torch.testing.assert_close(fused, small(SEQUENCES).detach())
    assert "another batch" in small.meta["fxprune"].verification.inputs


def test_a_plain_call_that_differs_is_refuted_in_float64_too() -> None:
    class Noticed(nn.Module):
        """Does something else when it is not watched."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)) + (0.0 if self._forward_hooks else 1e-5)

    model, x = randomize(Noticed()).double().eval(), X.double()
    plan = fxprune.plan(model, x, ratio=0.5)
    with pytest.raises(fxprune.VerificationError, match="output differs"):
        fxprune.shrink(model, plan, x, emit="module")


class OtherSizes(nn.Module):
    """Numbers that happen to be the old width, and are none."""

    class Joined(nn.Module):
        dim = 2

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x], self.dim)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d((8, 8))
        self.mix, self.softmax = nn.Conv2d(8, 2, 1), nn.Softmax(dim=2)
        self.joined, self.last = self.Joined(), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.first(x))
        return self.last(self.joined(self.softmax(self.mix(x))))


def test_numbers_that_are_no_widths_stay() -> None:
    model, x = randomize(OtherSizes()).eval(), torch.randn(2, 3, 12, 12)
    plan = fxprune.plan(model, x, ratios={"first": 0.5, "mix": 0.5})
    small: Any = fxprune.shrink(model, plan, x, emit="module")
    assert (small.pool.output_size, small.softmax.dim, small.joined.dim) == ((8, 8), 2, 2)
    assert small.first.out_channels == 4
    assert small.mix.out_channels == 1
