"""Criteria that take data, against slow, obvious ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxprune
from fxprune import InputError, importance
from fxprune.importance import Criterion
from fxprune.values import tensors
from models_zoo import ZOO, randomize
from tests.importance.test_weights import positions, scored


class Network(nn.Module):
    """Convolutions with a residual stream, batch norm, dropout, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = x + torch.relu(self.second(x))
        return self.head(self.drop(x.mean((2, 3))))


def network() -> Network:
    torch.manual_seed(0)
    model = Network().double().eval()
    assert isinstance(model.norm.running_mean, Tensor)
    model.norm.running_mean.normal_()
    return model


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(4, 2, 5, 5, generator=generator, dtype=torch.float64),
            torch.randint(3, (4,), generator=generator),
        )
        for _ in range(count)
    ]


def loss(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


X = torch.zeros(1, 2, 5, 5, dtype=torch.float64)


def check(model: nn.Module, criterion: Criterion, saliency: dict[str, Tensor]) -> None:
    deps = fxprune.analyze(model, X)
    found = scored(deps, criterion)
    groups = [group for group in deps.groups if group.prunable]
    assert groups
    for group in groups:
        for channel in range(group.size):
            places = positions(deps, group, channel)
            expected = sum(float(saliency[n].select(d, p).sum()) for n, d, p in places)
            assert found[group.ids[channel]] == pytest.approx(expected, rel=1e-10)


def test_taylor_is_the_weight_times_the_gradient_of_the_mean_loss() -> None:
    model, data = network(), batches()
    reference = copy.deepcopy(model)
    (sum(loss(reference, batch) for batch in data) / len(data)).backward()  # type: ignore[union-attr]
    saliency = {n: (p * p.grad).abs().detach() for n, p in reference.named_parameters()}
    check(model, importance.Taylor(data, loss, progress=False), saliency)


def test_taylor_is_what_a_small_change_of_a_weight_does_to_the_loss() -> None:
    model, data = network(), batches(1)
    deps = fxprune.analyze(model, X)
    criterion = importance.Taylor(data, loss, progress=False)
    axis = deps.trace.axes["second.bias"][0]
    (bias,) = [piece.values for piece in criterion.evidence(deps) if piece.axis is axis]
    step = 1e-7
    with torch.no_grad():
        before = float(loss(model, data[0]))
        for channel, weight in enumerate(model.second.bias.tolist()):  # type: ignore[union-attr]
            model.second.bias[channel] -= step * weight  # type: ignore[index]
            changed = abs(float(loss(model, data[0])) - before) / step
            model.second.bias[channel] = weight  # type: ignore[index]
            assert bias[channel] == pytest.approx(changed, rel=1e-4, abs=1e-7)


def test_fisher_is_the_squared_weight_times_the_mean_squared_gradient_of_samples() -> None:
    model, data = network(), batches(2)
    squares = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    count = 0
    for images, targets in data:
        for k in range(len(images)):
            reference = copy.deepcopy(model)
            F.cross_entropy(reference(images[k : k + 1]), targets[k : k + 1]).backward()
            for name, parameter in reference.named_parameters():
                assert parameter.grad is not None
                squares[name] += parameter.grad**2
            count += 1
    parameters = dict(model.named_parameters())
    saliency = {n: (parameters[n] ** 2 * s / count / 2).detach() for n, s in squares.items()}
    check(model, importance.Fisher(data, loss, progress=False), saliency)


@pytest.mark.parametrize("kind", [importance.Taylor, importance.Fisher, importance.Activation])
def test_the_model_is_as_it_was(kind: Any) -> None:
    model = network().train()  # batch norm would update its statistics
    model.first.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    options = {} if kind is importance.Activation else {"loss": loss}
    made = kind(batches(), progress=False, **options)
    fxprune.plan(model, X, 0.5, criterion=made)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not model.first.weight.requires_grad


def test_frozen_weights_count_too() -> None:
    model = network()
    free = importance.Taylor(batches(), loss, progress=False)
    deps = fxprune.analyze(model, X)
    expected = scored(deps, free)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    np.testing.assert_array_equal(scored(fxprune.analyze(model, X), free), expected)


def statistics(model: Network, name: str) -> Any:
    """Of the six channels of the residual stream, where the head and the second layer read them."""
    read = [[], []]  # type: list[list[Tensor]]
    with torch.no_grad():
        for images, _ in batches():
            inner = torch.relu(model.norm(model.first(images)))
            read[0].append(inner.movedim(1, 0).flatten(1))
            read[1].append((inner + torch.relu(model.second(inner))).mean((2, 3)).T)
    found = []
    for values in (torch.cat(pieces, 1) for pieces in read):
        if name == "mean":
            found.append(values.abs().mean(1))
        elif name == "apoz":
            found.append(1 - (values == 0).double().mean(1))
        else:
            found.append(values.var(1, correction=0))
    return found


@pytest.mark.parametrize("name", ["mean", "apoz", "variance"])
def test_activations_are_measured_where_channels_are_read(name: Any) -> None:
    model = network()
    deps = fxprune.analyze(model, X)
    criterion = importance.Activation(batches(), name, progress=False)
    (group,) = [group for group in deps.groups if group.prunable]
    expected = np.stack(statistics(model, name)).sum(0)
    np.testing.assert_allclose(scored(deps, criterion)[group.ids], expected, rtol=1e-10)


def test_heads_are_measured_inside_an_attention_module() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 4, batch_first=True).double().eval()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        model.in_proj_weight.view(3, 4, 2, 8)[2, 2] = 0  # the values of the third head
        assert model.in_proj_bias is not None
        model.in_proj_bias.view(3, 4, 2)[2, 2] = 0
    criterion = importance.Activation([(x, x, x)], inputs=lambda batch: batch, progress=False)
    plan = fxprune.plan(model, (x, x, x), ratio=0.25, criterion=criterion, reduction="max")
    heads = [entry for entry in plan.groups.values() if entry.kind == "heads"]
    assert [entry.removed for entry in heads] == [(2,)]


def test_a_dead_channel_goes_first() -> None:
    model = network()
    with torch.no_grad():
        for layer in (model.second, model.norm):
            layer.weight[4] = 0.0
            layer.bias[4] = 0.0  # type: ignore[index]
    for statistic in ("mean", "apoz", "variance"):
        criterion = importance.Activation(batches(), statistic, progress=False)
        plan = fxprune.plan(model, X, ratio=0.2, criterion=criterion)
        (entry,) = [entry for entry in plan.groups.values() if entry.removed]
        assert entry.removed == (4,)
        assert plan.made["criterion"] == f"Activation({statistic})"


def test_weights_are_not_taken_for_activations() -> None:
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 6)
            self.weight = nn.Parameter(torch.randn(2, 6))

        def forward(self, x: Tensor) -> Tensor:
            return (self.weight @ torch.relu(self.first(x)).t()).t()

    torch.manual_seed(0)
    model, x = Raw().double().eval(), torch.randn(5, 3, dtype=torch.float64)
    deps = fxprune.analyze(model, x)
    found = scored(deps, importance.Activation([x], progress=False))[deps.group("first").ids]
    expected = torch.relu(model.first(x)).abs().mean(0).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_measured(kind: Any) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.head = kind(3, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cells(x)[0])

    model, x = Recurrent().eval(), torch.randn(2, 4, 3)
    criterion = importance.Activation([x], progress=False)
    plan = fxprune.plan(model, x, 0.5, criterion=criterion)
    assert any(entry.removed for entry in plan.groups.values())


def test_samples_count_alike_in_batches_of_any_size() -> None:
    images, targets = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    pieces = [(images[:9], targets[:9]), (images[9:], targets[9:])]
    deps = fxprune.analyze(network(), X)
    whole = scored(deps, importance.Taylor([(images, targets)], loss, progress=False))
    np.testing.assert_allclose(
        scored(deps, importance.Taylor(pieces, loss, progress=False)), whole, rtol=1e-10
    )


def test_complex_weights_count_by_what_the_loss_loses_to_first_order() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 6, dtype=torch.complex128)
            self.last = nn.Linear(6, 2, dtype=torch.complex128)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x)).abs()

    torch.manual_seed(0)
    model, x = Complex(), torch.randn(5, 3, dtype=torch.complex128)
    reference = copy.deepcopy(model)
    reference(x).sum().backward()
    saliency = {
        name: (p.detach() * p.grad.conj()).real.abs()  # type: ignore[union-attr]
        for name, p in reference.named_parameters()
    }
    deps = fxprune.analyze(model, x)
    found = scored(deps, importance.Taylor([x], lambda m, b: m(b).sum(), progress=False))
    group = deps.group("first")
    for channel in range(group.size):
        places = positions(deps, group, channel)
        expected = sum(float(saliency[n].select(d, p).sum()) for n, d, p in places)
        assert found[group.ids[channel]] == pytest.approx(expected, rel=1e-10)


def test_a_tied_model_is_what_the_loss_gets() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.first, self.last = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)
            self.first.weight = self.unused.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x))

        def mean(self, x: Tensor) -> Tensor:
            return self(x).mean()

    x = torch.randn(4, 3)
    criterion = importance.Taylor([x], lambda model, batch: model.mean(batch), progress=False)
    assert fxprune.plan(Tied(), x, 0.5, criterion=criterion).groups["first"].width == 3


def test_batches_are_what_inputs_makes_of_them() -> None:
    model = network()
    named = [{"image": images} for images, _ in batches()]
    criterion = importance.Activation(named, inputs=lambda b: (b["image"],), progress=False)
    plain = importance.Activation(batches(), progress=False)
    deps = fxprune.analyze(model, X)
    np.testing.assert_array_equal(scored(deps, criterion), scored(deps, plain))


class Unlearnable(torch.autograd.Function):
    """Has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise ValueError("no gradient here")


class Turning(nn.Module):
    """Reads its two hidden layers in an order that depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate = nn.Linear(3, 6), nn.Linear(3, 6)
        self.down, self.side = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        up, gate = torch.relu(self.up(x)), torch.relu(self.gate(x))
        if len(x) > 2:
            return self.down(up) + self.side(gate)
        return self.side(gate) + self.down(up)


class Leaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        return True


def test_batches_that_take_different_ways_are_refused() -> None:
    model = nn.Sequential(Turning())
    model = fx.GraphModule(model, Leaves().trace(model)).eval()
    deps = fxprune.analyze(model, torch.zeros(4, 3))
    sizes = [torch.randn(size, 3) for size in (4, 3, 2)]
    fxprune.plan(deps, ratio=0.5, criterion=importance.Activation(sizes[:2], progress=False))
    criterion = importance.Activation(sizes, progress=False)
    with pytest.raises(InputError, match="batches take different ways through the model"):
        fxprune.plan(deps, ratio=0.5, criterion=criterion)


@pytest.mark.parametrize("name", ["residual", "dense_concat", "qkv_fused", "grouped_conv"])
def test_activations_of_batches_of_any_size_add_up(name: str) -> None:
    model = randomize(ZOO[name].build()).double().eval()
    (x,) = tensors(ZOO[name].example_inputs())
    x = torch.randn(7, *x.shape[1:], dtype=torch.float64)
    deps = fxprune.analyze(model, x)
    whole = scored(deps, importance.Activation([x], progress=False))
    pieces = scored(deps, importance.Activation([x[:1], x[1:3], x[3:]], progress=False))
    np.testing.assert_allclose(pieces, whole, rtol=1e-12)


def test_what_no_batch_comes_by_is_not_scored() -> None:
    class Rest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.first(x))[4:])

    deps = fxprune.analyze(Rest().eval(), torch.zeros(6, 3))
    for rows in (6, 4):
        criterion = importance.Activation([torch.randn(rows, 3)], progress=False)
        found = scored(deps, criterion)[deps.group("first").ids]
        assert np.isnan(found).all() == (rows == 4)


def test_sparse_gradients_count_as_dense_ones() -> None:
    def of(sparse: bool) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(9, 6, sparse=sparse), nn.Linear(6, 2))
        x = torch.tensor([1, 1, 4, 8])
        criterion = importance.Fisher([x], lambda m, b: m(b).square().mean(), progress=False)
        return scored(fxprune.analyze(model, x), criterion)

    np.testing.assert_allclose(of(sparse=True), of(sparse=False), rtol=1e-12)


def test_there_is_a_bar_on_the_standard_error_stream_unless_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    deps = fxprune.analyze(network(), X)
    scored(deps, importance.Taylor(batches(), loss, progress=False))
    assert capsys.readouterr() == ("", "")
    scored(deps, importance.Taylor(batches(), loss))
    out, error = capsys.readouterr()
    assert out == ""
    assert "gradients" in error


def endless() -> Iterator[Any]:
    yield from ()


@pytest.mark.parametrize(
    ("criterion", "what"),
    [
        (importance.Taylor([], loss), "there are no batches to compute gradients of"),
        (importance.Taylor(None, loss), "the batches are a NoneType"),  # type: ignore[arg-type]
        (importance.Taylor(batches(), nn.CrossEntropyLoss()), "the loss cannot be computed"),
        (
            importance.Taylor(batches(), lambda m, b: loss(network(), b)),
            "the loss does not depend on the parameters of the model that it is called with",
        ),
        (importance.Activation([()]), "the inputs of a batch cannot be told"),
        (importance.Activation(endless()), "there are no batches to compute activations of"),
        (
            importance.Taylor(batches(), lambda model, batch: model(batch[0])),
            r"the loss is no scalar that depends on the parameters, but shape \(4, 3\)",
        ),
        (
            importance.Taylor(batches(), lambda model, batch: torch.zeros(())),
            r"the loss is no scalar that depends on the parameters, but shape \(\)",
        ),
        (
            importance.Taylor(batches(), lambda m, b: Unlearnable.apply(loss(m, b))),
            "the gradient of the loss cannot be computed: no gradient here",
        ),
        (
            importance.Taylor([(torch.randn(3, 1), [torch.randn(2, 1), torch.randn(2, 1)])], loss),
            "the loss cannot be computed",
        ),
        (
            importance.Taylor([*batches(), (*batches()[0], torch.zeros(3))], loss, progress=False),
            "some batches can be taken apart into samples and others cannot",
        ),
        (
            importance.Fisher(batches(), loss, samples=lambda batch: batch[2]),
            "the samples of a batch cannot be told: tuple index out of range",
        ),
        (importance.Fisher(batches(), loss, samples=lambda batch: []), "there are no batches"),
        (
            importance.Taylor(batches(), lambda m, b: loss(m, b) * torch.inf),
            "the gradient of .* has NaN or infinite values",
        ),
        (
            importance.Fisher([(batches()[0][0], torch.zeros(2))], loss),
            r"a batch of tuple cannot be taken apart into samples\n.*lengths \[2, 4\] along dim 0",
        ),
    ],
)
def test_data_that_tells_nothing_is_refused(criterion: Criterion, what: str) -> None:
    with pytest.raises(InputError, match=what):
        fxprune.plan(network(), X, 0.5, criterion=criterion)


def test_an_unknown_statistic_is_refused() -> None:
    with pytest.raises(InputError, match="unknown statistic 'median'"):
        importance.Activation(batches(), "median")  # type: ignore[arg-type]
