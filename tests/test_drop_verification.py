"""The proof that dropped blocks pass their input on can fail, alone, and says why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import VerificationError, dropping, verification
from fxprune.dropping import Dropped, without_blocks
from fxprune.module_trees import clone_tree
from tests.test_dropping import ROWS, Block, Net, net

DROP = ["blocks.1"]


def shrunk(model: nn.Module, **options: Any) -> nn.Module:
    plan = fxprune.plan(model, ROWS, ratio=0.5, drop=DROP)
    return fxprune.shrink(model, plan, ROWS, **options)


def scaled(self: Dropped, x: Tensor) -> Tensor:
    return x * 1.001


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize("proof", [True, "quick"])
def test_a_twin_that_changes_what_it_passes_on_is_found_by_this_check_alone(
    monkeypatch: pytest.MonkeyPatch, emit: Any, proof: Any
) -> None:
    monkeypatch.setattr(Dropped, "forward", scaled)
    with pytest.raises(VerificationError, match=r"without blocks\.1 the model is not the original"):
        shrunk(net(), emit=emit, verify=proof)
    monkeypatch.setattr(verification, "check_drop", lambda deps, values: 0)
    shrunk(net(), emit=emit, verify=proof)


def test_a_twin_without_another_block_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(root: Any, convert: Any, instead: Any) -> Any:
        return clone_tree(root, convert, {id(root.blocks[0]): next(iter(instead.values()))})

    monkeypatch.setattr(dropping, "clone_tree", other)
    with pytest.raises(VerificationError, match="is not the original"):
        shrunk(net())


def test_a_twin_in_which_the_block_still_runs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "clone_tree", lambda root, convert, instead: root)
    with pytest.raises(VerificationError, match="is not the original"):
        shrunk(net())


def test_verify_proves_the_drop_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    plan = fxprune.plan(model, ROWS, drop=DROP)
    small = fxprune.shrink(model, plan, ROWS)
    proof = fxprune.verify(model, small, plan, ROWS)
    assert proof.dropped == 1
    assert "dropped blocks pass their input on (1)" in " ".join(str(proof).split())
    half = fxprune.plan(model, ROWS, ratio=0.5)
    assert fxprune.verify(model, fxprune.shrink(model, half, ROWS), half).dropped == 0
    monkeypatch.setattr(Dropped, "forward", scaled)
    with pytest.raises(VerificationError, match="is not the original"):
        fxprune.verify(model, small, plan, ROWS)


class Reused(Net):
    """Keeps what a block gets, and changes what it returns in place."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        kept = x
        x = self.blocks[1](x)
        x += 1
        return self.head(x + kept)


def test_a_rest_that_writes_into_what_is_passed_on_is_refuted() -> None:
    with pytest.raises(VerificationError, match="is not the original") as caught:
        fxprune.shrink(net(Reused), fxprune.plan(net(Reused), ROWS, drop=DROP), ROWS)
    assert "the rest writes into what it gets" in caught.value.why


class Tally:
    """How many blocks have run."""

    count = 0


class Counting(Block):
    """Leaves something for the model around it."""

    tally: Tally

    def forward(self, x: Tensor) -> Tensor:
        self.tally.count += 1
        return super().forward(x)


class Listening(Net):
    def __init__(self) -> None:
        super().__init__(Counting)
        self.tally = Tally()
        for block in self.blocks:
            block.tally = self.tally  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        self.tally.count = 0
        return super().forward(x) * self.tally.count


def test_a_block_that_reaches_the_rest_by_another_way_is_refuted() -> None:
    model = net(Listening)
    with pytest.raises(VerificationError, match="is not the original") as caught:
        fxprune.shrink(model, fxprune.plan(model, ROWS, drop=DROP), ROWS)
    assert "by another way than their output" in caught.value.why


class Skipping(Net):
    """Runs a block on long inputs only."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](self.stem(x))
        return self.head(self.blocks[1](x) if x.shape[0] > 2 else x)


def test_a_block_that_does_not_run_is_not_proved() -> None:
    deps = without_blocks(net(Skipping), ROWS, DROP)
    assert verification.check_drop(deps, (ROWS,)) == 1
    with pytest.raises(VerificationError, match=r"blocks\.1 did not run on these inputs"):
        verification.check_drop(deps, (ROWS[:2],))


def test_the_users_model_has_no_hooks_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    monkeypatch.setattr(Dropped, "forward", scaled)
    with pytest.raises(VerificationError):
        shrunk(model)
    assert not model.blocks[1]._forward_hooks
    assert not model.blocks[1]._forward_pre_hooks
    torch.testing.assert_close(model(ROWS), net()(ROWS))
