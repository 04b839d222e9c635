"""Verification catches what is wrong, says where, and changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxprune
from fxprune import InputError, PlanError, Verification, VerificationError
from fxprune.planning import Plan
from models_zoo import ZOO, randomize

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """Two convolutions, a norm, dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(F.relu(self.norm(self.conv(x))))
        x = F.relu(self.second(x))
        return self.head(x.mean((2, 3)))


class Training(Network):
    """Batch statistics and dropout whatever the flags say."""

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        x = F.batch_norm(
            self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True
        )
        x = self.second(F.dropout(F.relu(x), 0.3, training=True))
        return self.head(x.mean((2, 3)))


class SinglePrecision(nn.Module):
    """Asks for float32 in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).float())


class Bits(SinglePrecision):
    """Looks at the bits of its numbers, so it cannot be run in float64."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        is_negative = y.view(torch.int32) < 0
        return self.last(torch.where(is_negative, 0.0, y))


class TracedConstant(SinglePrecision):
    """Computes, while it is traced, what a call computes in the precision of the call."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * (torch.arange(1, 9).float() * 0.1).sin())


class Outside(nn.Module):
    """A module with a forward of its own around a shrunk model."""

    def __init__(self, inner: nn.Module, offset: float = 0.0) -> None:
        super().__init__()
        self.inner = inner
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.offset


def made(model: nn.Module | None = None) -> tuple[nn.Module, Plan, fx.GraphModule]:
    """A model with random weights, a plan, and the shrunk model, not verified."""
    model = randomize(Network()).eval() if model is None else model
    plan = fxprune.plan(model, X, 0.5)
    return model, plan, fxprune.shrink(model, plan, verify=False)


def tampered(change: Callable[[Any], object]) -> VerificationError:
    """The error that verification raises after a change of the shrunk model."""
    model, plan, small = made()
    with torch.no_grad():
        change(small)
    with pytest.raises(VerificationError) as caught:
        fxprune.verify(model, small, plan, X)
    return caught.value


# -- what it catches ------------------------------------------------------------------------


def test_a_right_model_is_verified() -> None:
    model, plan, small = made()
    result = fxprune.verify(model, small, plan, X)
    assert result.every_node
    assert result.nodes > len(small.graph.nodes)  # several sets of inputs
    assert result.relative < 1e-12
    assert result.inputs[:2] == ("example", "all negative")
    assert result.shapes > len(small.graph.nodes)
    assert result.gradients == len(list(small.parameters()))


def test_a_tampered_weight_is_caught_at_its_layer() -> None:
    error = tampered(lambda small: small.second.weight[1, 0, 1, 1].add_(1e-4))
    assert "node second differs from the original" in error.what


@pytest.mark.parametrize("size", [1e-7, 1e-5, 1e-3])
def test_a_difference_far_below_single_precision_is_caught(size: float) -> None:
    error = tampered(lambda small: small.head.weight[0, 0].add_(size))
    assert "node head differs" in error.what


def test_swapped_channels_are_caught() -> None:
    def swap(small: Any) -> None:
        small.conv.weight.copy_(small.conv.weight[[1, 0, 2, 3]])
        small.conv.bias.copy_(small.conv.bias[[1, 0, 2, 3]])

    assert "node conv differs" in tampered(swap).what


def test_wrongly_chosen_channels_are_caught_even_where_shapes_agree() -> None:
    model, plan, _ = made()
    other = fxprune.plan(model, X, 0.5, criterion="random", seed=1)
    assert other.slices != plan.slices
    wrong = fxprune.shrink(model, other, verify=False)
    with pytest.raises(VerificationError, match="node conv differs"):
        fxprune.verify(model, wrong, plan, X)


def test_a_wrong_running_mean_is_caught_at_the_norm() -> None:
    error = tampered(lambda small: small.norm.running_mean[2].add_(0.1))
    assert "node norm differs" in error.what


def test_a_wrong_running_variance_is_caught_at_the_norm() -> None:
    error = tampered(lambda small: small.norm.running_var.mul_(1.01))
    assert "node norm differs" in error.what


def test_a_dropped_bias_is_caught() -> None:
    error = tampered(lambda small: setattr(small.second, "bias", None))
    assert "node second differs" in error.what


def test_a_wrong_shape_is_caught_with_both_shapes() -> None:
    def shorten(small: Any) -> None:
        small.head.weight = nn.Parameter(small.head.weight[:3].clone())
        small.head.bias = None

    assert "head.weight has shape (3, 3) instead of (4, 3)" in tampered(shorten).what


def test_nan_in_the_result_is_caught() -> None:
    error = tampered(lambda small: small.second.weight[0].fill_(float("nan")))
    assert "node second differs" in error.what
    assert "got nan" in error.why


def test_an_operator_that_was_exchanged_is_caught() -> None:
    def exchange(small: fx.GraphModule) -> None:
        next(n for n in small.graph.nodes if n.name == "relu").target = F.elu
        small.recompile()

    assert "node relu differs" in tampered(exchange).what


def test_an_operator_that_only_differs_on_negative_numbers_is_caught() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    nn.init.ones_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    x = torch.rand(2, 3) + 0.1  # everything is positive, so ReLU does nothing
    plan = fxprune.plan(model, x, 0.5)
    small = fxprune.shrink(model, plan, verify=False)
    small.add_module("1", nn.Identity())
    with pytest.raises(VerificationError, match="node _1 differs"):
        fxprune.verify(model, small, plan, x)


# -- what it says ---------------------------------------------------------------------------


def test_an_error_tells_the_node_the_module_and_the_source_line() -> None:
    error = tampered(lambda small: small.second.weight.mul_(1.1))
    assert "node second" in str(error.where)
    assert "module second" in str(error.where)
    assert "tests/test_verification.py:" in str(error.where)
    assert "in forward" in str(error.where)


def test_an_error_tells_size_tolerance_and_precision() -> None:
    error = tampered(lambda small: small.second.weight.mul_(1.1))
    assert "more than 1e-09 (float64)" in error.what
    assert "of its largest value" in error.what


def test_an_error_tells_position_and_both_values() -> None:
    error = tampered(lambda small: small.head.bias[2].add_(5.0))
    assert error.why.startswith("at kept position (")
    assert ", 2): expected " in error.why
    assert ", got " in error.why


def test_the_first_wrong_node_is_named_not_the_last() -> None:
    def both(small: Any) -> None:
        small.second.weight.mul_(2)
        small.head.weight.mul_(2)

    assert "node second" in tampered(both).what


def test_nan_that_the_original_computes_is_blamed_on_the_original() -> None:
    model, plan, _ = made()
    with torch.no_grad():
        model.norm.running_var.fill_(float("nan"))
    with pytest.raises(VerificationError) as caught:
        fxprune.shrink(model, plan)
    assert "the original itself computes NaN or infinite values at node norm" in caught.value.what
    assert "check the weights and the example inputs" in caught.value.hint


def test_nan_inputs_are_blamed_on_the_original() -> None:
    model, plan, small = made()
    with pytest.raises(VerificationError, match="the original itself computes NaN"):
        fxprune.verify(model, small, plan, torch.full_like(X, float("nan")))


def test_the_outcome_reads_as_a_sentence() -> None:
    model, plan, small = made()
    text = str(fxprune.verify(model, small, plan, X))
    assert text.startswith("verified: ")
    for part in ("every node", "example, all negative", "tolerance 1e-09 in float64", " s"):
        assert part in text


def test_the_outcome_tells_the_worst_node_of_all_inputs() -> None:
    model, plan, small = made()
    result = fxprune.verify(model, small, plan, X)
    assert result.where in {node.name for node in small.graph.nodes}
    assert 0 <= result.relative <= result.tolerance
    assert result.seconds > 0


# -- precision ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_models_of_low_precision_are_compared_in_double(dtype: torch.dtype) -> None:
    model = randomize(Network()).to(dtype).eval()
    plan = fxprune.plan(model, X.to(dtype), 0.5)
    small = fxprune.shrink(model, plan)
    result = small.meta["fxprune"].verification
    assert (result.dtype, result.tolerance) == ("float64", 1e-9)
    assert {p.dtype for p in small.parameters()} == {dtype}


def test_a_difference_in_a_half_precision_model_is_caught() -> None:
    model = randomize(Network()).half().eval()
    plan = fxprune.plan(model, X.half(), 0.5)
    small = fxprune.shrink(model, plan, verify=False)
    with torch.no_grad():
        small.get_submodule("second").weight[0, 0].add_(0.01)
    with pytest.raises(VerificationError, match=r"node second .* \(float64\)"):
        fxprune.verify(model, small, plan)


def test_a_graph_that_names_a_precision_is_compared_in_double_throughout() -> None:
    model = randomize(SinglePrecision())
    small = fxprune.shrink(model, fxprune.plan(model, torch.randn(2, 4), 0.5))
    result = small.meta["fxprune"].verification
    assert (result.dtype, result.tolerance) == ("float64", 1e-9)
    assert small(torch.randn(2, 4)).dtype is torch.float32


def test_behind_a_named_precision_too_a_tiny_difference_is_caught() -> None:
    model = randomize(SinglePrecision())
    plan = fxprune.plan(model, torch.randn(2, 4), 0.5)
    small = fxprune.shrink(model, plan, verify=False)
    with torch.no_grad():
        small.get_submodule("last").weight[0, 0].add_(1e-7)
    with pytest.raises(VerificationError, match=r"node last .* \(float64\)"):
        fxprune.verify(model, small, plan)


def test_a_graph_that_runs_in_no_other_precision_is_compared_in_its_own() -> None:
    model = randomize(Bits())
    small = fxprune.shrink(model, fxprune.plan(model, torch.randn(2, 4), 0.5))
    result = small.meta["fxprune"].verification
    assert (result.dtype, result.tolerance) == ("float32", 1e-4)


def test_constants_of_the_trace_are_no_difference_to_a_call() -> None:
    model = randomize(TracedConstant())
    small = fxprune.shrink(model, fxprune.plan(model, torch.randn(2, 4), 0.5))
    result = small.meta["fxprune"].verification
    assert result.dtype == "float64"
    assert result.relative < 1e-12


# -- inputs ---------------------------------------------------------------------------------


def test_without_inputs_random_ones_of_the_plans_shapes_are_made() -> None:
    model, plan, small = made()
    first, again = fxprune.verify(model, small, plan), fxprune.verify(model, small, plan)
    assert (first.absolute, first.relative) == (again.absolute, again.relative)


@pytest.mark.parametrize("shape", [(5, 3, 6, 6), (1, 3, 6, 6), (2, 3, 9, 7)])
def test_inputs_of_another_batch_or_resolution_can_be_verified(shape: tuple[int, ...]) -> None:
    model, plan, small = made()
    assert fxprune.verify(model, small, plan, torch.randn(shape)).every_node


def test_inputs_can_be_keyword_arguments() -> None:
    model, plan, small = made()
    assert fxprune.verify(model, small, plan, {"x": X}).every_node


def test_inputs_are_not_changed() -> None:
    class InPlace(Network):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    model = randomize(InPlace()).eval()
    plan = fxprune.plan(model, X, 0.5)
    x = X.clone()
    fxprune.shrink(model, plan, x)
    assert torch.equal(x, X)


def test_a_plan_of_another_model_is_refused() -> None:
    _, plan, small = made()
    other = randomize(Network())
    other.head = nn.Linear(6, 5)
    with pytest.raises(PlanError, match="another model"):
        fxprune.verify(other, small, plan, X)


def test_a_model_without_data_is_refused_with_a_remedy() -> None:
    model, plan, small = made()
    with pytest.raises(InputError, match="without data") as caught:
        fxprune.verify(copy.deepcopy(model).to("meta"), small, plan)
    assert "verify=False" in caught.value.hint


# -- outputs only ---------------------------------------------------------------------------


def test_of_a_plain_module_the_outputs_are_compared() -> None:
    model, plan, small = made()
    result = fxprune.verify(model, Outside(small), plan, X)
    assert not result.every_node
    assert result.nodes == len(result.inputs)  # one output for each set of inputs
    assert "outputs" in str(result)


def test_of_a_plain_module_a_wrong_output_is_caught() -> None:
    model, plan, small = made()
    with pytest.raises(VerificationError, match="output differs"):
        fxprune.verify(model, Outside(small, offset=1e-4), plan, X)


def test_an_infinite_output_hides_no_difference_beside_it() -> None:
    class Masked(Network):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            return torch.where(out == out.amax(), -torch.inf, out)

    model, plan, small = made(randomize(Masked()).eval())
    assert fxprune.verify(model, Outside(small), plan, X).relative < 1e-12
    with pytest.raises(VerificationError, match="output differs"):
        fxprune.verify(model, Outside(small, offset=1e-3), plan, X)


def test_the_original_is_no_shrunk_model() -> None:
    model, plan, _ = made()
    with pytest.raises(VerificationError, match=r"conv.weight has shape .* instead of"):
        fxprune.verify(model, model, plan, X)


# -- what it leaves alone -------------------------------------------------------------------


def everything(model: nn.Module) -> dict[str, Any]:
    return {
        "flags": {name: module.training for name, module in model.named_modules()},
        "modules": {name: id(module) for name, module in model.named_modules()},
        "tensors": {n: (id(t), t._version) for n, t in model.state_dict(keep_vars=True).items()},
        "values": {name: tensor.tolist() for name, tensor in model.state_dict().items()},
        "grads": {name: parameter.grad for name, parameter in model.named_parameters()},
    }


def _train(model: nn.Module) -> None:
    model.train()


def _mixed(model: Any) -> None:
    model.train()
    model.norm.eval()
    model.drop.eval()


@pytest.mark.parametrize("choose", [nn.Module.eval, _train, _mixed])
@pytest.mark.parametrize("kind", [Network, Training])
def test_both_models_stay_as_they_were_with_flags_and_statistics(
    kind: type[Network], choose: Callable[[nn.Module], object]
) -> None:
    model = randomize(kind())
    choose(model)
    model, plan, small = made(model)
    before = everything(model), everything(small)
    fxprune.verify(model, small, plan, X)
    assert (everything(model), everything(small)) == before


@pytest.mark.parametrize("kind", [Network, Training])
def test_a_model_in_training_mode_with_dropout_is_verified(kind: type[Network]) -> None:
    model = randomize(kind()).train()
    small = fxprune.shrink(model, fxprune.plan(model, X, 0.5))
    result: Verification = small.meta["fxprune"].verification
    assert result.every_node
    assert result.relative < 1e-12
    assert small.training


def test_a_model_that_adds_noise_is_verified() -> None:
    class Noisy(Network):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.head(self.second(x + torch.randn_like(x)).mean((2, 3)))

    model, plan, small = made(randomize(Noisy()).eval())
    assert fxprune.verify(model, small, plan, X).every_node


def test_a_shrunk_model_that_cannot_run_is_caught_at_the_node() -> None:
    def regroup(small: Any) -> None:
        small.second.groups = 2

    error = tampered(regroup)
    assert "the shrunk model fails at node second" in error.what
    assert isinstance(error.__cause__, RuntimeError)


def test_inputs_that_the_original_does_not_take_are_blamed_on_the_original() -> None:
    model, plan, small = made()
    with pytest.raises(InputError, match="the original fails at node conv"):
        fxprune.verify(model, small, plan, torch.randn(2, 4, 6, 6))


def test_the_random_state_of_torch_stays_as_it_was() -> None:
    model, plan, small = made(randomize(Training()).train())
    before = torch.get_rng_state()
    fxprune.verify(model, small, plan)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fused_attention_is_allowed_again_afterwards() -> None:
    allowed = torch.backends.mha.get_fastpath_enabled()
    model, plan, small = made()
    fxprune.verify(model, small, plan)
    assert torch.backends.mha.get_fastpath_enabled() == allowed


def test_verification_holds_under_autograd_and_leaves_no_gradients() -> None:
    model, plan, small = made()
    with torch.enable_grad():
        fxprune.verify(model, small, plan, X.clone().requires_grad_())
    assert all(p.grad is None for p in [*model.parameters(), *small.parameters()])


@pytest.mark.parametrize(
    "name", ["group_norm", "group_norm_layer", "channel_softmax", "channel_softmax_mean"]
)
def test_norms_over_pruned_axes_are_compared_over_the_kept_channels(name: str) -> None:
    entry = ZOO[name]
    model = randomize(entry.build()).eval()
    small = fxprune.shrink(model, fxprune.plan(model, entry.example_inputs(), 0.5))
    report = small.meta["fxprune"]
    assert report.verification.relative < 1e-9
    assert report.renormalized


def test_large_weights_that_only_a_list_holds_are_compared_like_others() -> None:
    class Listing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = [nn.Parameter(torch.randn(300, 300))]

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weights[0]

    class Whole(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return isinstance(m, Listing) or super().is_leaf_module(m, module_qualified_name)

    model = nn.Sequential(Listing(), nn.Linear(300, 300), nn.Linear(300, 2)).eval()
    graph, x = fx.GraphModule(model, Whole().trace(model)), torch.randn(2, 300)
    proof = fxprune.shrink(graph, {"1": 0.5}, x).meta["fxprune"].verification
    assert proof.every_node
    assert proof.undisturbed > 0


@pytest.mark.parametrize("width", [8, 300], ids=["small weights", "weights that pass"])
def test_a_graph_that_writes_into_its_weights_is_refuted(width: int) -> None:
    class Trains(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(width, width), nn.Linear(width, 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.first.weight.mul_(0.5)
            return self.second(torch.relu(self.first(x)))

    model, x = Trains().eval(), torch.randn(3, width)
    before = model.first.weight.clone()
    with pytest.raises(VerificationError, match="does not compute what a call of it computes"):
        fxprune.shrink(model, {"first": 0.5}, x)
    assert torch.equal(model.first.weight, before)


def ill_conditioned() -> tuple[nn.Module, Plan, Tensor]:
    """A batch norm that is left with the last bits of large sums: float32 rounds them away."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(4, 1024), nn.ReLU(), nn.Linear(1024, 16), nn.BatchNorm1d(16, eps=1e-20)),
        *(nn.ReLU(), nn.Linear(16, 2)),
    )
    first, second, norm = (model.get_submodule(name) for name in "023")
    with torch.no_grad():
        first.weight.mul_(1e-4)  # type: ignore[operator]
        first.bias.uniform_(1, 2)  # type: ignore[operator]
        second.weight.normal_(std=30)  # type: ignore[operator]
        second.weight[:, ::3] = 0  # type: ignore[index, operator]
        hidden = copy.deepcopy(model[:3]).double()(torch.randn(4096, 4, dtype=torch.float64))
        norm.running_mean.copy_(hidden.mean(0))  # type: ignore[operator]
        norm.running_var.copy_(hidden.var(0))  # type: ignore[operator]
    x = torch.randn(8, 4)
    model = model.eval()
    return model, fxprune.plan(model, x, channels={"0": range(0, 1024, 3)}), x


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_quick_run_that_rounds_too_much_is_made_in_float64(emit: fxprune.emission.Emit) -> None:
    model, plan, x = ill_conditioned()
    small: Any = fxprune.shrink(model, plan, x, verify="quick", emit=emit)
    proof = small.meta["fxprune"].verification
    assert proof.dtype == "float64"
    assert proof.relative <= proof.tolerance <= 1e-9
    assert proof.shapes


def test_what_differs_in_float64_too_is_told_as_it_was_in_the_types_of_the_model() -> None:
    model, plan, x = ill_conditioned()
    small = fxprune.shrink(model, plan, x, verify=False)
    with torch.no_grad():
        small.get_submodule("2").weight[0, 0] += 1  # type: ignore[index, operator]
    with pytest.raises(VerificationError, match=r"more than 1e-04 \(float32\)"):
        fxprune.verify(model, small, plan, x, quick=True)


def test_a_quick_run_in_the_types_of_the_model_is_told_as_one() -> None:
    model = Network().eval()
    small = fxprune.shrink(model, {"conv": 0.5}, X, verify="quick")
    assert small.meta["fxprune"].verification.dtype == "float32"
