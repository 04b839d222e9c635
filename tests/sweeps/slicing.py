"""The slice of the sweep that the tests run, and the label rules that it and the zoo touch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import pytest

import fxprune
from fxprune import label_mode
from fxprune.rules import Rule, lookup, registered, registry
from models_zoo import ZOO, randomize
from sweeps.catalogue import catalogue
from sweeps.measuring import measure
from sweeps.rows import Row

SLICE = (
    "torchvision/classification/shufflenet_v2_x0_5",
    "torchvision/detection/fasterrcnn_mobilenet_v3_large_320_fpn",
    "torchvision/optical flow/raft_small",
    "timm/images/resnet/test_resnet",
    "timm/images/vision_transformer/test_vit",
    "timm/images/maxxvit/test_coatnet",
    "transformers/encoders/bert",
    "transformers/encoders/fnet",
    "transformers/decoders/llama",
    "transformers/mixtures of experts/qwen2_moe",
    "transformers/encoder-decoders/t5",
    "transformers/vision/swin",
    "transformers/vision/mobilevitv2",
    "transformers/audio/wavlm",
    "transformers/audio/encodec",
    "transformers/multimodal/clip",
    "transformers/state space/mamba",
)


class Measured(NamedTuple):
    """A model of the slice after the whole chain, and the rules that its analysis looked up."""

    row: Row
    touched: frozenset[str]


def library(key: str) -> str:
    """The library of a model of the slice."""
    return key.partition("/")[0]


@cache
def measured(key: str) -> Measured:
    """A model of the slice through the whole chain; measured once for all tests."""
    with touched_rules() as touched:
        row = measure(catalogue(library(key))[key])
    assert row is not None
    return Measured(row, frozenset(touched))


def zoo_rules() -> set[str]:
    """The rules that the analysis of the zoo looks up."""
    with touched_rules() as touched:
        for entry in ZOO.values():
            fxprune.analyze(randomize(entry.build()).eval(), entry.example_inputs())
    return touched


def builtin_rules() -> set[str]:
    """All rules that come with fxprune, also those by name, as `indexing.gather`."""
    rules = [*registered().values(), *registry._NAMED.values()]
    return {
        name_of(rule)
        for rule in rules
        if rule.propagate.__module__.startswith("fxprune.rules.")  # no rule of another test
    }


def name_of(rule: Rule) -> str:
    """The family and the function of a rule."""
    return f"{rule.propagate.__module__.rpartition('.')[2]}.{rule.propagate.__qualname__}"


@contextmanager
def touched_rules() -> Iterator[set[str]]:
    """The rules that are looked up by analyses meanwhile."""
    touched: set[str] = set()

    def noted(op: Any) -> Rule | None:
        rule = lookup(op)
        if rule is not None:
            touched.add(name_of(rule))
        return rule

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_mode, "lookup", noted)
        yield touched
