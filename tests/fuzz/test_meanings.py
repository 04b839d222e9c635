"""What functions mean without removed elements, against the same on smaller tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import fuzz.meanings  # noqa: F401 (registers them)
from fuzz.masked import MEANINGS, ContradictionError, Masked, meaning
from fuzz.twins import TWINS

KEPT = torch.tensor([0, 2, 3])


def removed(x: Tensor, dim: int) -> Masked:
    """A tensor of which positions 1 and 4 along a dim are gone, and hold NaN."""
    gone = torch.zeros_like(x, dtype=torch.bool).index_fill(dim, torch.tensor([1, 4]), True)
    return Masked(x.masked_fill(gone, torch.nan), gone)


def kept(x: Tensor, dim: int) -> Tensor:
    return x.index_select(dim, KEPT)


ACROSS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(1),
    "sum": lambda x: x.sum(1),
    "amax": lambda x: x.amax(1),
    "amin": lambda x: x.amin(1),
    "var": lambda x: x.var(1),
    "std": lambda x: x.std(1),
    "variance of all": lambda x: torch.var(x, (1, 2), unbiased=False),
    "norm": lambda x: x.norm(dim=1),
    "vector norm": lambda x: torch.linalg.vector_norm(x, 1, 1),
    "logsumexp": lambda x: x.logsumexp(1),
    "prod": lambda x: x.prod(1),
    "max of all": torch.max,
}
ALONG: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.softmax(1),
    "log softmax": lambda x: functional.log_softmax(x, 1),
    "normalize": lambda x: functional.normalize(x, dim=1),
    "group norm": lambda x: functional.group_norm(x, 1),
    "instance norm": functional.instance_norm,
    "layer norm": lambda x: functional.layer_norm(x.mT, (x.shape[1],)).mT,
    "rms norm": lambda x: functional.rms_norm(x.mT, (x.shape[1],), eps=1e-5).mT,
    "relu": torch.relu,
    "roll of places": lambda x: x.roll(1, 2),
    "padded places": lambda x: functional.pad(x, (1, 2)),
    "pool": lambda x: functional.avg_pool1d(x, 2),
}


@pytest.mark.parametrize("name", ACROSS)
def test_a_reduction_sees_what_is_kept(name: str) -> None:
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    out = ACROSS[name](removed(x, 1))  # type: ignore[arg-type]
    assert not out.gone.any()
    torch.testing.assert_close(out.data, ACROSS[name](kept(x, 1)))


@pytest.mark.parametrize("name", ALONG)
def test_a_function_along_channels_sees_what_is_kept(name: str) -> None:
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    out = ALONG[name](removed(x, 1))  # type: ignore[arg-type]
    assert out.gone.all((0, 2)).tolist() == [False, True, False, False, True]
    torch.testing.assert_close(kept(out.data, 1), ALONG[name](kept(x, 1)))


def test_a_product_sums_over_what_is_kept_on_both_sides() -> None:
    x, w = torch.randn(3, 5), torch.randn(4, 5)
    out = functional.linear(removed(x, 1), removed(w, 1))  # type: ignore[arg-type]
    torch.testing.assert_close(out.data, kept(x, 1) @ kept(w, 1).T)
    with pytest.raises(ContradictionError, match="lost different elements"):
        functional.linear(removed(x, 1), w)  # type: ignore[arg-type]


def test_a_grouped_convolution_loses_the_same_channels_of_each_group() -> None:
    x, w = torch.randn(2, 10, 4), torch.randn(6, 5, 3)
    gone = removed(torch.zeros(2, 2, 5, 4), 2).gone.view(2, 10, 4)
    masked = Masked(x.masked_fill(gone, torch.nan), gone)
    out = functional.conv1d(masked, removed(w, 1), groups=2)  # type: ignore[arg-type]
    expected = functional.conv1d(kept(x.view(2, 2, 5, 4), 2).flatten(1, 2), kept(w, 1), groups=2)
    torch.testing.assert_close(out.data, expected)
    with pytest.raises(ContradictionError, match="other channels"):
        functional.conv1d(removed(x, 1), removed(w, 1), groups=2)  # type: ignore[arg-type]


def test_a_write_into_what_a_convolution_yields_removes_there_as_well() -> None:
    out = functional.conv1d(removed(torch.randn(2, 5, 4), 1), removed(torch.randn(3, 5, 1), 1))  # type: ignore[arg-type]
    gone = torch.tensor([False, True, False]).view(1, 3, 1).expand(2, 3, 4)
    out.add_(Masked(torch.randn(2, 3, 4), gone))
    assert out.gone.all((0, 2)).tolist() == [False, True, False]


def test_a_cross_product_takes_whole_vectors_of_which_some_are_gone() -> None:
    x, y = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    out: Masked = torch.linalg.cross(removed(x, 1), removed(y, 1))  # type: ignore[arg-type]
    torch.testing.assert_close(kept(out.data, 1), torch.linalg.cross(kept(x, 1), kept(y, 1)))
    assert out.gone.all((0, 2)).tolist() == [False, True, False, False, True]
    with pytest.raises(ContradictionError, match="a part is gone"):
        torch.linalg.cross(removed(torch.randn(2, 5), 1), removed(torch.randn(2, 5), 1), dim=1)  # type: ignore[arg-type]


def test_order_along_channels_wants_them_all() -> None:
    with pytest.raises(ContradictionError, match="a part is gone"):
        removed(torch.randn(2, 5), 1).cumsum(1)


def test_a_write_into_a_view_is_a_write_into_the_tensor() -> None:
    x, y = Masked.whole(torch.zeros(2, 6)), removed(torch.ones(2, 5), 1)
    x[:, 1:].add_(y)
    assert x.gone[0].tolist() == [False, False, True, False, False, True]
    assert x.data[0, [0, 1, 3, 4]].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "module",
    [
        *(
            kind(4, 3, 2, batch_first=True, bidirectional=True)
            for kind in (nn.LSTM, nn.GRU, nn.RNN)
        ),
        nn.LSTM(4, 3, proj_size=2, batch_first=True),
        nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=True),
        nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, activation=functional.gelu),
    ],
    ids=["lstm", "gru", "rnn", "projected", "norm first", "norm last"],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_module_written_out_computes_the_same(module: nn.Module) -> None:
    module, x = module.double().eval(), torch.randn(2, 5, 4, dtype=torch.float64)
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                owner._parameters[name] = Masked.whole(parameter.detach())  # type: ignore[assignment]
    out = TWINS[type(module)](module)(Masked.whole(x))
    plain = type(module).forward
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                owner._parameters[name] = nn.Parameter(parameter.data)
    expected = plain(module, x)
    first, wanted = (out[0], expected[0]) if isinstance(out, tuple) else (out, expected)
    torch.testing.assert_close(first.data, wanted.detach())


def test_a_function_has_one_meaning() -> None:
    assert "relu" in MEANINGS
    with pytest.raises(ValueError, match="two meanings"):
        meaning("relu")(lambda *_: None)


def test_a_local_response_norm_sees_channels_that_have_lost_some_places() -> None:
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    gone = torch.zeros(2, 4, 3, dtype=torch.bool)
    gone[:, 1], gone[:, :, 0] = True, True  # a channel, and a place of each
    out = functional.local_response_norm(Masked(x.masked_fill(gone, torch.nan), gone), 3)
    expected = functional.local_response_norm(x[:, [0, 2, 3], 1:], 3)
    assert torch.equal(out.data[:, [0, 2, 3], 1:], expected)
