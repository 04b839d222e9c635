"""Files of safetensors that are written part by part are those that the library reads."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
import torch

from fxprune.errors import FxPruneError
from fxprune.shards import Planned, Shard, header_of, write_in_parts
from fxprune.tensor_files import library

pytest.importorskip("safetensors", reason="needs the extra safetensors")

TYPES = {
    "F64": torch.float64,
    "C64": torch.complex64,
    "F32": torch.float32,
    "I64": torch.int64,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I16": torch.int16,
    "F8_E4M3": torch.float8_e4m3fn,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
SHAPES = {"matrix": (3, 5), "vector": (7,), "number": (), "nothing": (0, 4)}


def tensors() -> dict[str, torch.Tensor]:
    return {
        f"{name}.{dtype}": torch.arange(24)[: torch.Size(shape).numel()].reshape(shape).to(kind)
        for dtype, kind in TYPES.items()
        for name, shape in SHAPES.items()
    }


def planned(values: dict[str, torch.Tensor]) -> list[Planned]:
    return [
        Planned(name, name.partition(".")[2], tuple(t.shape), t.element_size())
        for name, t in values.items()
    ]


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    values = tensors()
    path = tmp_path / "all.safetensors"
    with path.open("wb") as stream:
        digest = write_in_parts(stream, planned(values), {"format": "pt"}, lambda n: [values[n]])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    read = library().load_file(path)
    assert read.keys() == values.keys()
    for name, tensor in read.items():
        assert tensor.dtype == values[name].dtype
        assert torch.equal(
            tensor.reshape(-1).view(torch.uint8), values[name].reshape(-1).view(torch.uint8)
        )
    shard = Shard.open(path)
    assert list(shard.entries)[-1].endswith("BOOL")
    assert dict(shard.metadata) == {"format": "pt"}


def test_parts_of_rows_and_other_types_make_the_same_file() -> None:
    values = {"a.BF16": torch.randn(6, 4).bfloat16(), "b.F32": torch.randn(5)}
    whole, parts = io.BytesIO(), io.BytesIO()
    first = write_in_parts(whole, planned(values), {}, lambda n: [values[n]])
    counts: list[int] = []
    second = write_in_parts(
        parts,
        planned(values),
        {},
        lambda n: [part.view(torch.int16) if n[0] == "a" else part for part in values[n].split(2)],
        counts.append,
    )
    assert first == second
    assert whole.getvalue() == parts.getvalue()
    assert sum(counts) == 6 * 4 * 2 + 5 * 4


def test_a_header_is_padded_so_that_elements_lie_at_multiples_of_their_size() -> None:
    for names in (["a"], ["a" * k for k in range(1, 12)]):
        header = header_of([Planned(name, "F32", (1,), 4) for name in names], {})
        assert len(header) % 8 == 0
        assert int.from_bytes(header[:8], "little") == len(header) - 8
        document = json.loads(header[8:])
        assert [document[name]["data_offsets"] for name in names] == [
            [4 * k, 4 * k + 4] for k in range(len(names))
        ]


@pytest.mark.parametrize("parts", [[], [torch.ones(2)], [torch.ones(3), torch.ones(3)]])
def test_a_tensor_of_another_size_than_planned_is_told(parts: list[torch.Tensor]) -> None:
    with pytest.raises(FxPruneError, match="12 were planned"):
        write_in_parts(io.BytesIO(), [Planned("a", "F32", (3,), 4)], {}, lambda _: parts)
