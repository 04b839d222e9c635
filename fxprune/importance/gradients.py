"""Criteria by gradients of a loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fxprune.errors import InputError
from fxprune.importance.criterion import Criterion, Elementwise, Evidence, parameters_of, refusing
from fxprune.importance.processes import jointly, summed
from fxprune.importance.running import finite, nothing, tracked
from fxprune.importance.samples import sample_count, samples_of
from fxprune.module_trees import clone_tree

if TYPE_CHECKING:
    from torch import Tensor

    from fxprune.analysis import DependencyGraph

_LOSS = (
    "loss(model, batch) is called with a model in the modes of yours, and with batches as they are"
    " (for Fisher: with one sample)"
)
_SAMPLES = "samples(batch) is called with batches as they are, and returns a list"
Loss = Callable[[nn.Module, Any], "Tensor"]
"""Takes a model and a batch, and returns a scalar: the mean of the loss over the samples."""


@dataclass(frozen=True)
class _ByGradient(Criterion):
    """A criterion by gradients.

    The model is run in the modes that its modules have (so call `model.eval()` first, unless batch
    norm is to use the statistics of batches). Neither its buffers nor its `.grad` are changed, and
    frozen parameters have gradients, too. With `torch.distributed`, every process passes its own
    batches, and all get the scores of all of them together.

    Attributes:
        batches: a data loader, or any other iterable.
        loss: `loss(model, batch)`, a scalar: the mean over the samples of the batch. For
            classification `lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])`.
        progress: whether a bar is shown on the standard error stream (of the first process).
        samples: from a batch to its samples, each of them a batch of one for the loss. By default a
            batch is taken apart by itself: tensors along dim 0, lists and tuples inside it either
            with one entry for each sample or of such tensors.
    """

    batches: Iterable[Any]
    loss: Loss
    progress: bool = True
    samples: Callable[[Any], Iterable[Any]] | None = None
    needs = ""
    joint = True

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """What weights count, from gradients of all batches.

        Raises:
            InputError: the loss is no scalar that depends on parameters, or not finite; there are
                no batches, or their samples cannot be told; or it failed in another process.
        """
        found, counts = jointly(deps, lambda: self._gathered(deps), lambda found: found.counts)
        total = _total([count for each in counts for count in each])
        if not total:
            raise nothing("gradients")
        summed([*found.gradients.values()])
        for gradient in found.gradients.values():
            gradient.div_(total)
        yield from _Weighed(self.weighed, found).evidence(deps)

    @abstractmethod
    def weighed(self, weights: Tensor, gathered: Tensor) -> Tensor:
        """What weights count, of what was gathered."""

    @abstractmethod
    def gather(
        self, model: nn.Module, parameters: dict[str, Tensor], batch: Any
    ) -> tuple[dict[str, Tensor], int | None]:
        """What a batch adds, and how many samples it has, if that can be told."""

    def _gathered(self, deps: DependencyGraph) -> _Gathered:
        own = parameters_of(deps)
        model, parameters = _copy(deps, list(own))
        total = {name: _zeros(parameter) for name, parameter in parameters.items()}
        counts: list[int | None] = []
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            for batch in tracked(self.batches, "gradients", shown=self.progress):
                added, count = self.gather(model, parameters, batch)
                counts.append(count)
                _total([counts[0], count])  # refuses at once
                for name, value in added.items():
                    total[name] += finite(f"the gradient of {name}", value)
        return _Gathered(own, total, counts)

    def split(self, batch: Any) -> list[Any]:
        """The samples of a batch.

        Raises:
            InputError: it cannot be taken apart.
        """
        if self.samples is None:
            return samples_of(batch)
        with refusing("the samples of a batch cannot be told", _SAMPLES):
            return list(self.samples(batch))

    def gradients(
        self, model: nn.Module, parameters: dict[str, Tensor], batch: Any
    ) -> dict[str, Tensor]:
        """The gradients of the loss of a batch, in float64; zero where it does not depend."""
        with refusing("the loss cannot be computed", _LOSS):
            loss: Any = self.loss(model, batch)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(loss)
            raise InputError(
                f"the loss is no scalar that depends on the parameters, but {what}",
                hint="return what F.cross_entropy(model(inputs), targets) does, from the model that"
                " is passed",
            )
        with refusing("the gradient of the loss cannot be computed", _LOSS):
            found: Any = torch.autograd.grad(
                loss.sum(), list(parameters.values()), allow_unused=True
            )
        if all(gradient is None for gradient in found):
            raise InputError(
                "the loss does not depend on the parameters of the model that it is called with",
                hint="use the model that is passed to it, a copy of yours",
            )
        pairs = zip(parameters.items(), found, strict=True)
        return {n: _zeros(p) if g is None else g.to_dense().to(_wide(p)) for (n, p), g in pairs}


@dataclass(frozen=True)
class _Gathered:
    """What was gathered of the batches of a process.

    Attributes:
        own: the parameters of the user's model.
        gradients: for each of them, the sum of what each sample adds.
        counts: how many samples each batch has; None where that cannot be told.
    """

    own: Mapping[str, Tensor]
    gradients: dict[str, Tensor]
    counts: list[int | None]


@dataclass(frozen=True)
class _Weighed(Elementwise):
    """Weights and what was gathered for each of them."""

    weighed: Callable[[Tensor, Tensor], Tensor]
    found: _Gathered

    def saliency(self, name: str, weights: Tensor) -> Tensor:
        """What the weights count together with it."""
        own = self.found.own[name]
        return self.weighed(own.to(_wide(own)), self.found.gradients[name])


@dataclass(frozen=True)
class Taylor(_ByGradient):
    """How much the loss changes without a weight, to first order: |w dL/dw|, summed.

    The gradient is that of the mean loss of all samples; where batches cannot be taken apart, they
    count alike. Of complex numbers it is |Re(w conj(g))|. Molchanov et al., Importance Estimation
    for Neural Network Pruning, 2019, equation 6 without the square.
    """

    def weighed(self, weights: Tensor, gathered: Tensor) -> Tensor:
        """|w g|."""
        product = weights * gathered.conj()
        return torch.as_tensor(product.real if product.is_complex() else product).abs()

    def gather(
        self, model: nn.Module, parameters: dict[str, Tensor], batch: Any
    ) -> tuple[dict[str, Tensor], int | None]:
        """The gradient of a batch, once for each sample."""
        count = sample_count(batch) if self.samples is None else len(self.split(batch))
        found = self.gradients(model, parameters, batch)
        weight = 1 if count is None else count
        return {name: gradient * weight for name, gradient in found.items()}, count


@dataclass(frozen=True)
class Fisher(_ByGradient):
    """How much the loss changes without a weight, to second order: w^2 E[g^2] / 2, summed.

    The expectation of squared gradients of single samples, the diagonal of the empirical Fisher
    information, stands for the diagonal of the Hessian. LeCun et al., Optimal Brain Damage, 1990,
    equation 5; Theis et al., Faster gaze prediction with dense networks and Fisher pruning, 2018,
    equation 7. Batches are taken apart into samples.
    """

    def weighed(self, weights: Tensor, gathered: Tensor) -> Tensor:
        """w^2 h / 2."""
        return weights.abs().square() * gathered.abs() / 2

    def gather(
        self, model: nn.Module, parameters: dict[str, Tensor], batch: Any
    ) -> tuple[dict[str, Tensor], int]:
        """The sum of the squared gradients of its samples."""
        split = self.split(batch)
        total = {name: _zeros(parameter) for name, parameter in parameters.items()}
        for sample in split:
            for name, gradient in self.gradients(model, parameters, sample).items():
                total[name] += gradient.abs().square()
        return total, len(split)


def _total(counts: Sequence[int | None]) -> int:
    """How many samples batches have; how many batches there are, if no samples can be told."""
    known = [count for count in counts if count is not None]
    if 0 < len(known) < len(counts):
        raise InputError(
            "some batches can be taken apart into samples and others cannot",
            why="so it is not known how much each of them counts",
            hint="pass samples=, a function from a batch to the list of its samples",
        )
    return sum(known) if known else len(counts)


def _copy(deps: DependencyGraph, names: list[str]) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy of the user's model, or of the graph if that has other parameters, and these."""
    theirs = dict(deps.model.named_parameters(remove_duplicate=False))
    copy = clone_tree(deps.model if set(names) <= theirs.keys() else deps.graph_module, _leaf)
    known = dict(copy.named_parameters(remove_duplicate=False))
    return copy, {name: known[name] for name in names if known[name].requires_grad}


def _leaf(tensor: Tensor) -> Tensor:
    if isinstance(tensor, nn.Parameter):
        differentiable = tensor.is_floating_point() or tensor.is_complex()
        return nn.Parameter(tensor.detach().clone(), requires_grad=differentiable)
    return tensor.clone()


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64


def _zeros(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor, dtype=_wide(tensor), requires_grad=False)
