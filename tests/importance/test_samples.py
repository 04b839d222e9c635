"""Batches are taken apart into their samples, or refused."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fxprune
from fxprune import InputError, importance
from fxprune.importance.samples import sample_count, samples_of
from tests.importance.test_weights import scored

Pair = namedtuple("Pair", ["images", "labels"])


@dataclass
class Fields:
    """A batch as an object."""

    images: Tensor
    name: str


def ranged(*shape: int) -> Tensor:
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).view(shape)


A, B = ranged(4, 3, 2), ranged(4)
IMAGES = [ranged(3, size, size) for size in (2, 3, 4, 5)]
TARGETS = [{"boxes": ranged(n, 4), "label": n} for n in (2, 0, 3, 1)]


def same(some: Any, others: Any) -> bool:
    def plain(value: Any) -> Any:
        if isinstance(value, Fields):
            return (plain(value.images), value.name)
        return value.tolist() if isinstance(value, Tensor) else value

    left, right = (pytree.tree_map(plain, value) for value in (some, others))
    return bool(left == right) and type(some) is type(others)


@pytest.mark.parametrize(
    ("batch", "third"),
    [
        (A, A[2:3]),
        ((A, B), (A[2:3], B[2:3])),
        ([A, B], [A[2:3], B[2:3]]),
        ((A, 0.5, torch.tensor(7.0)), (A[2:3], 0.5, torch.tensor(7.0))),
        ({"x": A, "y": {"z": B, "name": "all"}}, {"x": A[2:3], "y": {"z": B[2:3], "name": "all"}}),
        ([[A, A, A], B], [[A[2:3]] * 3, B[2:3]]),
        ([[A, B], [B, B]], [[A[2:3], B[2:3]], [B[2:3], B[2:3]]]),
        (Pair(A, B), Pair(A[2:3], B[2:3])),
        (Fields(A, "all"), Fields(A[2:3], "all")),
        ((A, ["a", "b", "c", "d"]), (A[2:3], ["c"])),
        ((IMAGES, TARGETS), (IMAGES[2:3], TARGETS[2:3])),
        ((tuple(IMAGES), tuple(TARGETS)), (tuple(IMAGES[2:3]), tuple(TARGETS[2:3]))),
        ({"images": IMAGES, "labels": B}, {"images": IMAGES[2:3], "labels": B[2:3]}),
        ([(image, 1) for image in IMAGES], [(IMAGES[2], 1)]),
        ([(image, torch.tensor(1)) for image in IMAGES], [(IMAGES[2], torch.tensor(1))]),
        (TARGETS, TARGETS[2:3]),
        (["a", "b", "c", "d"], ["c"]),
    ],
)
def test_a_sample_is_a_batch_of_one(batch: Any, third: Any) -> None:
    assert sample_count(batch) == 4
    found = samples_of(batch)
    assert len(found) == 4
    assert same(found[2], third)


@pytest.mark.parametrize(
    "batch",
    [
        A[:1],
        (A[:1], B[:1]),
        ([ranged(3, 2, 2)], [{"boxes": ranged(3, 4)}]),
        [[A[:1], B[:1]]],
        (["a"], [ranged(1, 2, 2)]),
    ],
)
def test_a_batch_of_one_is_its_sample(batch: Any) -> None:
    assert sample_count(batch) == 1
    assert same(samples_of(batch)[0], batch)


def test_three_images_of_three_colours_with_three_boxes_each_are_three_samples() -> None:
    images = [ranged(3, size, size) for size in (2, 3, 4)]
    targets = [{"boxes": ranged(3, 4), "labels": ranged(3)} for _ in range(3)]
    found = samples_of((images, targets))
    assert len(found) == 3
    assert same(found[1], (images[1:2], targets[1:2]))


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        ((A, ranged(3)), "it has tensors of lengths [3, 4] along dim 0"),
        ((A, ["a", "b"]), "lengths [4] along dim 0; neither are all of one length, nor do lists"),
        ((A, [1, "b", None, 2.0]), "it has tensors of lengths [4]"),
        ((A, IMAGES, TARGETS[:3]), "it has tensors of lengths [0, 2, 3, 4] along dim 0"),
        ((0.5, "text"), "it has tensors of lengths [] along dim 0"),
        ((A, Fields(ranged(3), "all")), "it has tensors of lengths [3, 4] along dim 0"),
        ((torch.tensor(1.0),), "it has tensors of lengths [] along dim 0"),
        ([[A[:2], A[:2]], B[:2]], "it could be 2 or 2 samples"),
        ([[A, A], [A, A]], "it could be 4 or 2 or 2 samples"),
        ([{"view": A}, {"view": A}], "it could be 4 or 2 samples"),
        (([ranged(2, 2), ranged(2, 2)], [ranged(3, 2), ranged(3, 2)]), "it could be 2 or 2 sam"),
        (([ranged(3, 2, 2)] * 3, ranged(3)), "it could be 3 or 3 samples"),
    ],
)
def test_what_can_be_read_in_no_way_or_in_several_is_refused(batch: Any, why: str) -> None:
    assert sample_count(batch) is None
    with pytest.raises(InputError, match="cannot be taken apart into samples") as caught:
        samples_of(batch)
    assert why in caught.value.why
    assert "pass samples=" in caught.value.hint


class Detector(nn.Module):
    """Finds as many numbers as a target has boxes, in images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x))).mean((2, 3))


def loss(model: nn.Module, batch: Any) -> Tensor:
    images, targets = batch
    each = [
        (model(image[None]) - target["boxes"]).square().sum()
        for image, target in zip(images, targets, strict=True)
    ]
    return torch.stack(each).mean()


def test_detection_targets_count_sample_by_sample() -> None:
    torch.manual_seed(0)
    model = Detector().double().eval()
    images = [torch.randn(3, size, size).double() for size in (2, 3, 4, 5)]
    targets = [{"boxes": torch.randn(n, 4).double(), "name": str(n)} for n in (2, 0, 3, 1)]
    deps = fxprune.analyze(model, torch.zeros(1, 3, 2, 2).double())
    for kind in (importance.Fisher, importance.Taylor):
        whole = kind([(images, targets)], loss, progress=False)
        ones = [(images[k : k + 1], targets[k : k + 1]) for k in range(4)]
        apart = kind([ones], None, progress=False, samples=lambda batch: batch)  # type: ignore[arg-type]
        single = kind(ones, loss, progress=False)
        uneven = kind([(images[:3], targets[:3]), ones[3]], loss, progress=False)
        expected = scored(deps, single)
        np.testing.assert_allclose(scored(deps, whole), expected, rtol=1e-10)
        np.testing.assert_allclose(scored(deps, uneven), expected, rtol=1e-10)
        assert apart.samples is not None
    fisher = importance.Fisher([[ones, ones]], loss, progress=False, samples=lambda b: b[0])
    np.testing.assert_allclose(
        scored(deps, fisher), scored(deps, importance.Fisher(ones, loss, progress=False))
    )
