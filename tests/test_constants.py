"""`constants="fold"`: what removed channels still emit goes into the biases that read them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxprune
from fxprune import RewriteError, VerificationError

IMAGE = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Convolutions(nn.Module):
    """Batch norm and sigmoid between two convolutions, then linear layers."""

    def __init__(self, *, padding: int = 0, bias: bool = True, mode: str = "zeros") -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3, padding=padding, bias=bias, padding_mode=mode)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.hidden = nn.Linear(6, 10)
        self.last = nn.Linear(10, 4)
        for value in (self.norm.weight, self.norm.bias, self.norm.running_mean):
            nn.init.normal_(value)  # type: ignore[arg-type]  # there is one

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.sigmoid(self.norm(self.first(x))))
        x = self.depthwise(torch.cos(x)).mean((2, 3))
        return self.last(torch.exp(self.hidden(x)))


class Rows(nn.Module):
    """A hidden layer whose reader is given."""

    def __init__(self, reader: Any = None, *, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8, bias=bias)
        self.reader = reader
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        return self.last(x) if self.reader is None else self.reader(self, x)


def made(kind: Any = Convolutions, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(**options).double().eval()


def constant(model: Any) -> dict[str, list[int]]:
    """Make channels of a `Convolutions` constant: by batch norm, and by weights of zero."""
    with torch.no_grad():
        model.norm.weight[[1, 5]] = 0
        model.second.weight[[2]] = 0
        model.hidden.weight[[3, 4]] = 0
    return {"first": [1, 5], "second": [2], "hidden": [3, 4]}


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize("bias", [True, False])
def test_without_constant_channels_the_result_is_the_unmasked_original(
    emit: Any, bias: bool
) -> None:
    model = made(bias=bias)
    plan = fxprune.plan(model, IMAGE, channels=constant(model))
    small = fxprune.shrink(model, plan, IMAGE, constants="fold", emit=emit)
    torch.testing.assert_close(small(IMAGE), model(IMAGE), rtol=1e-12, atol=1e-12)
    dropped = fxprune.shrink(model, plan, IMAGE, emit=emit)
    assert (dropped(IMAGE) - model(IMAGE)).abs().max() > 1e-3


def test_other_channels_are_those_without_inputs() -> None:
    model = made()
    plan = fxprune.plan(model, IMAGE, channels={"first": [0, 3], "hidden": [1]})
    small = fxprune.shrink(model, plan, IMAGE, constants="fold")
    with torch.no_grad():
        model.first.weight[[0, 3]] = 0
        model.hidden.weight[[1]] = 0
    torch.testing.assert_close(small(IMAGE), model(IMAGE), rtol=1e-12, atol=1e-12)


def test_the_worked_number_of_the_documentation() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(1, 2), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.first(x)))

    model = Two().double().eval()
    with torch.no_grad():
        model.first.bias.copy_(torch.tensor([2.0, 0.5]))
        model.last.weight.copy_(torch.tensor([[5.0, 3.0]]))
        model.last.bias.fill_(1.0)
    x = torch.ones(1, 1, dtype=torch.float64)
    plan = fxprune.plan(model, x, channels={"first": [0]})
    biases = {
        kind: fxprune.shrink(model, plan, x, constants=kind).get_parameter("last.bias").item()
        for kind in ("drop", "fold")
    }
    assert biases == {"drop": 1.0, "fold": 11.0}


def test_parameters_never_grow_by_a_new_bias() -> None:
    model = made(bias=False)
    plan = fxprune.plan(model, IMAGE, channels={"first": [0]})
    small = fxprune.shrink(model, plan, IMAGE, constants="fold")
    assert small.get_parameter("second.bias").shape == (6,)
    report = small.meta["fxprune"]
    dropped = fxprune.shrink(model, plan, IMAGE).meta["fxprune"]
    assert report.after.parameters == dropped.after.parameters + 6 < report.before.parameters


def test_a_model_in_single_precision_is_folded_to_its_rounding() -> None:
    single = made()
    constant(single)
    small = fxprune.shrink(single.float(), plan_of(single), IMAGE.float(), constants="fold")
    proof = small.meta["fxprune"].verification
    assert proof.relative < 1e-6
    assert proof.tolerance < 2e-5
    torch.testing.assert_close(small(IMAGE.float()), single(IMAGE.float()), rtol=1e-4, atol=1e-5)


def plan_of(model: Any) -> Any:
    channels = {"first": [1, 5], "second": [2], "hidden": [3, 4]}
    return fxprune.plan(model, IMAGE.float(), channels=channels)


def refused(model: nn.Module, x: Tensor, channels: dict[str, list[int]]) -> RewriteError:
    plan = fxprune.plan(model, x, channels=channels)
    with pytest.raises(RewriteError) as caught:
        fxprune.shrink(model, plan, x, constants="fold")
    return caught.value


def test_zero_padding_at_the_reader_is_refused_with_channels_and_reason() -> None:
    error = refused(made(padding=1), IMAGE, {"first": [1, 5]})
    assert error.what == "constants of removed channels cannot be folded: first [1, 5]"
    assert error.why == "the operator pads with zeros, where the constant is missing"
    assert "module second" in str(error.where)


def test_zero_padding_of_a_zero_constant_is_no_obstacle() -> None:
    model = made(padding=1)
    with torch.no_grad():
        model.norm.weight[1] = 0
        model.norm.bias[1] = -1e4  # sigmoid makes 0 of it
    plan = fxprune.plan(model, IMAGE, channels={"first": [1]})
    small = fxprune.shrink(model, plan, IMAGE, constants="fold")
    torch.testing.assert_close(small(IMAGE), model(IMAGE), rtol=1e-12, atol=1e-12)


def test_padding_with_what_is_there_is_no_obstacle() -> None:
    model = made(padding=1, mode="replicate")
    plan = fxprune.plan(model, IMAGE, channels=constant(model))
    small = fxprune.shrink(model, plan, IMAGE, constants="fold")
    torch.testing.assert_close(small(IMAGE), model(IMAGE), rtol=1e-12, atol=1e-12)


def test_zero_padding_before_the_reader_is_refused() -> None:
    class Padded(Convolutions):
        def forward(self, x: Tensor) -> Tensor:
            x = F.pad(torch.sigmoid(self.norm(self.first(x))), (1, 1, 1, 1))
            return self.second(x).mean((2, 3))

    error = refused(made(Padded), IMAGE, {"first": [0]})
    assert error.why == "the constant differs from place to place, as zero padding makes it"


def test_a_channel_that_depends_on_the_inputs_is_refused() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.last = nn.Embedding(5, 8), nn.Linear(8, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.last(self.table(tokens))

    tokens = torch.tensor([[0, 3, 4, 1]])
    error = refused(made(Embedded), tokens, {"table": [2]})
    assert error.why == "the channel carries what depends on the inputs"


def test_a_sum_over_channels_has_no_bias() -> None:
    model = made(Rows, reader=lambda self, x: self.last(x) + x.sum(1, keepdim=True))
    error = refused(model, ROWS, {"first": [2]})
    assert error.why == "sum reads the channel, and adds no bias that could take it up"


def test_a_product_of_two_values_has_no_bias() -> None:
    model = made(Rows, reader=lambda self, x: (x @ x.t()).sum(1, keepdim=True) + self.last(x))
    error = refused(model, ROWS, {"first": [2]})
    assert error.why == "mm reads the channel, and adds no bias that could take it up"


def test_a_bias_that_is_read_elsewhere_too_is_refused() -> None:
    model = made(Rows, reader=lambda self, x: self.last(x) * self.last.bias)
    assert refused(model, ROWS, {"first": [2]}).why == "last.bias is read by other operators, too"


def test_a_layer_that_reads_different_constants_is_refused() -> None:
    model = made(Rows, reader=lambda self, x: self.last(x) + self.last(torch.exp(x)))
    why = refused(model, ROWS, {"first": [2]}).why
    assert why == "last.bias is added at several places, where constants differ"


def test_a_layer_that_reads_the_same_constants_twice_is_folded_once() -> None:
    model = made(Rows, reader=lambda self, x: self.last(x) + self.last(x))
    with torch.no_grad():
        model.first.weight[2] = 0
    plan = fxprune.plan(model, ROWS, channels={"first": [2]})
    small = fxprune.shrink(model, plan, ROWS, constants="fold")
    torch.testing.assert_close(small(ROWS), model(ROWS), rtol=1e-12, atol=1e-12)


def test_a_constant_in_exact_statistics_is_refused() -> None:
    model = made(Rows, reader=lambda self, x: self.last(x / x.mean(1, keepdim=True)))
    plan = fxprune.plan(model, ROWS, channels={"first": [2]})
    with pytest.raises(RewriteError, match="cannot be folded"):
        fxprune.shrink(model, plan, ROWS, constants="fold", norm="exact")


def test_rectified_channels_are_no_constants_for_being_zero_on_the_example() -> None:
    class Dead(Rows):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.first(x) - 1e5))  # zero on all inputs that are tried

    model = made(Dead)
    plan = fxprune.plan(model, ROWS, channels={"first": [2]})
    small = fxprune.shrink(model, plan, ROWS, constants="fold")
    with torch.no_grad():
        model.first.weight[2] = 0
    far = 1e7 * ROWS
    torch.testing.assert_close(small(far), model(far), rtol=1e-9, atol=1e-9)
    assert model(far).abs().max() > 1e3


def test_a_result_with_dropped_constants_is_refuted_as_folded() -> None:
    model = made()
    plan = fxprune.plan(model, IMAGE, channels={"first": [0]})
    small = fxprune.shrink(model, plan, IMAGE)
    with pytest.raises(VerificationError, match="node second differs"):
        fxprune.verify(model, small, plan, IMAGE, constants="fold")


def test_the_original_is_not_changed_by_folding() -> None:
    model = made()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = fxprune.plan(model, IMAGE, channels=constant(model))
    before.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
    fxprune.shrink(model, plan, IMAGE, constants="fold")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# -- what is no constant, or has no bias --------------------------------------------------------


def told(model: nn.Module, inputs: Any, **options: Any) -> RewriteError:
    with pytest.raises(RewriteError) as caught:
        fxprune.shrink(model, {"first": [2]}, inputs, constants="fold", **options)
    return caught.value


def test_a_sum_over_places_is_another_constant_for_other_sizes() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
            nodes = torch.sigmoid(self.first(x))
            return self.last(nodes.sum(0, keepdim=True)), edges * 2

    x = torch.randn(7, 6, dtype=torch.float64)
    error = told(made(Pooled), (x, torch.arange(24).view(2, 12)), verify=False)
    assert error.why == "the constant is another one for inputs of another size"
    assert "first [2]" in error.what


def test_a_number_among_the_inputs_is_not_known() -> None:
    class Scaled(Rows):
        def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
            return self.last(torch.sigmoid(self.first(x)) * gain)

    why = told(made(Scaled), (ROWS, 2.0), verify=False).why
    assert why == "the graph computes with the number gain, which may be another one"


def test_what_is_written_through_a_view_is_not_known() -> None:
    class Flagged(Rows):
        def forward(self, x: Tensor) -> Tensor:
            flag = torch.zeros(x.shape[0], 1, dtype=torch.bool)
            flag[:, 0] = x[:, 0] > 1e6
            return self.last(torch.sigmoid(self.first(x)) * flag.to(x.dtype))

    assert told(made(Flagged), ROWS, verify=False).why.startswith(
        "the channel carries what depends"
    )


def test_tied_biases_are_refused() -> None:
    model = made(Rows, reader=lambda self, x: self.last(x) + self.other(x[:, :4]))
    model.other = nn.Linear(4, 3).double()
    model.last.bias = model.other.bias
    why = told(model, ROWS, verify=False).why
    assert why == "last.bias is added at several places, where constants differ"


def test_a_weight_that_is_computed_takes_no_new_bias() -> None:
    model = made(Rows)
    model.last = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3, bias=False).double())
    told(model, ROWS, verify=False)


def test_weights_that_are_normalized_over_removed_channels_are_refused() -> None:
    model = made(Rows)
    model.last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3).double())
    assert "adds no bias" in told(model, ROWS, verify=False).why


class Attention(nn.Module):
    """A hidden layer that an attention reads as keys and values, and perhaps as queries."""

    def __init__(self, *, bias: bool = True, is_crossed: bool = False) -> None:
        super().__init__()
        self.first, self.other = nn.Linear(6, 8), nn.Linear(6, 8)
        self.mixing = nn.MultiheadAttention(8, 2, bias=bias)
        self.is_crossed = is_crossed

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        mixed = self.mixing(self.other(x) if self.is_crossed else hidden, hidden, hidden)
        return mixed[0]  # type: ignore[no-any-return]  # no types in torch


def test_an_attention_without_a_bias_is_refused_with_the_advice_to_give_it_one() -> None:
    error = told(made(Attention, bias=False), ROWS[None], verify=False)
    assert "adds no parameter" in error.why
    assert error.hint.startswith("give the product a bias in the same operator")
    fxprune.shrink(made(Attention), {"first": [2]}, ROWS[None], constants="fold")


def test_a_bias_of_which_products_read_parts_of_several_sizes_is_refused() -> None:
    error = told(made(Attention, is_crossed=True), ROWS[None], verify=False)
    assert "mixing.in_proj_bias" in error.why


def test_narrow_types_are_refused() -> None:
    model = made(Rows).to(torch.bfloat16)
    assert "would round too much" in told(model, ROWS.bfloat16(), verify=False).why


def test_a_narrow_tensor_elsewhere_loosens_no_tolerance() -> None:
    model = made(Rows)
    model.register_buffer("unused", torch.zeros(1, dtype=torch.bfloat16))
    small = fxprune.shrink(model, {"first": [2]}, ROWS, constants="fold")
    assert small.meta["fxprune"].verification.tolerance == 1e-9
