"""`Plan.from_masks`: channels that are constant or unread go, and nothing changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import fxprune
from fxprune import InputError, Plan, PlanError, VerificationError, zeros

GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.randn(2, 3, 9, 9, generator=GENERATOR, dtype=torch.float64)
ROWS = torch.randn(4, 6, generator=GENERATOR, dtype=torch.float64)
WORDS = torch.randn(2, 5, 8, generator=GENERATOR, dtype=torch.float64)


class Net(nn.Module):
    """Layers by name, and a forward that is given."""

    def __init__(self, forward: Any, **layers: nn.Module) -> None:
        super().__init__()
        self.body = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(self, x)
        return result


def made(forward: Any, **layers: nn.Module) -> Any:
    """A model in float64 and eval mode whose every number is random."""
    torch.manual_seed(0)
    model = Net(forward, **layers).double().eval()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            with torch.no_grad():
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_()
    return model


def zero(*places: tuple[Any, Any]) -> None:
    with torch.no_grad():
        for tensor, where in places:
            tensor[where] = 0


def chain(*, norm: bool = True) -> Any:
    """Linear layers of 8, 7 and 5 channels."""

    def forward(self: Any, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.norm(self.first(x)))
        return self.last(torch.relu(self.third(torch.tanh(self.second(x)))))

    return made(
        forward,
        first=nn.Linear(6, 8),
        norm=nn.BatchNorm1d(8) if norm else nn.Identity(),
        second=nn.Linear(8, 7),
        third=nn.Linear(7, 5),
        last=nn.Linear(5, 3),
    )


def lossless(model: nn.Module, x: Any, **options: Any) -> dict[str, list[int]]:
    """What goes; the shrunk model computes what the model computes."""
    plan = Plan.from_masks(model, x, **options)
    small = fxprune.shrink(model, plan, x, norm="exact", constants="fold")
    inputs = x if isinstance(x, tuple) else (x,)
    expected, got = model(*inputs), small(*inputs)
    assert (expected - got).abs().max() <= 1e-12 * expected.abs().max()
    report = small.meta["fxprune"]
    assert report.after.parameters <= report.before.parameters
    return {name: list(group.removed) for name, group in plan.groups.items() if group.removed}


# -- dead by what makes them --------------------------------------------------------------------


def test_a_model_without_zeros_loses_nothing() -> None:
    assert lossless(chain(), ROWS) == {}


def test_filters_of_zeros_go_with_their_constants() -> None:
    model = chain()
    zero(
        (model.first.weight, np.s_[[1, 4]]),
        (model.first.bias, np.s_[4]),
        (model.second.weight, np.s_[2]),
    )
    assert lossless(model, ROWS) == {"first": [1, 4], "second": [2]}


def test_channels_of_a_zero_scale_go_with_their_shift() -> None:
    model = chain()
    zero((model.norm.weight, np.s_[[0, 3]]), (model.norm.bias, np.s_[3]))
    assert lossless(model, ROWS) == {"first": [0, 3]}


def test_what_reads_only_constants_is_a_constant_to_a_fixpoint() -> None:
    model = chain()
    zero((model.norm.weight, np.s_[[0, 3]]))
    zero((model.second.weight, np.s_[2, [1, 2, 4, 5, 6, 7]]))  # reads 0 and 3 only
    zero((model.third.weight, np.s_[4, [0, 1, 3, 4, 5, 6]]))  # reads that one only
    assert lossless(model, ROWS) == {"first": [0, 3], "second": [2], "third": [4]}


def test_a_constant_that_stays_is_a_constant_for_its_readers_all_the_same() -> None:
    model = chain()
    zero((model.norm.weight, np.s_[:]))  # all of the first layer, of which one stays
    found = lossless(model, ROWS)
    assert found == {
        "first": [1, 2, 3, 4, 5, 6, 7],
        "second": [*range(1, 7)],
        "third": [1, 2, 3, 4],
    }


def test_a_gate_of_zeros_hides_what_it_is_multiplied_with() -> None:
    model = made(
        lambda self, x: self.last(self.first(x) * self.gate.weight[:, 0]),
        first=nn.Linear(6, 8),
        gate=nn.Linear(1, 8),
        last=nn.Linear(8, 3),
    )
    zero((model.gate.weight, np.s_[[2, 5]]))
    assert sorted(*lossless(model, ROWS).values()) == [2, 5]


def test_zeros_of_a_depthwise_convolution_are_constants() -> None:
    model = made(
        lambda self, x: self.last(torch.sigmoid(self.depthwise(self.first(x)))).mean((2, 3)),
        first=nn.Conv2d(3, 8, 1),
        depthwise=nn.Conv2d(8, 8, 3, groups=8, padding=1),
        last=nn.Conv2d(8, 4, 1),
    )
    zero((model.depthwise.weight, np.s_[[2, 5]]))
    assert lossless(model, IMAGE) == {"first": [2, 5]}


@pytest.mark.parametrize("alpha", [-1, 0.1])
def test_a_factor_of_a_product_hides_nothing(alpha: float) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        x = torch.addmm(self.second.bias, x, self.second.weight.t(), alpha=alpha)
        return self.last(torch.sigmoid(x))  # type: ignore[no-any-return]  # no types in torch

    layers = {"first": nn.Linear(6, 8), "second": nn.Linear(8, 7), "last": nn.Linear(7, 3)}
    model = made(forward, **layers)
    assert lossless(model, ROWS) == {}
    zero((model.first.weight, np.s_[[1, 4]]))
    assert lossless(model, ROWS) == {"first": [1, 4]}


@pytest.mark.parametrize("beta", [0, 2])
def test_a_bias_with_a_factor_takes_up_no_constants(beta: float) -> None:
    model = made(
        lambda self, x: torch.addmm(
            self.last.bias, torch.sigmoid(self.first(x)), self.last.weight.t(), beta=beta
        ),
        first=nn.Linear(6, 8),
        last=nn.Linear(8, 3),
    )
    zero((model.first.weight, np.s_[[1, 4]]))
    assert lossless(model, ROWS) == {}


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: F.dropout(x, 0.5, training=True),
        lambda x: torch.native_dropout(x, 0.5, train=True)[0],
        lambda x: x + torch.rand(x.shape[0], 8, dtype=x.dtype),
        lambda x: F.alpha_dropout(x, 0.5, training=True),
    ],
)
def test_what_chance_makes_of_a_constant_is_none(drop: Any) -> None:
    model = made(
        lambda self, x: self.last(drop(torch.sigmoid(self.first(x)))),
        first=nn.Linear(6, 8),
        last=nn.Linear(8, 3),
    )
    zero((model.first.weight, np.s_[[1, 4]]))
    assert not any(group.removed for group in Plan.from_masks(model, ROWS).groups.values())


def test_zeros_go_through_dropout_that_is_always_on() -> None:
    model = made(
        lambda self, x: self.last(F.dropout(torch.relu(self.first(x)), 0.5, training=True)),
        first=nn.Linear(6, 8),
        last=nn.Linear(8, 3),
    )
    zero((model.first.weight, np.s_[[1, 4]]), (model.first.bias, np.s_[[1, 4]]))
    assert Plan.from_masks(model, ROWS).groups["first"].removed == (1, 4)


def test_what_is_constant_for_one_token_may_not_be_for_several() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        value = self.value(x) + self.places[: x.shape[1]]
        weights = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        return self.last(weights @ value)  # type: ignore[no-any-return]  # no types in torch

    model = made(forward, **{name: nn.Linear(8, 8) for name in ("query", "key", "value", "last")})
    model.places = nn.Parameter(torch.randn(9, 8, generator=GENERATOR, dtype=torch.float64))
    zero((model.value.weight, np.s_[:3]))
    plan = Plan.from_masks(model, WORDS[:, :1])
    small = fxprune.shrink(model, plan, WORDS[:, :1], norm="exact", constants="fold")
    torch.testing.assert_close(small(WORDS), model(WORDS))


# -- dead by what reads them --------------------------------------------------------------------


def test_what_nothing_reads_goes() -> None:
    model = chain()
    zero((model.second.weight, np.s_[:, [1, 4]]), (model.last.weight, np.s_[:, 0]))
    assert lossless(model, ROWS) == {"first": [1, 4], "third": [0]}


def test_what_only_unread_channels_read_goes_to_a_fixpoint() -> None:
    model = chain()
    zero((model.last.weight, np.s_[:, 2]))
    zero((model.third.weight, np.s_[[0, 1, 3, 4], 5]))  # only channel 2 reads it
    zero((model.second.weight, np.s_[[0, 1, 2, 3, 4, 6], 6]))  # only channel 5 reads it
    assert lossless(model, ROWS) == {"first": [6], "second": [5], "third": [2]}


def test_a_channel_that_some_reader_reads_stays() -> None:
    model = chain()
    zero((model.second.weight, np.s_[1:, 4]))
    assert lossless(model, ROWS) == {}


def test_an_unread_channel_that_the_model_returns_stays() -> None:
    model = made(
        lambda self, x: torch.cat([h := self.first(x), self.last(h)], 1),
        first=nn.Linear(6, 8),
        last=nn.Linear(8, 3),
    )
    zero((model.last.weight, np.s_[:, 2]))
    assert lossless(model, ROWS) == {}


def test_a_filter_before_a_zero_scale_reads_nothing() -> None:
    """Channel 0 stays, for padding; what its filter reads does not count."""
    model = made(
        lambda self, x: self.last(F.relu(self.norm(self.second(self.first(x))))).mean((2, 3)),
        first=nn.Conv2d(3, 8, 1),
        second=nn.Conv2d(8, 6, 1),
        norm=nn.BatchNorm2d(6),
        last=nn.Conv2d(6, 4, 3, padding=1),
    )
    zero((model.norm.weight, np.s_[0]), (model.second.weight, np.s_[1:, 5]))
    with torch.no_grad():
        model.norm.bias[0] = 1.0
    assert lossless(model, IMAGE) == {"first": [5]}


# -- both ---------------------------------------------------------------------------------------


def residual() -> Any:
    def forward(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.out(torch.relu(self.hidden(x)))
        return self.head(x)

    return made(
        forward,
        stem=nn.Linear(6, 8),
        hidden=nn.Linear(8, 5),
        out=nn.Linear(5, 8),
        head=nn.Linear(8, 3),
    )


def test_a_residual_channel_that_is_dead_on_one_side_only_stays() -> None:
    model = residual()
    zero(
        (model.stem.weight, np.s_[1]),
        (model.out.weight, np.s_[2]),
        (model.hidden.weight, np.s_[:, 3]),
    )
    zero((model.head.weight, np.s_[:, 4]))
    assert lossless(model, ROWS) == {}


def test_a_residual_channel_that_is_dead_on_both_sides_goes() -> None:
    model = residual()
    zero((model.stem.weight, np.s_[1]), (model.out.weight, np.s_[1]))
    zero((model.hidden.weight, np.s_[:, 3]), (model.head.weight, np.s_[:, 3]))
    assert lossless(model, ROWS) == {"stem": [1, 3]}


def test_a_residual_channel_that_one_reader_ignores_and_another_finds_constant_goes() -> None:
    model = residual()
    zero(
        (model.stem.weight, np.s_[2]), (model.head.weight, np.s_[:, 2])
    )  # constant at hidden, unread at head
    assert lossless(model, ROWS) == {"stem": [2]}


def test_channels_that_read_one_another_round_a_residual_go_together() -> None:
    model = residual()
    zero((model.head.weight, np.s_[:, 2]))
    zero((model.hidden.weight, np.s_[[0, 1, 2, 3], 2]))  # hidden 4 reads it
    zero((model.out.weight, np.s_[[0, 1, 3, 4, 5, 6, 7], 4]))  # and writes to it only
    assert lossless(model, ROWS) == {"stem": [2], "hidden": [4]}


def test_parts_of_a_concatenation_go_on_their_own() -> None:
    model = made(
        lambda self, x: self.last(torch.sigmoid(torch.cat([self.one(x), self.two(x)], 1))),
        one=nn.Linear(6, 4),
        two=nn.Linear(6, 5),
        last=nn.Linear(9, 3),
    )
    zero((model.one.weight, np.s_[1]), (model.last.weight, np.s_[:, 6]))
    assert lossless(model, ROWS) == {"one": [1], "two": [2]}


def test_a_grouped_convolution_loses_what_every_group_can_spare() -> None:
    model = made(
        lambda self, x: self.last(self.grouped(torch.sigmoid(self.first(x)))).mean((2, 3)),
        first=nn.Conv2d(3, 8, 1),
        grouped=nn.Conv2d(8, 6, 3, groups=2),
        last=nn.Conv2d(6, 4, 1),
    )
    zero(
        (model.first.weight, np.s_[1]),
        (model.grouped.weight, np.s_[3:, 1]),
        (model.first.weight, np.s_[2]),
    )
    assert lossless(model, IMAGE) == {"first": [1]}  # positions 1 and 5; 2 is read in group 0


def test_a_whole_group_of_a_grouped_convolution_goes() -> None:
    model = made(
        lambda self, x: self.last(self.grouped(torch.sigmoid(self.first(x)))).mean((2, 3)),
        first=nn.Conv2d(3, 8, 1),
        grouped=nn.Conv2d(8, 6, 3, groups=2),
        last=nn.Conv2d(6, 4, 1),
    )
    zero((model.last.weight, np.s_[:, 3:]))
    assert lossless(model, IMAGE) == {"first[groups]": [1]}


def test_a_transposed_convolution_is_read_by_its_rows() -> None:
    model = made(
        lambda self, x: self.last(torch.sigmoid(self.up(self.first(x)))).mean((2, 3)),
        first=nn.Conv2d(3, 8, 1),
        up=nn.ConvTranspose2d(8, 6, 2, stride=2),
        last=nn.Conv2d(6, 4, 1),
    )
    zero((model.up.weight, np.s_[[1, 4]]), (model.up.weight, np.s_[:, 2]))
    assert lossless(model, IMAGE) == {"first": [1, 4], "up": [2]}


def upsampled(*, groups: int = 2, bias: bool = True, width: int = 6, kernel: int = 2) -> Any:
    """A grouped transposed convolution between pointwise ones; 8 channels go in."""
    up = nn.ConvTranspose2d(8, width, kernel, stride=kernel, groups=groups, bias=bias)
    return made(
        lambda self, x: self.last(torch.sigmoid(self.up(torch.sigmoid(self.first(x))))).mean(
            (2, 3)
        ),
        first=nn.Conv2d(3, 8, 1),
        up=up,
        last=nn.Conv2d(width, 4, 1),
    )


def test_a_grouped_transposed_convolution_is_read_group_by_group() -> None:
    model = upsampled()
    zero((model.up.weight, np.s_[[1, 5, 2]]))  # 6 is read
    assert lossless(model, IMAGE) == {"first": [1]}  # positions 1 and 5


@pytest.mark.parametrize("bias", [True, False])
def test_constants_of_every_group_go_into_a_transposed_convolution(bias: bool) -> None:
    model = upsampled(bias=bias, kernel=1)
    zero((model.first.weight, np.s_[[1, 5]]), (model.up.weight, np.s_[:, 2]))
    assert lossless(model, IMAGE) == {"first": [1], "up": [2]}


def test_a_whole_group_of_a_transposed_convolution_goes() -> None:
    model = upsampled()
    zero((model.last.weight, np.s_[:, 3:]))
    assert lossless(model, IMAGE) == {"first[groups]": [1]}


def test_a_constant_that_a_transposed_convolution_takes_with_other_taps_at_every_place_stays() -> (
    None
):
    model = upsampled()
    zero((model.first.weight, np.s_[[1, 5]]))
    assert lossless(model, IMAGE) == {}


def test_channels_of_one_group_of_a_transposed_convolution_alone_stay() -> None:
    model = upsampled()
    zero((model.last.weight, np.s_[:, [0, 4]]), (model.up.weight, np.s_[3]))
    assert lossless(model, IMAGE) == {}


def test_a_depthwise_transposed_convolution_passes_channels_through() -> None:
    model = upsampled(groups=8, width=16, kernel=1)
    zero((model.last.weight, np.s_[:, [4, 5]]))  # all that is made of channel 2
    zero((model.first.weight, np.s_[5]))  # two constants, in the place of channel 5
    assert lossless(model, IMAGE) == {"first": [2, 5]}


def test_hidden_channels_of_a_recurrent_layer_go() -> None:
    model = made(
        lambda self, x: self.last(self.rnn(x)[0]),
        rnn=nn.LSTM(8, 6, batch_first=True),
        last=nn.Linear(6, 3),
    )
    rows = torch.arange(24).reshape(4, 6)[:, 2]
    zero((model.rnn.weight_ih_l0, np.s_[rows]), (model.rnn.weight_hh_l0, np.s_[rows]))
    zero(
        (model.rnn.bias_ih_l0, np.s_[rows]), (model.rnn.bias_hh_l0, np.s_[rows])
    )  # zero at all times
    zero((model.rnn.weight_hh_l0, np.s_[:, 4]), (model.last.weight, np.s_[:, 4]))  # unread
    assert sorted(*lossless(model, WORDS).values()) == [2, 4]


def attention(**masks: Any) -> Any:
    def forward(self: Any, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (4, 2)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        x = F.scaled_dot_product_attention(q, k, v, **masks).transpose(1, 2).flatten(2)
        return self.out(x)

    layers = {name: nn.Linear(8, 8) for name in ("q", "k", "v")}
    return made(forward, **layers, out=nn.Linear(8, 8))


def test_heads_that_nothing_reads_go() -> None:
    model = attention()
    zero((model.out.weight, np.s_[:, 2:4]))
    assert lossless(model, WORDS) == {"q[heads]": [1]}


def test_heads_whose_values_are_zero_go() -> None:
    model = attention()
    zero((model.v.weight, np.s_[4:6]), (model.v.bias, np.s_[4:6]))
    assert lossless(model, WORDS) == {"q[heads]": [2]}


def test_heads_whose_values_are_constant_go_into_the_bias_of_their_reader() -> None:
    model = attention()
    zero((model.v.weight, np.s_[4:6]))
    assert lossless(model, WORDS) == {"q[heads]": [2]}


def test_heads_under_a_causal_mask_average_constants_too() -> None:
    model = attention(is_causal=True)
    zero((model.v.weight, np.s_[4:6]))
    assert lossless(model, WORDS) == {"q[heads]": [2]}


def test_heads_that_may_see_no_token_at_all_average_nothing() -> None:
    """Where a mask leaves nothing of a row, the outcome is zero, and not the constant."""
    blind = torch.ones(5, 5, dtype=torch.bool)
    blind[3] = False
    model = attention(attn_mask=blind)
    zero((model.v.weight, np.s_[4:6]))
    assert lossless(model, WORDS) == {}


def test_values_that_differ_from_token_to_token_are_no_constant() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        weights = torch.softmax(self.q(x) @ self.k(x).mT, -1)
        return self.out(weights @ (self.v(x) + self.place.weight))

    layers = {name: nn.Linear(8, 8) for name in ("q", "k", "v")}
    model = made(forward, **layers, place=nn.Embedding(5, 8), out=nn.Linear(8, 8))
    zero((model.v.weight, np.s_[:]), (model.place.weight, np.s_[:, 2]))
    assert lossless(model, WORDS) == {"v": [2]}


def test_an_average_over_channels_that_may_go_is_no_constant() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        h = self.first(x).mT
        averages = torch.softmax(h @ h.mT, -1) @ self.v(x).mT
        return self.last(averages.mT) + x

    layers = {name: nn.Linear(8, 8) for name in ("first", "v", "last")}
    model = made(forward, **layers)
    zero((model.v.weight, np.s_[:]))
    nn.init.ones_(model.v.bias)
    assert lossless(model, WORDS) == {}


def test_what_is_no_softmax_any_more_averages_nothing() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        weights = torch.softmax(self.q(x) @ self.k(x).mT, -1)
        weights *= 1 + x[..., :1].abs()
        return self.out(weights @ self.v(x))

    layers = {name: nn.Linear(8, 8) for name in ("q", "k", "v")}
    model = made(forward, **layers, out=nn.Linear(8, 8))
    zero((model.v.weight, np.s_[2]))
    assert lossless(model, WORDS) == {}


def test_a_softmax_along_another_dim_averages_nothing() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.out(torch.softmax(self.q(x) @ self.k(x).mT, 1) @ self.v(x))

    layers = {name: nn.Linear(8, 8) for name in ("q", "k", "v")}
    model = made(forward, **layers, out=nn.Linear(8, 8))
    zero((model.v.weight, np.s_[2]))
    assert lossless(model, WORDS) == {}


def test_dims_of_heads_go_where_queries_or_keys_are_zero() -> None:
    model = attention()
    zero((model.q.weight, np.s_[1::2]), (model.q.bias, np.s_[1::2]))
    assert lossless(model, WORDS) == {"q[head_dims]": [1]}


# -- norms --------------------------------------------------------------------------------------


def normed() -> Any:
    return made(
        lambda self, x: self.last(self.norm(self.first(x))),
        first=nn.Linear(6, 8),
        norm=nn.LayerNorm(8),
        last=nn.Linear(8, 3),
    )


def test_a_zero_that_a_layer_norm_sees_and_no_one_reads_goes() -> None:
    model = normed()
    zero((model.first.weight, np.s_[[1, 4]]), (model.first.bias, np.s_[[1, 4]]))
    zero((model.norm.weight, np.s_[1]), (model.last.weight, np.s_[:, 4]))
    assert lossless(model, ROWS) == {"first": [1, 4]}


def test_a_layer_norm_makes_more_than_zero_of_a_zero() -> None:
    model = normed()
    zero((model.first.weight, np.s_[1]), (model.first.bias, np.s_[1]))
    assert lossless(model, ROWS) == {}


def test_a_channel_that_only_statistics_see_stays() -> None:
    model = normed()
    zero((model.norm.weight, np.s_[1]), (model.last.weight, np.s_[:, 1]))  # it varies
    zero(
        (model.first.weight, np.s_[2]), (model.norm.weight, np.s_[2])
    )  # it is a constant, and not zero
    assert lossless(model, ROWS) == {}


def test_channels_of_an_instance_norm_go_alone() -> None:
    model = made(
        lambda self, x: self.last(self.norm(self.first(x))).mean((2, 3)),
        first=nn.Conv2d(3, 8, 1),
        norm=nn.GroupNorm(8, 8),
        last=nn.Conv2d(8, 4, 1),
    )
    zero((model.norm.weight, np.s_[2]), (model.last.weight, np.s_[:, 5]))
    assert lossless(model, IMAGE) == {"first": [2, 5]}


def test_zeros_in_a_normalized_weight_go() -> None:
    model = made(
        lambda self, x: self.last(torch.sigmoid(self.first(x))),
        first=nn.Linear(6, 8),
        last=nn.utils.parametrizations.weight_norm(nn.Linear(8, 3)),
    )
    zero((model.last.parametrizations.weight.original1, np.s_[:, [2, 5]]))
    assert lossless(model, ROWS) == {"first": [2, 5]}


# -- what stays because it is not exact ---------------------------------------------------------


def padded() -> Any:
    return made(
        lambda self, x: self.last(F.relu(self.norm(self.first(x)))).mean((2, 3)),
        first=nn.Conv2d(3, 8, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(8),
        last=nn.Conv2d(8, 4, 3, padding=1),
    )


def test_a_constant_that_zero_padding_interrupts_stays_unless_it_is_zero() -> None:
    model = padded()
    zero((model.norm.weight, np.s_[[0, 1, 2, 3]]))
    with torch.no_grad():
        model.norm.bias[:4] = torch.tensor([1.0, 0.0, -1.0, 2.0])
    zero(
        (model.last.weight, np.s_[:, 3, [0, 2]]), (model.last.weight, np.s_[:, 3, 1, ::2])
    )  # reads no border
    assert lossless(model, IMAGE) == {"first": [1, 2, 3]}


def test_a_constant_that_a_sum_reads_stays() -> None:
    model = made(
        lambda self, x: self.last(h := torch.sigmoid(self.first(x))) + h.sum(1, keepdim=True),
        first=nn.Linear(6, 8),
        last=nn.Linear(8, 3),
    )
    zero((model.first.weight, np.s_[2]), (model.last.weight, np.s_[:, 5]))
    assert lossless(model, ROWS) == {}


def test_what_is_counted_stays_though_nothing_else_reads_it() -> None:
    model = made(
        lambda self, x: self.last(h := self.first(x)) + (h > 0).sum(1, keepdim=True),
        first=nn.Linear(6, 8),
        last=nn.Linear(8, 3),
    )
    zero((model.last.weight, np.s_[:, 5]))
    assert lossless(model, ROWS) == {}


def test_a_constant_that_depends_on_the_size_stays() -> None:
    model = made(
        lambda self, x: self.last(torch.sigmoid(self.first(x)).sum(1)),
        first=nn.Linear(8, 6),
        last=nn.Linear(6, 3),
    )
    zero((model.first.weight, np.s_[2]), (model.last.weight, np.s_[:, 4]))
    assert lossless(model, WORDS) == {"first": [4]}


def test_constants_that_differ_where_a_layer_is_used_again_stay() -> None:
    """A shared layer adds one bias, which cannot hold two constants."""
    model = made(
        lambda self, x: self.last(torch.sigmoid(self.first(x))) + self.last(self.second(x)),
        first=nn.Linear(6, 8),
        second=nn.Linear(6, 8),
        last=nn.Linear(8, 3),
    )
    zero(
        (model.first.weight, np.s_[2]),
        (model.second.weight, np.s_[2]),
        (model.last.weight, np.s_[:, 5]),
    )
    assert lossless(model, ROWS) == {"first": [5]}


def test_a_group_that_is_dead_as_a_whole_takes_its_branch_with_it() -> None:
    model = residual()
    zero((model.out.weight, np.s_[:]), (model.out.bias, np.s_[:]))
    assert lossless(model, ROWS) == {"hidden": [0, 1, 2, 3, 4]}


def test_a_group_of_constants_takes_its_branch_with_it_into_a_constant() -> None:
    model = residual()
    zero((model.hidden.weight, np.s_[:]))
    with torch.no_grad():
        model.hidden.bias.abs_()
    assert lossless(model, ROWS) == {"hidden": [0, 1, 2, 3, 4]}
    model.out.bias = None  # then nothing can take them up
    assert lossless(model, ROWS) == {"hidden": [1, 2, 3, 4]}


def test_a_branch_that_is_stacked_goes() -> None:
    model = made(
        lambda self, x: self.last(torch.stack([x, self.second(self.first(x).relu())]).sum(0)),
        first=nn.Linear(6, 5),
        second=nn.Linear(5, 6),
        last=nn.Linear(6, 3),
    )
    zero((model.second.weight, np.s_[:]))
    assert lossless(model, ROWS) == {"first": [0, 1, 2, 3, 4]}


def test_one_channel_of_a_dead_group_stays_where_its_branch_cannot_go() -> None:
    model = made(  # a matrix product takes no constant in the place of what has gone
        lambda self, x: self.last(x @ self.second(self.first(x).relu()).mT @ x),
        first=nn.Linear(6, 5),
        second=nn.Linear(5, 6),
        last=nn.Linear(6, 3),
    )
    zero((model.second.weight, np.s_[:]))
    assert lossless(model, ROWS) == {"first": [1, 2, 3, 4]}
    plan = Plan.from_masks(model, ROWS)
    assert plan == Plan.from_json(plan.to_json())
    assert " ".join(str(plan).split()).endswith(
        "- first keeps a channel: node matmul cannot go on without a branch that has no channels"
        " left: 'matmul' takes getattr_1, which no longer depends on the inputs"
    )


def test_a_branch_that_cannot_go_keeps_no_other_branch() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        x = x + self.four(self.three(x).relu())
        return self.last(x @ self.second(self.first(x).relu()).mT @ x)

    model = made(
        forward,
        first=nn.Linear(6, 5),
        second=nn.Linear(5, 6),
        three=nn.Linear(6, 5),
        four=nn.Linear(5, 6),
        last=nn.Linear(6, 3),
    )
    zero((model.second.weight, np.s_[:]), (model.four.weight, np.s_[:]))
    assert lossless(model, ROWS) == {"three": [0, 1, 2, 3, 4], "first": [1, 2, 3, 4]}


def test_a_constant_that_stays_keeps_no_branch() -> None:
    model = made(
        lambda self, x: self.last(self.wide(x) + self.out(self.hidden(x).relu())).mean((2, 3)),
        wide=nn.Conv2d(3, 8, 1),
        hidden=nn.Conv2d(3, 5, 1),
        out=nn.Conv2d(5, 8, 1),
        last=nn.Conv2d(8, 4, 3, padding=1),
    )
    zero((model.out.weight, np.s_[:]), (model.wide.weight, np.s_[2]))  # 2 stays for its padding
    assert lossless(model, IMAGE) == {"hidden": [0, 1, 2, 3, 4]}
    assert "kept" not in Plan.from_masks(model, IMAGE).made


def test_nothing_of_ignored_modules_goes() -> None:
    model = chain()
    zero((model.first.weight, np.s_[1]), (model.second.weight, np.s_[2]))
    assert lossless(model, ROWS, ignore=["first"]) == {"second": [2]}


# -- masks of torch.nn.utils.prune --------------------------------------------------------------


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(6, 4),
    )
    return nn.Sequential(*layers).double().eval()


def masked(kind: str) -> nn.Sequential:
    model = convolutions()
    if kind == "structured":
        prune.ln_structured(model[0], "weight", 0.25, n=2, dim=0)
        prune.ln_structured(model[3], "weight", 0.25, n=2, dim=1)
    elif kind == "unstructured":
        prune.l1_unstructured(model[3], "weight", 0.98)
        prune.l1_unstructured(model[7], "weight", 0.8)
    else:
        layers = [(model[k], "weight") for k in (0, 3, 7)]
        prune.global_unstructured(layers, prune.L1Unstructured, amount=0.95)
    with torch.no_grad():
        model[1].bias.normal_()
    return model


@pytest.mark.parametrize("kind", ["structured", "unstructured", "global"])
def test_masks_in_place_and_permanent_ones_give_the_same_plan(kind: str) -> None:
    model = masked(kind)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = lossless(model, IMAGE)
    assert found == lossless(fxprune.make_permanent(model), IMAGE) != {}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_masked_channels_go_and_other_masks_stay_in_place() -> None:
    model = masked("structured")
    sparse = fxprune.sparsify(model, 0.3, ignore=["7"])
    plan = Plan.from_masks(sparse, IMAGE)
    small = fxprune.shrink(sparse, plan, IMAGE, norm="exact", constants="fold")
    torch.testing.assert_close(small(IMAGE), sparse(IMAGE), rtol=1e-12, atol=1e-12)
    assert plan.groups["0"].width <= 4
    assert "3.weight_mask" in dict(small.named_buffers())
    plain = fxprune.make_permanent(small)
    torch.testing.assert_close(plain(IMAGE), sparse(IMAGE), rtol=1e-12, atol=1e-12)
    assert fxprune.sparsity(plain).zeros > 0


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_plan_of_masks_makes_a_graph_and_a_module(emit: Any) -> None:
    model = chain()
    zero((model.norm.weight, np.s_[[0, 3]]))
    zero((model.second.weight, np.s_[2, [1, 2, 4, 5, 6, 7]]))
    plan = Plan.from_json(Plan.from_masks(model, ROWS).to_json())
    small = fxprune.shrink(model, plan, ROWS, constants="fold", emit=emit)
    torch.testing.assert_close(small(ROWS), model(ROWS), rtol=1e-12, atol=1e-12)


def test_the_plan_tells_how_it_was_made_and_takes_an_analysis() -> None:
    model = chain()
    zero((model.first.weight, np.s_[1]))
    deps = fxprune.analyze(model, ROWS)
    plan = Plan.from_masks(deps, ignore=["third"])
    assert plan == Plan.from_masks(model, ROWS, ignore=["third"])
    assert plan.made == {"from": "masks", "ignore": ["third"]}


def test_another_size_of_input_still_works() -> None:
    model = padded()
    zero((model.last.weight, np.s_[:, [1, 5]]))
    plan = Plan.from_masks(model, IMAGE)
    small = fxprune.shrink(model, plan, IMAGE, norm="exact", constants="fold")
    other = torch.randn(3, 3, 14, 11, dtype=torch.float64)
    torch.testing.assert_close(small(other), model(other), rtol=1e-12, atol=1e-12)


def test_a_channel_that_is_not_dead_after_all_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain()
    zero((model.first.weight, np.s_[1]))
    monkeypatch.setattr(zeros, "spread", lambda reads, stays: stays)  # nothing reads anything
    monkeypatch.setattr(zeros, "_refused", lambda deps, values, gone: np.flatnonzero(gone)[:0])
    with pytest.raises(VerificationError, match="channels that were taken for dead are not"):
        Plan.from_masks(model, ROWS)


# -- refusals -----------------------------------------------------------------------------------


def test_a_forward_that_decides_by_values_is_refused() -> None:
    model = made(
        lambda self, x: self.last(self.first(x)) if x.sum() > 0 else self.last(x[:, :4] * 2),
        first=nn.Linear(6, 4),
        last=nn.Linear(4, 3),
    )
    with pytest.raises(PlanError, match="it cannot be told which channels are dead"):
        Plan.from_masks(model, ROWS)


def test_a_model_without_data_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    with pytest.raises(PlanError, match="load the weights first"):
        Plan.from_masks(model, torch.empty(4, 6, device="meta"))


def test_names_that_mean_nothing_are_refused() -> None:
    with pytest.raises(PlanError, match="no module"):
        Plan.from_masks(chain(), ROWS, ignore=["fourth"])
    with pytest.raises(InputError, match="ignore is 'first'"):
        Plan.from_masks(chain(), ROWS, ignore="first")
    with pytest.raises(InputError, match="ignore is 3"):
        Plan.from_masks(chain(), ROWS, ignore=3)  # type: ignore[arg-type]
