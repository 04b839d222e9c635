"""A plan of weights in a checkpoint is the plan of the same weights in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune import importance
from fxprune.errors import InputError
from fxprune.importance import criterion as criteria
from fxprune.importance.criterion import pieces
from tests.streaming.nets import TOKENS, build, digests, empty, stored, write_sharded

pytest.importorskip("safetensors", reason="needs the extra safetensors")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_sharded(stored(build()), tmp_path / "source")


def from_memory(**options: Any) -> fxprune.Plan:
    return fxprune.plan(build(), TOKENS, **options)


def from_files(source: Any, **options: Any) -> fxprune.Plan:
    return fxprune.plan(empty(), TOKENS, weights=source, **options)


@pytest.mark.parametrize("name", [*importance.CRITERIA[:4], "fpgm", "cosine"])
@pytest.mark.parametrize("reduction", ["sum", "first"])
def test_every_criterion_of_weights_makes_the_same_plan(
    source: Path, name: str, reduction: str
) -> None:
    options: dict[str, Any] = {"ratio": 0.5, "criterion": name, "reduction": reduction}
    before = digests(source)
    assert from_files(source, **options) == from_memory(**options)
    assert digests(source) == before


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": 0.5, "scope": "global"},
        {"ratio": 0.5, "scope": "global", "normalize": "max"},
        {"ratio": 0.5, "scope": "isomorphic", "uniform": True},
        {"target": {"params": 0.5}, "scope": "global"},
        {"target": {"params": 0.7}, "by": "blocks"},
        {"ratio": 0.25, "drop": ["blocks.1"]},
        {"threshold": 2.0},
        {"ratio": 0.5, "criterion": lambda name, weights: weights.abs() * len(name)},
        {"strategies": {"blocks.1": {"ratio": 0.5, "criterion": "l1"}}},
    ],
)
def test_every_way_to_choose_makes_the_same_plan(source: Path, options: dict[str, Any]) -> None:
    assert from_files(source, **options) == from_memory(**options)


def test_a_state_dict_will_do() -> None:
    assert from_files(build().state_dict(), ratio=0.5) == from_memory(ratio=0.5)


def test_weights_win_over_those_of_the_model(source: Path) -> None:
    torch.manual_seed(5)
    other = type(build())().eval()
    assert fxprune.plan(other, TOKENS, 0.5) != from_memory(ratio=0.5)
    assert fxprune.plan(other, TOKENS, 0.5, weights=source) == from_memory(ratio=0.5)


def test_an_analysis_will_do(source: Path) -> None:
    deps = fxprune.analyze(empty(), TOKENS)
    assert fxprune.plan(deps, ratio=0.5, weights=source) == from_memory(ratio=0.5)
    assert deps.weights is None


class Permuted(nn.Module):
    """Channels in another order, which a buffer of integers tells."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.last = nn.Linear(6, 2)
        self.register_buffer("order", torch.tensor([3, 1, 0, 2, 5, 4]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x)[:, self.order])


def test_integers_that_move_channels_are_read_for_the_analysis(tmp_path: Path) -> None:
    x = torch.ones(1, 4)
    torch.manual_seed(0)
    model = Permuted().eval()
    folder = write_sharded(stored(model), tmp_path / "permuted")
    with torch.device("meta"):
        bare = Permuted().eval()
    plan = fxprune.plan(bare, x, 0.5, weights=folder)
    assert plan == fxprune.plan(model, x, 0.5)
    assert plan.groups["first"].width == 3
    assert bare.order.is_meta


# -- in pieces ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_in_pieces_a_plan_from_files_is_that_from_memory(
    source: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = from_memory(ratio=0.5, criterion=name)
    monkeypatch.setattr(criteria, "LARGEST_PIECE", 20)
    made = from_files(source, ratio=0.5, criterion=name)
    assert made == from_memory(ratio=0.5, criterion=name)
    assert made.groups == whole.groups


@pytest.mark.parametrize("name", ["lamp", "fpgm"])
def test_a_criterion_that_compares_weights_takes_them_whole(
    source: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = from_memory(ratio=0.5, criterion=name)
    monkeypatch.setattr(criteria, "LARGEST_PIECE", 20)
    assert from_files(source, ratio=0.5, criterion=name) == whole


@pytest.mark.parametrize(
    "shape", [(), (0,), (3,), (50,), (4, 7), (30, 2), (1, 60), (2, 3, 40), (3, 11, 2), (0, 50)]
)
def test_pieces_are_small_and_together_the_whole(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(criteria, "LARGEST_PIECE", 20)
    seen = torch.zeros(shape)
    for place in pieces(shape):
        assert seen[place].numel() <= 20
        seen[place] += 1
    assert bool((seen == 1).all())


# -- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "criterion",
    [
        importance.Taylor([TOKENS], lambda model, batch: model(batch).sum(), progress=False),
        importance.Activation([TOKENS], progress=False),
    ],
)
def test_a_criterion_that_runs_the_model_is_refused(source: Path, criterion: Any) -> None:
    with pytest.raises(InputError, match="has no data in the model") as caught:
        from_files(source, ratio=0.5, criterion=criterion)
    assert "load the weights into the model" in caught.value.hint
    with pytest.raises(InputError, match="not those that count"):
        fxprune.plan(build(), TOKENS, 0.5, criterion=criterion, weights=source)


def test_without_weights_the_way_out_is_told() -> None:
    with pytest.raises(InputError, match="has no data") as caught:
        fxprune.plan(empty(), TOKENS, 0.5)
    assert "weights=" in caught.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["blocks.1.up.weight", "scale"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, name: str, value: float) -> None:
    state = stored(build())
    state[name].reshape(-1)[-1] = value
    folder = write_sharded(state, tmp_path / "source")
    with pytest.raises(InputError, match=f"parameter {name} contains NaN or infinite values"):
        from_files(folder, ratio=0.5)


def test_weights_of_another_model_are_refused(source: Path, tmp_path: Path) -> None:
    state = stored(build())
    del state["blocks.1.up.bias"]
    state["blocks.0.up.bias"] = torch.zeros(3)
    state["blocks.2.up.bias"] = torch.zeros(32, dtype=torch.int64)
    with pytest.raises(InputError, match="those of another model") as caught:
        from_files(state, ratio=0.5)
    for text in (
        "blocks.1.up.bias is not there",
        "blocks.0.up.bias has shape [3], not [32]",
        "blocks.2.up.bias is torch.int64, not torch.float32",
    ):
        assert text in caught.value.why


def test_what_is_neither_a_folder_nor_a_dict_is_refused() -> None:
    with pytest.raises(InputError, match="weights is a int"):
        from_files(3, ratio=0.5)
