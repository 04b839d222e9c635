"""The checks of verification: each can fail alone, and says what it found."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxprune
from fxprune import DependencyGraph, InputError, Plan, VerificationError
from fxprune.comparison import Claim
from fxprune.gradient_verification import check_gradients
from fxprune.graph_verification import GraphComparison
from fxprune.input_sets import magnitudes, negative, sizes
from fxprune.meaning import Meaning
from fxprune.precision import Precision
from fxprune.rules import registry
from fxprune.shape_verification import check_shapes

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MASKED_BY_ZERO = torch.library.Library("fxprune_checks", "FRAGMENT")
MASKED_BY_ZERO.define("first_times(Tensor x, float factor) -> Tensor")


@torch.library.impl(MASKED_BY_ZERO, "first_times", "CompositeExplicitAutograd")
def first_times(x: Tensor, factor: float) -> Tensor:
    """Add `factor` times the first channel to all channels."""
    return x + factor * x[:, :1]


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    """Checks on their own run as `verify` runs them."""
    with torch.no_grad():
        yield


@pytest.fixture
def wrong_rule() -> Iterator[None]:
    """A rule that forgets that the first channel reaches all others."""
    op = torch.ops.fxprune_checks.first_times.default

    @fxprune.rule(op)
    def forgetful(call: Any) -> None:
        call.result(call.axes("x"))

    yield
    del registry._RULES[op]


class Network(nn.Module):
    """Two convolutions with batch norm, dropout and a head."""

    def __init__(self, factor: float | None = None) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 6, 3), nn.Linear(6, 4)
        self.drop = nn.Dropout(0.5)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        if self.factor is not None:
            x = torch.ops.fxprune_checks.first_times(x, self.factor)
        return self.head(self.drop(self.second(x)).mean((2, 3)))


def made(
    model: nn.Module, removed: list[int], x: Tensor = X
) -> tuple[DependencyGraph, Plan, fx.GraphModule]:
    deps = fxprune.analyze(model, x)
    plan = fxprune.plan(deps, channels={"first": removed})
    return deps, plan, fxprune.shrink(deps, plan, x, verify=False)


def claim(deps: DependencyGraph, plan: Plan) -> Claim:
    return Claim(deps, plan.layout(deps), Meaning())


def lockstep(deps: DependencyGraph, plan: Plan, small: fx.GraphModule) -> GraphComparison:
    precision = Precision.candidates(deps.state.values(), [X])[0]
    comparison = GraphComparison(claim(deps, plan), small, precision, known_parts=True)
    comparison.run_on({"example": (X,), "all negative": negative((X,))})
    return comparison


# -- shapes -----------------------------------------------------------------------------------


def test_a_shape_that_only_its_own_numbers_hide_is_found_without_data() -> None:
    deps, plan, small = made(Network().double().eval(), [1])
    assert check_shapes(claim(deps, plan), small, known_parts=True) > 10
    node = next(n for n in small.graph.nodes if n.name == "second")
    with small.graph.inserting_after(node):
        wide = small.graph.call_function(F.pad, (node, (0, 1)))
    node.replace_all_uses_with(wide)
    wide.args = (node, (0, 1))
    wide.name, node.name = "second", "inner"
    small.recompile()
    with pytest.raises(VerificationError, match=r"node second has shape .* instead of"):
        check_shapes(claim(deps, plan), small, known_parts=True)


def test_a_parameter_of_another_shape_is_named() -> None:
    deps, plan, small = made(Network().double().eval(), [1])
    small.get_submodule("norm").running_var = torch.ones(8)  # type: ignore[assignment]
    with pytest.raises(VerificationError, match=r"norm.running_var has shape \(8,\) instead of"):
        check_shapes(claim(deps, plan), small, known_parts=False)


# -- non-interference -------------------------------------------------------------------------


@pytest.mark.usefixtures("wrong_rule")
def test_a_way_that_carries_zero_is_found_by_poison_alone() -> None:
    deps, plan, small = made(Network(factor=0.0).double().eval(), [0])
    comparison = lockstep(deps, plan, small)  # nothing differs: zero times the first channel
    with pytest.raises(VerificationError) as caught:
        comparison.check_interference((X,))
    assert caught.value.what == "removed channels reach what is kept at node first_times"
    assert "NaN at removed positions" in caught.value.why
    assert caught.value.why.endswith("groups that lose channels there: first")
    with pytest.raises(VerificationError, match="removed channels reach"):
        fxprune.verify(deps, small, plan, X)
    with pytest.raises(VerificationError, match="removed channels reach"):
        fxprune.verify(deps, small, plan, X, quick=True)


@pytest.mark.usefixtures("wrong_rule")
def test_what_a_removed_channel_reaches_in_a_module_can_be_drawn() -> None:
    deps, plan, _ = made(Network(factor=0.0).double().eval(), [0])
    with pytest.raises(VerificationError, match="removed channels reach") as caught:
        fxprune.shrink(deps, plan, X, emit="module")
    assert caught.value.where == "module second"
    assert list(caught.value.draw().marks) == ["second"]


@pytest.mark.usefixtures("wrong_rule")
def test_a_way_that_carries_more_is_found_by_lockstep_too() -> None:
    deps, plan, small = made(Network(factor=1.0).double().eval(), [0])
    with pytest.raises(VerificationError, match="node first_times differs"):
        lockstep(deps, plan, small)


def test_nan_of_the_original_itself_is_no_interference() -> None:
    class Masked(Network):
        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            hole = torch.full_like(y, torch.nan)[:, :, :1, :1]
            return self.head(self.second(y).mean((2, 3)).nan_to_num()), hole.sum() * 0 + 1  # type: ignore[return-value]

    deps, plan, small = made(Masked().double().eval(), [0])
    precision = Precision.candidates(deps.state.values(), [X])[0]
    comparison = GraphComparison(claim(deps, plan), small, precision, known_parts=True)
    comparison.check_interference((X,))
    assert comparison.result.undisturbed > 0


# -- gradients --------------------------------------------------------------------------------


def gradients(model: nn.Module, change: Any = None) -> tuple[int, float]:
    deps, plan, small = made(model, [1, 4])
    if change is not None:
        change(small)
    precision = Precision.candidates(deps.state.values(), [X])[0]
    return check_gradients(claim(deps, plan), small, precision, (X,), 1e-9)


def test_gradients_agree_in_training_mode() -> None:
    count, worst = gradients(Network().double().eval())
    assert count == 8
    assert worst < 1e-12


def padded_places(x: Tensor, more: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, 0, more))


def new_zeros(x: Tensor, more: int) -> Tensor:
    wide = x.new_zeros(len(x), x.shape[1] + more, *x.shape[2:])
    wide[:, : x.shape[1]] = x
    return wide


@pytest.mark.parametrize("wider", [padded_places, new_zeros])
@pytest.mark.parametrize("norm", ["kept", "exact"])
def test_gradients_agree_where_places_are_coupled_after_they_were_looked_across(
    wider: Any, norm: Any
) -> None:
    class Shortcut(Network):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.head = nn.Conv2d(8, 11, 3, padding=1), nn.Linear(11, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            wide = wider(x, 3)
            mean = wide.mean((1, 2, 3))
            return self.head((wide + self.second(x)).mean((2, 3))) + mean[:, None]

    channels = {"first": [0, 4], "second": [0, 4, 9]}
    model = Shortcut().double().eval()
    plan = fxprune.plan(model, X, channels=channels)
    small = fxprune.shrink(model, plan, X, norm=norm)
    assert small.meta["fxprune"].verification.gradients == 6


def test_a_detached_value_is_found_by_gradients_alone() -> None:
    def detach(small: fx.GraphModule) -> None:
        node = next(n for n in small.graph.nodes if n.name == "second")
        with small.graph.inserting_before(node):
            cut = small.graph.call_method("detach", (node.args[0],))
        node.args = (cut,)
        small.recompile()

    wrong = r"the gradient of (first|norm)\.\w+ differs"
    with pytest.raises(VerificationError, match=wrong) as caught:
        gradients(Network().double().eval(), detach)
    assert caught.value.why == "groups that lose channels there: first"
    deps, plan, small = made(Network().double().eval(), [1])
    detach(small)
    assert lockstep(deps, plan, small).result.nodes > 0
    with pytest.raises(VerificationError, match="the gradient of"):
        fxprune.verify(deps, small, plan, X)


def test_batch_norm_that_is_in_another_mode_is_found_by_gradients() -> None:
    def freeze(small: fx.GraphModule) -> None:
        norm: Any = small.get_submodule("norm")
        norm.track_running_stats, norm.running_mean, norm.running_var = True, *two(6)
        node = next(n for n in small.graph.nodes if n.name == "norm")
        with small.graph.inserting_before(node):
            names = ("running_mean", "running_var", "weight", "bias")
            state = [small.graph.get_attr(f"norm.{name}") for name in names]
        node.op, node.target = "call_function", F.batch_norm
        node.args = (node.args[0], *state, False)
        small.recompile()

    def two(size: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(size).double(), torch.ones(size).double()

    with pytest.raises(VerificationError, match="the gradient of"):
        gradients(Network().double().eval(), freeze)


def test_one_value_for_each_channel_is_differentiated_in_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)).double().eval()
    x = torch.randn(1, 4, dtype=torch.float64)
    small = fxprune.shrink(model, {"0": [1]}, x)
    assert small.meta["fxprune"].verification.gradients == 6


def test_gradients_that_cannot_be_taken_are_told() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x)).argmax(1)

    x = torch.randn(2, 3)
    proof = fxprune.shrink(Whole().eval(), {"first": [0]}, x).meta["fxprune"].verification
    assert proof.gradients == 0


# -- inputs -----------------------------------------------------------------------------------


def test_inputs_are_the_example_negatives_magnitudes_and_sizes() -> None:
    image = torch.randn(2, 3, 9, 6)
    given = (image,)
    sets = {"all negative": negative(given)} | magnitudes(given) | sizes(given)
    assert list(sets) == [
        *("all negative", "a hundred times as large", "a thousandth"),
        *("another batch", "half the size of images"),
    ]
    assert (sets["all negative"][0] <= 0).all()
    assert torch.equal(sets["a hundred times as large"][0], image * 100)
    assert sets["another batch"][0].shape == (5, 3, 9, 6)
    assert sets["half the size of images"][0].shape == (2, 3, 5, 3)


def test_sequences_and_their_masks_are_halved_together() -> None:
    tokens, mask = torch.arange(12).view(2, 6), torch.ones(2, 1, 6, 6)
    sets = sizes((tokens, mask[:, 0]))
    assert [t.shape for t in sets["half the size of dim 1"]] == [(2, 3), (2, 3, 3)]


def test_integers_have_no_magnitude() -> None:
    integers = (torch.arange(4).view(2, 2),)
    assert magnitudes(integers) == {}
    assert list(sizes(integers)) == ["another batch", "half the size of dim 1"]


def test_sizes_that_the_original_does_not_take_are_told() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 196, 2)).double().eval()
    proof = fxprune.shrink(model, {"0": [1]}, X).meta["fxprune"].verification
    assert "half the size of images" not in proof.inputs
    assert "the original fails" in proof.skipped["half the size of images"]


def test_a_number_that_fits_the_example_size_only_is_found() -> None:
    deps, plan, small = made(Network().double().eval(), [1])
    node = next(n for n in small.graph.nodes if n.name == "mean")
    with small.graph.inserting_before(node):
        total = small.graph.call_method("sum", (node.args[0], (2, 3)))
    node.op, node.target, node.args = "call_function", torch.div, (total, 144)
    small.recompile()
    assert lockstep(deps, plan, small).result.nodes > 0
    with pytest.raises(VerificationError, match="node mean differs"):
        fxprune.verify(deps, small, plan, X)


@pytest.mark.parametrize("width", [6, 2])
def test_sizes_at_which_other_channels_are_coupled_are_left_out(width: int) -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(5, width), nn.Conv2d(width, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x).transpose(1, 2).reshape(-1, width, 2, 2)  # of two there, samples
            return self.last(y)

    model, x = Folded().double().eval(), torch.randn(2, 4, 5, dtype=torch.float64)
    proof = fxprune.shrink(model, {"first": [1]}, x).meta["fxprune"].verification
    why = "removed channels are coupled to others there"
    assert proof.skipped["half the size of dim 1"] == why


class Padded(nn.Module):
    """Channels beside new ones, which are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.nn.functional.pad(self.first(x), (0, 0, 0, 0, 2, 2)))


class Filled(nn.Module):
    """Channels that are written into new memory."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        memory = x.new_zeros(x.shape)
        memory[:] = x
        return self.last(memory)


@pytest.mark.parametrize("kind", [Padded, Filled])
def test_a_difference_at_another_batch_is_refuted_where_memory_is_new(
    kind: type[nn.Module],
) -> None:
    model, x = kind().double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    deps = fxprune.analyze(model, x)
    plan = fxprune.plan(deps, channels={"first": [1, 4]})
    small = fxprune.shrink(deps, plan, x)
    assert "another batch" in small.meta["fxprune"].verification.inputs
    image, *_, output = small.graph.nodes
    with small.graph.inserting_before(output):
        batch = small.graph.call_method("size", (image, 0))
        more = small.graph.call_function(operator.sub, (batch, 2))
        output.args = (small.graph.call_function(operator.add, (output.args[0], more)),)
    small.recompile()
    with pytest.raises(VerificationError, match="differs from the original"):
        fxprune.verify(deps, small, plan, x)


@pytest.mark.parametrize("bound", [0.0, -30.0], ids=["all negative", "a hundred times as large"])
def test_a_result_that_fails_on_inputs_of_the_examples_size_is_refuted(bound: float) -> None:
    deps, plan, small = made(Network().double().eval(), [1])
    image = next(iter(small.graph.nodes))
    with small.graph.inserting_after(image):
        least = small.graph.call_method("amin", (image,))
    with small.graph.inserting_after(least):
        # The example has a least value between the two bounds, and a largest one above zero.
        value = least if bound else small.graph.call_method("amax", (image,))
    with small.graph.inserting_after(value):
        fits = small.graph.call_function(operator.ge, (value, bound))
    with small.graph.inserting_after(fits):
        small.graph.call_function(torch._assert, (fits, "out of bounds"))
    small.recompile()
    with pytest.raises(VerificationError, match="the shrunk model fails at node _assert"):
        fxprune.verify(deps, small, plan, X)


def test_an_original_that_is_not_finite_on_large_inputs_is_told() -> None:
    class Exponential(Network):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.second(torch.exp(torch.exp(self.first(x)))).mean((2, 3)))

    proof = made_proof(Exponential().double().eval())
    assert "NaN or infinite" in proof.skipped["a hundred times as large"]


def made_proof(model: nn.Module) -> Any:
    return fxprune.shrink(model, {"first": [1]}, X).meta["fxprune"].verification


# -- what is told -----------------------------------------------------------------------------


def test_the_outcome_tells_why_the_tolerance_is_what_it_is() -> None:
    proof = made_proof(Network().double().eval())
    assert proof.why.startswith("float64 rounds by 1.1e-16; sums have up to 63 terms, 3 follow")
    assert proof.skipped == {}
    assert proof.shapes > 10
    assert proof.undisturbed == 8


def test_an_error_tells_the_groups_that_lose_channels_there() -> None:
    deps, plan, small = made(Network().double().eval(), [1])
    with torch.no_grad():
        small.get_parameter("second.bias").add_(1)
    with pytest.raises(VerificationError) as caught:
        fxprune.verify(deps, small, plan, X)
    assert "node second" in str(caught.value.where)
    assert "expected" in caught.value.why
    assert caught.value.why.endswith("groups that lose channels there: first")


# -- quick ------------------------------------------------------------------------------------


def test_quick_checks_take_the_example_in_the_models_own_types() -> None:
    model = Network().eval()
    small = fxprune.shrink(model, {"first": [1]}, X.float(), verify="quick")
    proof = small.meta["fxprune"].verification
    assert proof.inputs == ("example",)
    assert proof.dtype == "float32"
    assert proof.undisturbed == proof.nodes > 0
    assert proof.shapes > 10


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_quick_checks_find_a_wrong_weight(emit: Any) -> None:
    model = Network().eval()
    plan = fxprune.plan(model, X.float(), channels={"first": [1]})
    small = fxprune.shrink(model, plan, X.float(), emit=emit, verify=False)
    with torch.no_grad():
        small.get_parameter("second.weight")[0, 0, 0, 0] += 1
    with pytest.raises(VerificationError, match="second differs"):
        fxprune.verify(model, small, plan, X.float(), quick=True)


def test_a_quick_check_compares_what_only_an_activation_reads_through_it() -> None:
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)]
    model = nn.Sequential(*layers).eval()
    plan = fxprune.plan(model, X.float(), channels={"0": [1]})
    small = fxprune.shrink(model, plan, X.float(), verify=False)
    proof = fxprune.verify(model, small, plan, X.float(), quick=True)
    assert proof.left_out == 2  # what the norm reads, and what the activation reads
    assert proof.nodes == 3
    assert "but 2 that others follow from" in str(proof)
    with torch.no_grad():
        small.get_parameter("0.bias")[0] += 1
    with pytest.raises(VerificationError, match="node _0 differs"):  # it is named all the same
        fxprune.verify(model, small, plan, X.float(), quick=True)


def test_an_unknown_kind_of_verification_is_refused() -> None:
    with pytest.raises(InputError, match="verify='fast' is not known"):
        fxprune.shrink(Network(), {"first": [1]}, X.float(), verify="fast")  # type: ignore[call-overload]


# -- gradients that are lost, or are forward's own ----------------------------------------------


class Branch(Network):
    """A network with a branch beside it, whose norm nothing else reads."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.up, self.down = nn.GroupNorm(1, 6), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(F.relu(self.norm(self.first(x))))
        return self.head((x + self.down(self.up(self.before(x)))).mean((2, 3)))


@pytest.mark.parametrize("lost", ["", "first.weight", "norm.bias", "second.bias", "head.weight"])
def test_a_live_gradient_that_is_lost_beside_a_branch_that_went_is_refuted(lost: str) -> None:
    deps = fxprune.analyze(Branch().double().eval(), X)
    plan = fxprune.plan(deps, channels={"up": range(5)})
    small = fxprune.shrink(deps, plan, X, verify=False)
    precision = Precision.candidates(deps.state.values(), [X])[0]
    check = functools.partial(check_gradients, claim(deps, plan), small, precision, (X,), 1e-9)
    assert check() == (8, pytest.approx(0.0, abs=1e-12))
    if lost:
        small.get_parameter(lost).requires_grad_(False)
        with pytest.raises(VerificationError, match=f"the gradient of {lost} differs"):
            check()


def test_a_result_that_has_lost_all_gradients_is_refuted() -> None:
    deps, plan, small = made(Network().double().eval(), [1])
    for parameter in small.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(VerificationError, match="the gradient of"):
        fxprune.verify(deps, small, plan, X)


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_gradients_of_forwards_own_are_no_reference(emit: Any) -> None:
    class Frozen(Network):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.first(x)
            return self.head(self.second(x).mean((2, 3)))

    small: Any = fxprune.shrink(Frozen().double().eval(), {"first": [1]}, X, emit=emit)
    proof = small.meta["fxprune"].verification
    assert proof.gradients == 0
    assert "gradients of its own" in proof.skipped["gradients"]


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_forward_that_reads_the_train_flag_is_differentiated_as_it_was_traced(emit: Any) -> None:
    class Switched(Network):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            return x * 2 if self.training else x

    small: Any = fxprune.shrink(Switched().double().eval(), {"first": [1]}, X, emit=emit)
    assert small.meta["fxprune"].verification.gradients == 8


def test_an_operator_that_takes_no_nan_leaves_interference_out() -> None:
    class Chance(Network):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.bernoulli(torch.sigmoid(self.first(x)))
            return self.head(self.second(x).mean((2, 3)))

    proof = made_proof(Chance().double().eval())
    assert "non-interference" in proof.skipped or proof.undisturbed


def test_an_original_that_takes_no_negative_numbers_is_verified_without() -> None:
    class Root(Network):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.second(self.first(torch.sqrt(x))).mean((2, 3)))

    proof = fxprune.shrink(Root().double().eval(), {"first": [1]}, X.abs()).meta["fxprune"]
    assert "NaN or infinite" in proof.verification.skipped["all negative"]


def test_a_result_that_returns_another_type_is_refuted() -> None:
    model, x = Network().eval(), X.float()
    deps, plan, small = made(model, [1], x)
    output = next(n for n in small.graph.nodes if n.op == "output")
    with small.graph.inserting_before(output):
        output.args = (small.graph.call_method("half", (output.args[0],)),)
    small.recompile()
    with pytest.raises(VerificationError):
        fxprune.verify(deps, small, plan, x)
