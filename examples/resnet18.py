"""ResNet-18 on Fashion-MNIST: train, measure sensitivity, prune in steps, fine-tune, quantize.

Run it from the checkout: `python -m examples.resnet18`. What is finished is kept in a folder, so
that a run that was stopped goes on from there.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import torch
import torchvision
from torch import Tensor, nn

import fxprune
from examples.data import Images, fashion_mnist
from examples.onnx_files import Session, export, latencies, quantized
from examples.printing import show, table
from examples.training import accuracy, sgd, train

STAGES = ("dense", "pruned", "int8")
CLAIM = {
    "dense": (44.6, 69.8, 45.2),
    "pruned": (22.3, 68.5, 28.7),
    "int8": (18.2, 68.3, 19.4),
}
"""A published claim for this flow, on other images: MiB, accuracy in %, milliseconds."""

RATIO = 0.5  # of the convolutions' channels, shared out by sensitivity
RULES = {
    "conv1": 0.2,
    "layer4.0.conv2": 0.3,
}  # the first convolution; the inputs of the last linear
ROUND_TO = 4
"""What stays of a layer is a multiple: with odd widths ONNX Runtime takes half as long again."""
VALIDATION = 5000


@dataclass(frozen=True)
class Settings:
    """How long everything takes.

    Attributes:
        images: how many are trained on.
        epochs: of training the dense network.
        steps: of progressive pruning, each with an epoch of fine-tuning.
        last: epochs of fine-tuning after the last step, besides its own.
        checked: how many images sensitivity is measured on.
        ratios: at which it is measured.
        tested: on how many images accuracy is measured.
        rounds: of timing.
    """

    images: int = 55_000
    epochs: int = 4
    steps: int = 4
    last: int = 2
    checked: int = 1000
    ratios: tuple[float, ...] = (0.25, 0.5, 0.75)
    tested: int = 10_000
    rounds: int = 200


QUICK = Settings(512, 1, 2, 0, 100, (0.5,), 500, 5)


@dataclass(frozen=True)
class Data:
    """Fashion-MNIST with three channels, as the network takes: the official split.

    The last 5,000 images of the training set are for validation.
    """

    train: Images
    validation: Images
    test: Images

    @classmethod
    def load(cls, settings: Settings) -> Data:
        """The images that the settings ask for."""
        train, test = map(_in_colour, fashion_mnist())
        return cls(
            train[: len(train) - VALIDATION][: settings.images],
            train[len(train) - VALIDATION :][: settings.checked],
            test[: settings.tested],
        )


def _in_colour(data: Images) -> Images:
    return Images(data.images.expand(-1, 3, -1, -1), data.labels)


def dense(data: Data, settings: Settings, folder: Path, seed: int) -> nn.Module:
    """The trained network."""
    torch.manual_seed(seed)
    model = torchvision.models.resnet18(num_classes=10)
    path = folder / "dense.pt"
    if path.exists():
        model.load_state_dict(torch.load(path))
        return model.eval()
    train(model, data.train, settings.epochs, seed=seed)
    torch.save(model.state_dict(), path)
    return model


def pruned(
    model: nn.Module, data: Data, settings: Settings, folder: Path, seed: int
) -> fxprune.Progressive:
    """The network with about half of its channels, fine-tuned after every step."""
    example = data.train.images[:1]
    sensitivity = fxprune.sensitivity(
        model,
        example,
        partial(accuracy, data=data.validation),
        ratios=settings.ratios,
        resume=folder / "sensitivity.json",
    )
    progressive = fxprune.Progressive(
        model,
        example,
        ratio=RATIO,
        ratios=RULES,
        round_to=ROUND_TO,
        sensitivity=sensitivity,
        steps=settings.steps,
        schedule="linear",
        checkpoint=folder / "progressive.pt",
    )
    optimizer = sgd(progressive.model)
    progressive.restore(optimizer)
    while not progressive.done:
        small = progressive.step(optimizer)
        is_last = progressive.step_number == settings.steps
        train(
            small,
            data.train,
            1 + settings.last * is_last,
            learning_rate=0.05,
            seed=100 * seed + progressive.step_number,
            loss=lambda images, outputs, labels: _distilled(progressive, images, outputs, labels),
            optimizer=optimizer,
        )
        progressive.save(optimizer)
    return progressive


def _distilled(
    progressive: fxprune.Progressive, images: Tensor, outputs: Tensor, labels: Tensor
) -> Tensor:
    """Half of what labels say, half of what the dense network says."""
    with torch.no_grad():
        taught = progressive.teacher(images)
    return (
        nn.functional.cross_entropy(outputs, labels)
        + fxprune.distillation_loss(outputs, taught, temperature=2.0)
    ) / 2


@dataclass(frozen=True)
class Result:
    """What became of one seed.

    Attributes:
        stages: MiB, accuracy in %, and milliseconds for an image, for each of `STAGES`.
        left: the shares of channels, parameters and MACs that the pruned network has.
    """

    stages: dict[str, list[float]]
    left: list[float]


def one_seed(data: Data, settings: Settings, folder: Path, seed: int) -> Result:
    """The whole flow."""
    folder.mkdir(parents=True, exist_ok=True)
    model = dense(data, settings, folder, seed)
    progressive = pruned(model, data, settings, folder, seed)
    example = data.train.images[:2]
    whole = export(model, example, folder / "dense.onnx")
    part = export(progressive.model.eval(), example, folder / "pruned.onnx")
    paths = [whole, part, quantized(part, data.train.images[:200])]
    times = latencies(paths, data.test.images[:1], settings.rounds)
    stages = {
        stage: [path.stat().st_size / 2**20, 100 * accuracy(Session(path), data.test), time]
        for stage, path, time in zip(STAGES, paths, times, strict=True)
    }
    groups, last = progressive.plan.groups.values(), progressive.history[-1]
    channels = sum(group.width for group in groups) / sum(group.size for group in groups)
    return Result(stages, [channels, last.parameters, last.macs])


def report(results: Sequence[Result]) -> None:
    """Print the stages of all seeds, beside the claim."""
    seeds = f"{len(results)} seeds: mean (largest less smallest)"
    title = f"ResNet-18 on Fashion-MNIST, {seeds}"
    made = table(title, "stage", "MiB", "accuracy %", "ms", "size", "latency", "points lost")
    means = {
        stage: [statistics.fmean(result.stages[stage][i] for result in results) for i in range(3)]
        for stage in STAGES
    }
    for stage in STAGES:
        cells = [_told([result.stages[stage][i] for result in results]) for i in range(3)]
        made.add_row(stage, *cells, *_against(means[stage], means["dense"]))
    for stage, figures in CLAIM.items():
        cells = [f"{figure:.1f}" for figure in figures]
        made.add_row(f"claim: {stage}", *cells, *_against(figures, CLAIM["dense"]))
    left = zip(*(result.left for result in results), strict=True)
    shares = [f"{statistics.fmean(share):.1%}" for share in left]
    show(made, "left: {} of the channels, {} of the parameters, {} of the MACs".format(*shares))


def _told(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} ({max(values) - min(values):.2f})"


def _against(figures: Sequence[float], whole: Sequence[float]) -> list[str]:
    """Size and latency as shares of the dense network's, and the points of accuracy lost."""
    size, right, milliseconds = figures
    return [
        f"{size / whole[0]:.0%}",
        f"{milliseconds / whole[2]:.0%}",
        f"{whole[1] - right:.2f}",
    ]


@click.command()
@click.option("--seeds", default=3, show_default=True, help="How many times all is done.")
@click.option("--quick", is_flag=True, help="Some images and steps only, one seed.")
@click.option("--folder", type=Path, default=Path("build/resnet18"), show_default=True)
def main(seeds: int, quick: bool, folder: Path) -> None:
    """Train, prune, fine-tune, export and quantize a ResNet-18, and compare the stages."""
    torch.set_num_threads(1)
    settings = QUICK if quick else Settings()
    data = Data.load(settings)
    results = []
    for seed in range(1 if quick else seeds):
        own = folder / ("quick" if quick else "full") / f"seed{seed}"
        path = own / "result.json"
        if not path.exists():
            result = one_seed(data, settings, own, seed)
            path.write_text(json.dumps(vars(result)), encoding="utf-8")
        results.append(Result(**json.loads(path.read_text(encoding="utf-8"))))
    report(results)


if __name__ == "__main__":
    main()
