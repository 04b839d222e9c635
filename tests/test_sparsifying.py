"""`sparsify`, `sparsity` and `make_permanent`: masks of single weights, on copies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import fxprune
from fxprune import InputError

IMAGE = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=False)),
        *(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
    )
    return nn.Sequential(*layers).double().eval()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_smallest_weights_of_all_layers_are_zeroed() -> None:
    model = net()
    report = fxprune.sparsity(fxprune.sparsify(model, 0.5))
    weights = torch.cat([model[k].weight.flatten().abs() for k in (0, 3, 7)])
    cut = weights.sort().values[len(weights) // 2]
    assert report.layers == {
        str(k): (int((model[k].weight.abs() < cut).sum()), model[k].weight.numel())
        for k in (0, 3, 7)
    }
    assert report.zeros == report.total // 2
    assert report.sparsity == report.zeros / report.total


@pytest.mark.parametrize("method", ["l1", "random"])
def test_each_layer_loses_the_same_fraction_by_scope_layer(method: Any) -> None:
    report = fxprune.sparsity(fxprune.sparsify(net(), 0.25, "layer", method=method))
    assert {name: zeros / total for name, (zeros, total) in report.layers.items()} == {
        "0": 0.25,
        "3": 0.25,
        "7": 0.25,
    }


def test_the_input_model_is_not_changed() -> None:
    model = net()
    before = state(model)
    sparse = fxprune.sparsify(model, 0.5)
    after = state(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    shared = {t.data_ptr() for t in model.state_dict().values()}
    assert shared.isdisjoint(t.data_ptr() for t in sparse.state_dict().values())


def test_masks_of_masks_do_not_reach_the_model_that_was_given() -> None:
    once = fxprune.sparsify(fxprune.sparsify(net(), 0.5, "layer"), 0.5, "layer")
    before, methods = state(once), str(vars(next(iter(once[0]._forward_pre_hooks.values()))))
    twice = fxprune.sparsify(once, 0.5, "layer")
    assert all(torch.equal(before[name], tensor) for name, tensor in once.state_dict().items())
    assert str(vars(next(iter(once[0]._forward_pre_hooks.values())))) == methods
    assert fxprune.sparsity(once).layers["3"] == (324, 432)
    assert fxprune.sparsity(twice).layers["3"] == (378, 432)


def test_masks_stay_in_place_so_that_training_keeps_the_zeros() -> None:
    sparse = fxprune.sparsify(net(), 0.5)
    assert isinstance(sparse[0].weight_mask, Tensor)
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1)
    before = fxprune.sparsity(sparse)
    for _ in range(2):
        optimizer.zero_grad()
        sparse(IMAGE).sum().backward()
        optimizer.step()
    assert fxprune.sparsity(sparse) == before


def test_ignored_modules_keep_their_weights() -> None:
    sparse = fxprune.sparsify(net(), 0.5, ignore=["0", "[7]"])
    assert [z > 0 for z, _ in fxprune.sparsity(sparse).layers.values()] == [False, True, False]
    assert "weight" in dict(sparse[0].named_parameters())


def test_random_masks_follow_the_seed_and_leave_the_generator_alone() -> None:
    def masks(seed: int) -> Tensor:
        return fxprune.sparsify(net(), 0.5, method="random", seed=seed)[0].weight_mask

    torch.manual_seed(7)
    expected = torch.rand(1)
    model = net()
    torch.manual_seed(7)
    fxprune.sparsify(model, 0.5, method="random")
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(masks(1), masks(1))
    assert not torch.equal(masks(1), masks(2))


def test_the_report_reads_as_a_table() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight[0] = 0
    assert str(fxprune.sparsity(model)).split("\n") == [
        "sparsity 33.3%: 4 of 12 weights are zero",
        "  0   50.0%  4 of 8",
        "  2    0.0%  0 of 4",
    ]


def test_a_model_without_weights_has_no_sparsity() -> None:
    assert fxprune.sparsity(nn.Sequential(nn.ReLU())).sparsity == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"amount": 1.0}, "amount is 1.0"),
        ({"amount": -0.1}, "amount is -0.1"),
        ({"amount": True}, "amount is True"),
        ({"amount": float("nan")}, "amount is nan"),
        ({"amount": 0.5, "scope": "both"}, "scope='both' is not known"),
        ({"amount": 0.5, "method": "l2"}, "method='l2' is not known"),
        ({"amount": 0.5, "ignore": "0"}, "ignore is '0'"),
        ({"amount": 0.5, "method": ["l1"]}, r"method=\['l1'\] is not known"),
        ({"amount": 0.5, "seed": "a"}, "seed is 'a'"),
        ({"amount": 0.5, "ignore": 3}, "ignore is 3"),
        ({"amount": 0.5, "ignore": ["layer9"]}, "no module matches 'layer9'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fxprune.sparsify(net(), **arguments)


def test_names_that_can_be_read_once_only_count() -> None:
    sparse = fxprune.sparsify(net(), 0.5, ignore=iter(["0"]))  # type: ignore[arg-type]
    assert fxprune.sparsity(sparse).layers["0"][0] == 0


def test_weights_without_data_are_refused() -> None:
    with pytest.raises(InputError, match="the weight of 0 has no data"):
        fxprune.sparsify(net().to("meta"), 0.5)


def test_what_is_no_module_is_refused() -> None:
    for function in (fxprune.sparsity, fxprune.make_permanent, lambda m: fxprune.sparsify(m, 0.5)):
        with pytest.raises(InputError):
            function("model")


def test_a_shared_weight_is_refused_unless_it_is_ignored() -> None:
    model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8, bias=False))
    model[1].weight = model[0].weight
    with pytest.raises(InputError, match=r"the weight of 1 is one with 0\.weight"):
        fxprune.sparsify(model, 0.5)
    assert fxprune.sparsity(fxprune.sparsify(model, 0.5, ignore=["1"])).zeros == 0


def test_a_computed_weight_is_refused() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(InputError, match="the weight of 0 is no parameter"):
        fxprune.sparsify(model, 0.5)


def test_weights_that_attention_reads_past_masks_stay() -> None:
    sparse = fxprune.sparsify(nn.TransformerEncoderLayer(8, 2, 16), 0.5)
    report = fxprune.sparsity(sparse)
    assert report.layers["self_attn.out_proj"] == (0, 64)
    assert report.zeros == (report.total - 64) // 2


# -- permanent masks ----------------------------------------------------------------------------


def test_permanent_masks_compute_the_same_under_plain_names() -> None:
    sparse = fxprune.sparsify(net(), 0.5)
    before = state(sparse)
    plain = fxprune.make_permanent(sparse)
    assert set(plain.state_dict()) == set(net().state_dict())
    assert torch.equal(plain(IMAGE), sparse(IMAGE))
    assert fxprune.sparsity(plain) == fxprune.sparsity(sparse)
    assert all(torch.equal(before[name], tensor) for name, tensor in sparse.state_dict().items())
    assert isinstance(sparse[0].weight_mask, Tensor)


def test_a_model_with_permanent_masks_exports() -> None:
    plain = fxprune.make_permanent(fxprune.sparsify(net(), 0.5))
    program = torch.export.export(plain, (IMAGE,))
    assert torch.equal(program.module()(IMAGE), plain(IMAGE))
    assert not [name for name in program.state_dict if "mask" in name]


def test_masks_on_biases_and_of_channels_become_permanent_too() -> None:
    model = net()
    prune.random_unstructured(model[0], "bias", 0.5)
    prune.ln_structured(model[0], "weight", 0.25, n=2, dim=0)
    plain = fxprune.make_permanent(model)
    assert set(plain.state_dict()) == set(net().state_dict())
    assert torch.equal(plain(IMAGE), model(IMAGE))


def test_a_permanent_mask_does_not_reach_a_module_that_shares_the_weight() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).double()
    model[1].weight = model[0].weight
    prune.l1_unstructured(model[0], "weight", 0.5)
    x = torch.randn(3, 4, dtype=torch.float64)
    assert torch.equal(fxprune.make_permanent(model)(x), model(x))


def test_frozen_weights_and_flags_stay_as_they_are() -> None:
    model = net().train()
    model[0].weight.requires_grad_(False)
    plain = fxprune.make_permanent(fxprune.sparsify(model, 0.5))
    assert not plain[0].weight.requires_grad
    assert plain[3].weight.requires_grad
    assert plain.training


def test_a_shrunk_model_keeps_its_masks_until_they_are_made_permanent() -> None:
    sparse = fxprune.sparsify(net(), 0.5)
    small = fxprune.shrink(sparse, {"0": [1, 2]}, IMAGE)
    assert small.get_buffer("3.weight_mask").shape == (6, 6, 3, 3)
    plain = fxprune.make_permanent(small)
    assert plain.get_parameter("3.weight").shape == (6, 6, 3, 3)
    assert torch.equal(plain(IMAGE), small(IMAGE))
    assert plain.get_submodule("3").in_channels == 6
    assert torch.export.export(plain, (IMAGE,)).module()(IMAGE).equal(small(IMAGE))
