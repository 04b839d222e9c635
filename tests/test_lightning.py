"""A Lightning callback prunes a module while the Trainer trains it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fxprune import InputError
from tests.planning.test_after import removed
from tests.progress.test_optimizers import X, network

lightning = pytest.importorskip("lightning.pytorch", reason="needs Lightning", exc_type=ImportError)
from fxprune.lightning import ProgressivePruning  # noqa: E402  # after the check that it can be

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning.*"),
]


class Task(lightning.LightningModule):  # type: ignore[misc,name-defined]
    """A user's task."""

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = network() if model is None else model
        self.seen: list[int] = []

    def training_step(self, batch: Any, number: int) -> Tensor:
        del number
        self.seen.append(sum(p.numel() for p in self.model.parameters()))
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 8, 8, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(8) % 5), batch_size=4)


def trainer(folder: Path, epochs: int, *callbacks: Any, **options: Any) -> Any:
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **{"enable_checkpointing": False, **options},
    )


def pruning(**options: Any) -> ProgressivePruning:
    return ProgressivePruning(X, **{"target": {"params": 0.4}, "steps": 3, **options})


def test_the_module_shrinks_at_the_epochs_that_were_asked_for(tmp_path: Path) -> None:
    task, original = Task(), network()
    callback = pruning(every_n_epochs=2, first_epoch=1, ratio=0.75, target=None, schedule="linear")
    trainer(tmp_path, 8, callback).fit(task, data())
    sizes = task.seen[::2]
    assert sizes == task.seen[1::2]
    assert sizes[0] == sum(p.numel() for p in original.parameters())
    assert sizes[0] > sizes[1] > sizes[3] > sizes[5]
    assert sizes[1:] == [size for size in sizes[1:7:2] for _ in range(2)] + sizes[5:6]
    assert callback.progressive.done
    assert task.model is callback.progressive.model


def test_momentum_and_schedulers_go_on(tmp_path: Path) -> None:
    seen = []

    class Watching(ProgressivePruning):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            optimizer = trainer.optimizers[0]
            old = {id(p): optimizer.state[p] for p in optimizer.state}
            super().on_train_epoch_start(trainer, pl_module)
            held = optimizer.param_groups[0]["params"]
            assert [id(p) for p in held] == [id(p) for p in pl_module.parameters()]
            seen.append((len(old), optimizer.param_groups[0]["lr"]))
            for parameter, state in optimizer.state.items():
                assert state["momentum_buffer"].shape == parameter.shape
                assert state["momentum_buffer"].any()

    trainer(tmp_path, 3, Watching(X, ratio=0.5, steps=3)).fit(Task(), data())
    count = len(list(network().parameters()))
    assert seen == [(0, 0.05), (count, 0.025), (count, 0.0125)]


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_training_goes_on_from_a_checkpoint(tmp_path: Path, name: str) -> None:
    class Other(Task):
        def configure_optimizers(self) -> Any:
            if name == "adam":
                return torch.optim.AdamW(self.parameters(), lr=0.01)
            return super().configure_optimizers()

    whole, parts = Other(), Other()
    callback = pruning()
    trainer(tmp_path, 4, callback).fit(whole, data())
    first = trainer(tmp_path, 2, pruning())
    first.fit(parts, data())
    first.save_checkpoint(tmp_path / "run.ckpt")

    again, later = Other(), pruning()
    trainer(tmp_path, 4, later).fit(again, data(), ckpt_path=tmp_path / "run.ckpt")
    assert later.progressive.step_number == 3
    assert removed(later.progressive.plan) == removed(callback.progressive.plan)
    ours, theirs = again.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert again.seen == whole.seen[4:]


def test_a_checkpoint_can_be_tested(tmp_path: Path) -> None:
    class Testable(Task):
        def test_step(self, batch: Any, number: int) -> None:
            del number
            self.seen.append(self.model(batch[0]).shape[1])

    first = trainer(tmp_path, 3, pruning())
    first.fit(task := Testable(), data())
    first.save_checkpoint(tmp_path / "run.ckpt")
    other = Testable()
    trainer(tmp_path, 3, pruning()).test(
        other, data(), ckpt_path=tmp_path / "run.ckpt", verbose=False
    )
    assert torch.equal(other.model(X), task.model(X))


def test_the_original_is_the_teacher(tmp_path: Path) -> None:
    original = network().train()
    before = {name: value.clone() for name, value in original.state_dict().items()}
    callback = pruning()
    trainer(tmp_path, 2, callback).fit(Task(original), data())
    assert all(torch.equal(v, before[n]) for n, v in original.state_dict().items())
    assert torch.equal(callback.progressive.teacher(X), network().eval()(X))


def test_a_module_inside_of_another_can_be_pruned(tmp_path: Path) -> None:
    task = Task(nn.Sequential(nn.Identity(), network()))
    trainer(tmp_path, 1, pruning(attribute="model.1", steps=1)).fit(task, data())
    assert len(set(task.seen)) == 1
    assert task.seen[0] < sum(p.numel() for p in network().parameters())


def test_what_cannot_work_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no module 'net'") as error:
        trainer(tmp_path, 1, pruning(attribute="net")).fit(Task(), data())
    assert "its modules are model" in str(error.value)
    with pytest.raises(InputError, match="checkpoint= is given"):
        pruning(checkpoint="run.pt")
    with pytest.raises(InputError, match="every_n_epochs is 0"):
        pruning(every_n_epochs=0)
    with pytest.raises(InputError, match="nothing to prune yet"):
        _ = pruning().progressive


def test_without_lightning_the_command_to_install_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lightning.pytorch.callbacks", None)
    monkeypatch.delitem(sys.modules, "fxprune.lightning")
    with pytest.raises(ImportError, match=r'pip install "fxprune\[lightning\]"'):
        importlib.import_module("fxprune.lightning")


def test_a_strategy_that_wraps_the_module_is_refused_before_training() -> None:
    fake: Any = SimpleNamespace(strategy=SimpleNamespace())
    with pytest.raises(InputError, match="the strategy SimpleNamespace is not supported"):
        pruning().setup(fake, Task(), "fit")


def test_optimizers_without_the_module_are_told(tmp_path: Path) -> None:
    class Apart(Task):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(2, 2)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.other.parameters(), lr=0.1)

    with pytest.raises(InputError, match="no optimizer holds parameters of model"):
        trainer(tmp_path, 1, pruning()).fit(Apart(), data())


def test_optimizers_in_another_order_are_told(tmp_path: Path) -> None:
    class Backwards(Task):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(reversed(list(self.parameters())), lr=0.05, momentum=0.9)

    first = trainer(tmp_path, 2, pruning())
    first.fit(Task(), data())
    first.save_checkpoint(tmp_path / "run.ckpt")
    with pytest.raises(InputError, match="in another order than in the checkpoint"):
        trainer(tmp_path, 3, pruning()).fit(Backwards(), data(), ckpt_path=tmp_path / "run.ckpt")
