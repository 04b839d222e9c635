"""Trained networks, with inputs to calibrate with and a figure that tells how good a copy is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertOutput, BertSelfAttention

import fxprune
from benchmarks.rivals import Rival, last_layer, loss
from examples import lite0 as photos
from examples import pretrained
from examples.resnet18 import Data, Settings, dense
from examples.training import accuracy, train
from fxprune import DependencyGraph

BATCH = 128


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        settings: of training, and of the images of Fashion-MNIST.
        calibration: how many images of its training split criteria and repairs see.
        epochs: of training the vision transformer.
        crops: how many parts of photos there are to calibrate with, and to judge by.
        sentences: how many of them, likewise. There are no more than twice 190.
        points: how many images fine-tuning has seen at each point of its curve.
    """

    settings: Settings = field(default_factory=Settings)
    calibration: int = 512
    epochs: int = 6
    crops: tuple[int, int] = (64, 200)
    sentences: tuple[int, int] = (190, 190)
    points: tuple[int, ...] = (2_750, 5_500, 11_000, 22_000, 38_500)


@dataclass(frozen=True)
class Subject:
    """A trained network.

    Attributes:
        model: the dense network, in eval mode.
        batches: inputs without labels, each a tuple of arguments.
        judge: from a copy to a figure, in %.
        labels: of the same inputs, if there are any.
        seed: of training, of what is calibrated with, and of random numbers for channels.
        rival: Torch-Pruning with a criterion, by its name; None if it is not tried.
        tune: fine-tunes a copy in place; yields its figure at each point.
    """

    model: nn.Module
    batches: Sequence[tuple[Tensor, ...]]
    judge: Callable[[nn.Module], float]
    seed: int
    labels: tuple[Tensor, ...] = ()
    rival: Callable[[str], Rival] | None = None
    tune: Callable[[nn.Module], Iterator[float]] | None = None

    @property
    def example(self) -> tuple[Tensor, ...]:
        """Arguments to analyze with: the first two rows."""
        return tuple(argument[:2] for argument in self.batches[0])

    @cached_property
    def deps(self) -> DependencyGraph:
        """The analysis of the model."""
        return fxprune.analyze(self.model, self.example)

    @property
    def labelled(self) -> list[tuple[Tensor, ...]]:
        """Images with labels; none without labels."""
        parts = zip(self.batches, self.labels, strict=bool(self.labels))
        return [(images, labels) for (images,), labels in parts]

    def directions(self) -> list[tuple[Tensor, ...]]:
        """Batches whose last entries are random directions of the outputs."""
        random = torch.Generator().manual_seed(0)
        found = []
        with torch.no_grad():
            for batch in self.batches:
                shape = self.model(*batch).shape
                found.append((*batch, torch.randn(shape, generator=random)))
        return found


def resnet(size: Size, networks: Path, seed: int) -> Subject:
    """ResNet-18, trained on Fashion-MNIST with a seed, which also draws what is calibrated with."""
    data = Data.load(size.settings)
    home = networks / f"seed{seed}"
    home.mkdir(parents=True, exist_ok=True)
    model = dense(data, size.settings, home, seed)
    return classifier(model, data, size, seed)


def transformer(size: Size, networks: Path, seed: int) -> Subject:
    """A vision transformer of four blocks and patches of 7 x 7, trained on Fashion-MNIST."""
    data = Data.load(size.settings)
    torch.manual_seed(seed)
    model = VisionTransformer(
        28, 7, 3, num_classes=10, embed_dim=96, depth=4, num_heads=4, global_pool="avg"
    )
    path = networks / f"seed{seed}" / "transformer.pt"
    if path.exists():
        model.load_state_dict(torch.load(path))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = 2e-3
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
        train(model, data.train, size.epochs, learning_rate=rate, seed=seed, optimizer=optimizer)
        torch.save(model.state_dict(), path)
    return classifier(model.eval(), data, size, seed, own=_with_heads, mend=_mended)


def classifier(model: nn.Module, data: Data, size: Size, seed: int, **options: Any) -> Subject:
    """A network that classifies images of Fashion-MNIST.

    Args:
        model: the trained network, in eval mode.
        data: the images.
        size: how many of them are for what.
        seed: of the draw of what is calibrated with.
        **options: of `Rival.of`.
    """
    random = torch.Generator().manual_seed(seed)
    some = data.train[torch.randperm(len(data.train), generator=random)[: size.calibration]]

    def judge(small: nn.Module) -> float:
        return 100 * accuracy(small, data.test)

    def tune(small: nn.Module) -> Iterator[float]:
        for start, end in pairwise((0, *size.points)):
            part = data.train[start:end]
            train(small, part, 1, learning_rate=0.02, seed=seed)
            yield judge(small)

    def rival(criterion: str) -> Rival:
        return Rival.of(criterion, model, found.example, found.labelled, loss, **options)

    batches = [(images,) for images in some.images.split(BATCH)]
    found = Subject(model, batches, judge, seed, some.labels.split(BATCH), rival, tune)
    return found


def _with_heads(model: nn.Module) -> dict[str, Any]:
    heads = {m.qkv: m.num_heads for m in model.modules() if isinstance(m, Attention)}
    return {**last_layer(model), "num_heads": heads}


def _mended(model: nn.Module) -> None:
    """Give each attention the width that its queries have now."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.attn_dim = module.qkv.out_features // 3
            module.head_dim = module.attn_dim // module.num_heads


def lite0(size: Size, networks: Path, seed: int) -> Subject:
    """EfficientNet-Lite0 with its published weights, and parts of photos."""
    trial = pretrained.classifier(*size.crops)
    some = photos.crops(size.crops[0], "left", seed=seed)
    return published(replace(trial, choosing=(some,)), _same_class, seed)


def minilm(size: Size, networks: Path, seed: int) -> Subject:
    """MiniLM-L6-v2 with its published weights, and sentences."""
    trial = pretrained.encoder(*size.sentences)
    every = [torch.cat(parts) for parts in zip(trial.choosing, trial.comparing, strict=True)]
    order = torch.randperm(len(every[0]), generator=torch.Generator().manual_seed(seed))
    chosen, others = order.split(size.sentences)
    return published(
        replace(
            trial,
            choosing=tuple(part[chosen] for part in every),
            comparing=tuple(part[others] for part in every),
        ),
        _cosine,
        seed,
        own=with_bert_heads,
        mend=mended_bert,
    )


def with_bert_heads(model: nn.Module) -> dict[str, Any]:
    """Options for Torch-Pruning that keep the width of a BERT's outputs, and tell its heads."""
    *_, last = (m for m in model.modules() if isinstance(m, BertOutput))
    heads = {
        layer: attention.num_attention_heads
        for attention in model.modules()
        if isinstance(attention, BertSelfAttention)
        for layer in (attention.query, attention.key, attention.value)
    }
    return {"ignored_layers": [last.dense], "num_heads": heads}


def mended_bert(model: nn.Module) -> None:
    """Give each attention of a BERT the width that its queries have now."""
    for module in model.modules():
        if isinstance(module, BertSelfAttention):
            module.all_head_size = module.query.out_features
            module.attention_head_size = module.all_head_size // module.num_attention_heads


def published(
    trial: pretrained.Trial,
    alike: Callable[[Tensor, Tensor], Tensor],
    seed: int,
    **options: Any,
) -> Subject:
    """A network with published weights, judged by how alike its outputs are to the dense ones.

    Args:
        trial: the network and its arguments.
        alike: from dense outputs and others to a number for each row, 1 if they are the same.
        seed: of what is calibrated with, and of random numbers.
        **options: of `Rival.of`.
    """
    whole = pretrained.outputs(trial.model, trial.comparing)

    def judge(small: nn.Module) -> float:
        return 100 * float(alike(whole, pretrained.outputs(small, trial.comparing)).mean())

    def rival(criterion: str) -> Rival:
        batches = found.directions()
        return Rival.of(criterion, trial.model, found.example, batches, pretrained.moves, **options)

    parts = (part.split(16) for part in trial.choosing)
    found = Subject(trial.model, list(zip(*parts, strict=True)), judge, seed, rival=rival)
    return found


def _same_class(whole: Tensor, small: Tensor) -> Tensor:
    return (whole.argmax(1) == small.argmax(1)).double()


def _cosine(whole: Tensor, small: Tensor) -> Tensor:
    return (whole * small).sum(1)
