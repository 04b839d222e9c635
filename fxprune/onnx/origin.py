"""What an ONNX file says beside its network, kept from loading to exporting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fxprune.inputs import InputSpec

KEY = "fxprune.onnx"
"""The place in `model.meta`."""


@dataclass(frozen=True)
class Origin:
    """What the ONNX file that a model was loaded from says, kept in `model.meta["fxprune.onnx"]`.

    Attributes:
        inputs: names of the inputs.
        outputs: names of the outputs.
        dynamic: name of an input -> dim -> name of a size that the file leaves open; the name is
            empty if it has none.
        specs: shapes and types of the inputs that it was loaded with.
        metadata: the `metadata_props` of the file.
        name: the name of the graph.
        doc: the documentation of the file.
        domain: whom the model is by, a domain name.
        version: the version of the model.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, str]]
    specs: tuple[InputSpec, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    doc: str = ""
    domain: str = ""
    version: int = 0


def origin_of(model: nn.Module) -> Origin | None:
    """What is known of the ONNX file that a model was loaded from; None if it was not."""
    meta: Any = getattr(model, "meta", None)
    found = meta.get(KEY) if isinstance(meta, dict) else None
    return found if isinstance(found, Origin) else None
