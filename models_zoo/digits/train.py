"""Train `DigitsNet` and save its weights: `python -m models_zoo.digits.train`.

Deterministic on one machine: fixed seeds, one thread, deterministic algorithms. A penalty on the
batch norms pushes whole channels to zero, the same ones in all layers of a residual stream, so
that about half of them can go without any fine-tuning, whereas the other half matters. Weight
decay then takes the weights of the dead channels along.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from models_zoo.digits.data import Split, load_split
from models_zoo.digits.model import WEIGHTS, Block, DigitsNet

EPOCHS = 60
BATCH = 64
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 3e-3
SPARSITY = 0.1


def train(split: Split, seed: int = 0) -> DigitsNet:
    """Return a `DigitsNet` in eval mode, trained on `split`'s training part."""
    torch.manual_seed(seed)
    model = DigitsNet().train()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(split.train_images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(split.train_images))
        # A small last batch would make noisy batch-norm statistics.
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            scores = model(shifted(split.train_images[batch]))
            loss = F.cross_entropy(scores, split.train_labels[batch])
            loss = loss + SPARSITY * density(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def density(model: DigitsNet) -> Tensor:
    """Return how evenly each stream's norm is spread over its channels, summed over the streams.

    The group Hoyer measure (Yang et al. 2020): L1 over L2 norm of the channels' magnitudes, from 1
    (one channel has it all) to the square root of their number. An L1 norm alone would not do:
    batch norm undoes any shrinking that all channels of a stream share.
    """
    first, second, third = model.block1, model.block2, model.block3
    streams = [
        [model.bn, *_outer_norms(first)],
        [*_outer_norms(second), *_outer_norms(third)],
        [first.bn1],
        [second.bn1],
        [third.bn1],
    ]
    total = torch.zeros(())
    for norms in streams:
        values = torch.stack([p for norm in norms for p in (norm.weight, norm.bias)])
        # The square root has no finite slope at zero, where many channels end up.
        magnitude = values.pow(2).sum(dim=0).add(1e-12).sqrt()
        total = total + magnitude.sum() / magnitude.norm()
    return total


def _outer_norms(block: Block) -> list[nn.BatchNorm2d]:
    """Return the norms whose results are added to make `block`'s output."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm for norm in norms if norm is not block.bn1]


def shifted(images: Tensor) -> Tensor:
    """Return (N, C, H, W) images, each moved by -1, 0 or 1 pixel along both axes."""
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1))
    moves = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    choice = torch.randint(len(moves), (len(images),))
    return torch.stack(moves)[choice, torch.arange(len(images))]


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the fraction of `images` (N, 1, 8, 8) whose best score is at `labels` (N,)."""
    predicted: Tensor = model(images).argmax(dim=1)
    return (predicted == labels).float().mean().item()


def save(model: nn.Module, path: Path = WEIGHTS) -> None:
    """Write `model`'s state to `path` as safetensors: the whole file, or nothing."""
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        unfinished = Path(directory) / path.name
        save_file(model.state_dict(), unfinished)
        unfinished.replace(path)


def main() -> None:
    """Train, save and print the accuracy on both parts of the data."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    split = load_split()
    model = train(split)
    save(model)
    print(f"train    {accuracy(model, split.train_images, split.train_labels):.2%}")
    print(f"held-out {accuracy(model, split.held_out_images, split.held_out_labels):.2%}")
    print(f"saved    {WEIGHTS} ({WEIGHTS.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
