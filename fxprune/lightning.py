"""Progressive pruning with Lightning: `pip install "fxprune[lightning]"`.

Not imported by `fxprune`, so that Lightning is needed only where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fxprune.errors import InputError, shown
from fxprune.planning.strategies import checked_integer
from fxprune.progress.files import parameter_names
from fxprune.progress.progressing import Progressive

try:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.strategies import SingleDeviceStrategy
except ImportError as error:
    raise ImportError(
        'fxprune.lightning needs Lightning: pip install "fxprune[lightning]"'
    ) from error

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import nn

    from fxprune.progress.schedules import Schedule

__all__ = ["ProgressivePruning"]


class ProgressivePruning(Callback):  # type: ignore[misc]  # mypy does not read Lightning
    """Prunes a module of a LightningModule step by step while it is trained.

    At the start of the epochs `first_epoch`, `first_epoch + every_n_epochs` ... the module is
    replaced by a smaller one, and all optimizers and schedulers go on with it. The module that was
    there when training began is the original; it is not changed (`progressive.teacher` is it).
    Checkpoints of Lightning hold what is needed to go on from them with `ckpt_path=`.

    Args:
        example_inputs: of the module: a tensor, a tuple of arguments, or a dict of keyword
            arguments.
        target: see `fxprune.Progressive`.
        steps: see `fxprune.Progressive`.
        schedule: see `fxprune.Progressive`.
        attribute: where the module is in the LightningModule.
        every_n_epochs: how many epochs each step is trained for.
        first_epoch: the epoch at whose start the first step is, counted from 0.
        **options: all other options of `fxprune.Progressive`, but `checkpoint`.

    Raises:
        InputError: an option is unknown or out of range.
    """

    def __init__(
        self,
        example_inputs: Any,
        target: Mapping[str, float] | None = None,
        steps: int = 4,
        schedule: Schedule = "cubic",
        *,
        attribute: str = "model",
        every_n_epochs: int = 1,
        first_epoch: int = 0,
        **options: Any,
    ) -> None:
        if "checkpoint" in options:
            raise InputError(
                "checkpoint= is given", hint="the checkpoints of the Trainer hold all: ckpt_path="
            )
        self._arguments = (example_inputs, target, steps, schedule)
        self._options = options
        self._attribute = attribute
        self._every = checked_integer(every_n_epochs, "every_n_epochs", 1)
        self._first = checked_integer(first_epoch, "first_epoch", 0)
        self._run: Progressive | None = None
        self._names: list[list[list[str]]] | None = None

    @property
    def progressive(self) -> Progressive:
        """What is pruned, how far, and its teacher; from the beginning of training on.

        Raises:
            InputError: training has not begun.
        """
        if self._run is None:
            raise InputError(
                "there is nothing to prune yet", hint="ask once the trainer has set up the module"
            )
        return self._run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the module for the original, and put a copy in its place.

        Raises:
            InputError: there is no such module, or the strategy keeps the parameters elsewhere.
        """
        if not isinstance(trainer.strategy, SingleDeviceStrategy):
            raise InputError(
                f"the strategy {type(trainer.strategy).__name__} is not supported",
                why="it wraps the module, and would go on with the parameters of the one before",
                hint="train on one device (devices=1), or use fxprune.Progressive in a loop of"
                " your own, which works with DDP",
            )
        module = self._module(pl_module)
        if self._run is None or module is not self._run.model:
            self._run = Progressive(module, *self._arguments, **self._options)
            self._put(pl_module)
        self._catch_checkpoint(pl_module)

    def _catch_checkpoint(self, pl_module: LightningModule) -> None:
        """Let the module be made small before its weights are loaded.

        Of all hooks only that of the LightningModule comes before, so it is wrapped for one call.
        """
        theirs = pl_module.on_load_checkpoint

        def first(checkpoint: dict[str, Any]) -> None:
            vars(pl_module).pop("on_load_checkpoint", None)
            state = checkpoint.get("callbacks", {}).get(self.state_key)
            if state:
                self.progressive.load_state_dict(state["progressive"])
                self._names = state.get("names")
                self._put(pl_module)
            theirs(checkpoint)

        vars(pl_module)["on_load_checkpoint"] = first

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the LightningModule as it was but for the smaller module."""
        vars(pl_module).pop("on_load_checkpoint", None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that optimizers took over the states of the same parameters.

        Raises:
            InputError: `configure_optimizers` has put others in their places.
        """
        vars(pl_module).pop("on_load_checkpoint", None)
        names, self._names = self._names, None
        if names is not None and names != _named(trainer, pl_module):
            raise InputError(
                "the optimizers hold their parameters in another order than in the checkpoint",
                why="their states were taken over by place, and belong to other parameters",
                hint="let configure_optimizers return them as in the run that was saved",
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make a step if it is time.

        Raises:
            InputError: no optimizer holds parameters of the module, or one cannot go on.
            PlanError, RewriteError, VerificationError: see `Progressive.step`.
        """
        run = self.progressive
        since = trainer.current_epoch - self._first
        if run.done or since < 0 or since // self._every < run.step_number:
            return
        held = {id(parameter) for parameter in run.model.parameters()}
        optimizers = [
            optimizer
            for optimizer in trainer.optimizers
            if any(id(p) in held for group in optimizer.param_groups for p in group["params"])
        ]
        if not optimizers:
            raise InputError(
                f"no optimizer holds parameters of {self._attribute}",
                hint="let configure_optimizers make them of self.parameters()",
            )
        run.step(*optimizers)
        self._put(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints: what is gone, and which parameters the optimizers hold."""
        return {} if self._run is None else {"progressive": self._run.state_dict()}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the names of the optimizers' parameters."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state:
            state["names"] = _named(trainer, pl_module)

    def _module(self, pl_module: LightningModule) -> nn.Module:
        try:
            if self._attribute:
                found: nn.Module = pl_module.get_submodule(self._attribute)
                return found
        except AttributeError:
            pass
        raise InputError(
            f"the LightningModule has no module {shown(self._attribute)}",
            why=f"its modules are {', '.join(name for name, _ in pl_module.named_children())}",
            hint="pass attribute=, the name of the one that is to be pruned",
        )

    def _put(self, pl_module: LightningModule) -> None:
        """Put the model as it is now in its place."""
        parent, _, name = self._attribute.rpartition(".")
        pl_module.get_submodule(parent).register_module(name, self.progressive.model)


def _named(trainer: Trainer, pl_module: LightningModule) -> list[list[list[str]]]:
    """The names of the parameters of all optimizers, group by group."""
    return [parameter_names(optimizer, pl_module) for optimizer in trainer.optimizers]
