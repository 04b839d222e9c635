"""Checkpoints from anyone: the model is loaded or there is an FxPruneError, and nothing else."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fxprune
from fxprune.errors import FxPruneError, InputError
from tests.test_untrusted_files import VALUES, edits, little_memory, mutated, names, places

pytest.importorskip("safetensors", reason="needs the extra safetensors")

EXAMPLES = hypothesis.settings(
    max_examples=100,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
X = torch.ones(2, 6)


class Tied(nn.Module):
    """Two layers that share a bias, and a list of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.other, self.down = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)
        self.other.bias = self.up.bias
        self.order: torch.Tensor
        self.register_buffer("order", torch.tensor([3, 1, 2, 0, 7, 6, 5, 4]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down((self.up(x) + self.other(x)).relu()[:, self.order])
        return out


@cache
def content() -> bytes:
    small = fxprune.shrink(Tied(), {"up": 0.5}, X, verify=False)
    with TemporaryDirectory() as folder:
        fxprune.save(small, folder)
        return (Path(folder) / "model.safetensors").read_bytes()


def parts() -> tuple[dict[str, Any], bytes]:
    """The header, with its texts read, and the data."""
    data = content()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    for name in ("fxprune.plan", "fxprune.checkpoint"):
        header["__metadata__"][name] = json.loads(header["__metadata__"][name])
    return header, data[8 + size :]


def joined(header: dict[str, Any], data: bytes) -> bytes:
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict):
        for name in ("fxprune.plan", "fxprune.checkpoint"):
            if name in metadata:
                metadata[name] = json.dumps(metadata[name])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def outcome(path: Path) -> str:
    """What comes of a checkpoint, used as a user would."""
    try:
        loaded = fxprune.load(Tied(), path)
    except FxPruneError:
        return "refused"
    with torch.no_grad():
        loaded(X.to(loaded.get_parameter("up.weight").dtype))
    return "taken"


def test_the_checkpoint_itself_is_taken(tmp_path: Path) -> None:
    (tmp_path / "small.safetensors").write_bytes(joined(*parts()))
    assert outcome(tmp_path / "small.safetensors") == "taken"


def test_a_checkpoint_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "small.safetensors", content()
    for size in range(0, len(whole), 29):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            fxprune.load(Tied(), path)


@EXAMPLES
@given(st.data())
def test_a_checkpoint_of_changed_bytes_is_taken_or_refused(
    tmp_path: Path, data: st.DataObject
) -> None:
    words = [b"{", b"[", b'"', b"\\", b"9" * 400, struct.pack("<Q", 1 << 40), b"F64", b"I64"]
    change: st.SearchStrategy[Callable[[bytes], bytes]] = edits(len(content()), words)
    path = tmp_path / "small.safetensors"
    path.write_bytes(mutated(content(), data.draw(st.lists(change, min_size=1, max_size=3))))
    with little_memory():
        outcome(path)
    assert names(tmp_path) == ["small.safetensors"]


@EXAMPLES
@given(st.data())
def test_a_checkpoint_of_changed_texts_is_taken_or_refused(
    tmp_path: Path, data: st.DataObject
) -> None:
    header, rest = parts()
    for _ in range(data.draw(st.integers(1, 2))):
        document = data.draw(st.sampled_from(["fxprune.plan", "fxprune.checkpoint"]))
        spots = list(places(header["__metadata__"][document]))
        container, key = data.draw(st.sampled_from(spots))
        if data.draw(st.booleans()):
            container[key] = data.draw(VALUES)
        else:
            del container[key]
    path = tmp_path / "small.safetensors"
    path.write_bytes(joined(header, rest))
    with little_memory():
        outcome(path)
    assert names(tmp_path) == ["small.safetensors"]


def checkpoint(header: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = header["__metadata__"]["fxprune.checkpoint"]
    return document


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no texts": lambda h: h.pop("__metadata__"),
    "no plan": lambda h: h["__metadata__"].pop("fxprune.plan"),
    "a tensor of other numbers": lambda h: h["other.bias"].update(dtype="I32"),
    "a tensor of another shape": lambda h: h["up.weight"].update(shape=[6, 4]),
    "a tensor of another name": lambda h: h.update({"forward": h.pop("other.bias")}),
    "no tied name": lambda h: checkpoint(h).update(tied={}),
    "a circle of tied names": lambda h: checkpoint(h).update(tied={"up.bias": "up.bias"}),
    "a tied name of nothing": lambda h: checkpoint(h)["tied"].update({"up.bias": "nothing"}),
    "a complex number of nothing": lambda h: checkpoint(h).update(complex=["nothing"]),
    "a complex number of numbers": lambda h: checkpoint(h).update(complex=["other.bias"]),
    "a later version": lambda h: checkpoint(h).update(version=2),
    "an emit of its own": lambda h: checkpoint(h).update(emit="auto"),
    "no emit": lambda h: checkpoint(h).update(emit=None),
    "a norm of its own": lambda h: checkpoint(h).update(norm=[]),
    "another meaning": lambda h: checkpoint(h).update(norm="exact", constants="fold"),
    "another order": lambda h: checkpoint(h)["order"].reverse(),
    "more in the order": lambda h: checkpoint(h)["order"].append("x"),
    "names of numbers": lambda h: checkpoint(h).update(training=[1]),
    "another module": lambda h: checkpoint(h)["modules"].update({"down": "0"}),
}
TAKEN = ["another meaning"]
"""A graph without norms and biases that were added has every meaning."""


@pytest.mark.parametrize("edit", EDITS)
def test_a_text_that_contradicts_the_tensors_is_refused(tmp_path: Path, edit: str) -> None:
    header, data = parts()
    EDITS[edit](header)
    (tmp_path / "small.safetensors").write_bytes(joined(header, data))
    expected = "taken" if edit in TAKEN else "refused"
    assert outcome(tmp_path / "small.safetensors") == expected


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small.pt").write_bytes(b"PK\x03\x04")
    for path in ("small.pt", "nothing.safetensors", "", "/dev/zero"):
        with pytest.raises(InputError, match="cannot be read"):
            fxprune.load(Tied(), tmp_path / path)
