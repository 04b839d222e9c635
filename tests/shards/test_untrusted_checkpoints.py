"""Checkpoints from anyone: tensors that are there, or an InputError, and nothing else happens."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxprune.errors import InputError
from fxprune.shards import INDEX, SINGLE, Checkpoint
from tests.streaming.nets import build, stored, weight_map, write_index, write_sharded
from tests.test_untrusted_files import edits, little_memory

pytest.importorskip("safetensors", reason="needs the extra safetensors")

EXAMPLES = hypothesis.settings(
    max_examples=300,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sharded(stored(build()), tmp_path / "source", 2)


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    return dict(Checkpoint.open(folder))


def refused(folder: Path) -> str:
    with little_memory(), pytest.raises(InputError) as caught:
        read_all(folder)
    return str(caught.value)


def put_header(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(begin: int = 0, end: int = 4, **others: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [begin, end], **others}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({"a": entry()}, 1 << 62),
        ({"a": entry()}, (1 << 64) - 1),
        ({"a": entry()}, 1 << 30),
        ({"a": entry(0, 1 << 60)}, None),
        ({"a": entry(-4, 0)}, None),
        ({"a": entry(4, 0)}, None),
        ({"a": entry(4, 8)}, None),
        ({"a": entry(shape=[1 << 62])}, None),
        ({"a": entry(shape=[1 << 32, 1 << 32])}, None),
        ({"a": entry(shape=[-1])}, None),
        ({"a": entry(dtype="F33")}, None),
        ({"a": entry(), "b": entry()}, None),
        ({"a": {}}, None),
        ({"a": 1}, None),
        ({"__metadata__": {"x": 1}, "a": entry()}, None),
        (b"[" * 100_000, None),
        (b'{"a": ' * 50_000, None),
        (b"\xff\xfe{}", None),
        (b"", None),
        ([], None),
    ],
)
def test_a_header_that_is_wrong_is_refused(folder: Path, header: Any, length: int | None) -> None:
    put_header(folder / SINGLE, header, b"\0\0\0\0", length)
    assert "cannot be read" in refused(folder / SINGLE)


def test_data_after_the_last_tensor_is_refused(folder: Path) -> None:
    put_header(folder / SINGLE, {"a": entry()}, b"\0" * 5)
    assert "cannot be read" in refused(folder / SINGLE)


def test_a_name_that_occurs_twice_does_not_lead_astray(folder: Path) -> None:
    one, two = json.dumps(entry()), json.dumps(entry(4, 8))
    put_header(folder / SINGLE, f'{{"a": {one}, "a": {two}}}'.encode(), b"\0" * 8)
    assert "cannot be read" in refused(folder / SINGLE)


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/etc/model.safetensors",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "C:model.safetensors",
        ".model.safetensors",
        "..",
        "",
        "model.bin",
        "a\0.safetensors",
        "x" * 300 + ".safetensors",
        7,
        None,
        ["model.safetensors"],
    ],
)
def test_an_index_cannot_name_files_elsewhere(folder: Path, name: Any) -> None:
    write_index(folder, weight_map(folder) | {"scale": name})
    refused(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}',
        '{"metadata": 1, "weight_map": {"a": "x.safetensors"}}',
        "[" * 100_000,
        '{"weight_map": {"a": NaN}}',
    ],
)
def test_an_index_that_is_wrong_is_refused(folder: Path, text: str) -> None:
    (folder / f"{SINGLE}{INDEX}").write_text(text)
    refused(folder)


def test_an_index_that_is_too_large_is_refused(folder: Path) -> None:
    with (folder / f"{SINGLE}{INDEX}").open("wb") as stream:
        stream.truncate(1 << 40)
    assert "more than" in refused(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "model-00001-of-00002.safetensors").unlink()
    os.mkfifo(folder / "model-00001-of-00002.safetensors")
    assert "not a regular file" in refused(folder)


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "model-00001-of-00002.safetensors").unlink()
    (folder / "model-00001-of-00002.safetensors").mkdir()
    assert "it is a folder" in refused(folder)


def test_files_may_be_links(folder: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    assert read_all(links).keys() == stored(build()).keys()


@EXAMPLES
@given(data=st.data())
def test_a_changed_file_is_read_or_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    before = path.read_bytes()
    words = [b'"shape"', b"[9999999999]", b"-1", b"F64", b"{", b"}", b'"__metadata__":{}', b"\0"]
    changes = data.draw(st.lists(edits(2 * len(before) // 3, words), min_size=1, max_size=3))
    changed = before
    for change in changes:
        changed = change(changed)
    path.write_bytes(changed)
    try:
        with little_memory():
            found = read_all(folder)
    except InputError:
        return
    finally:
        path.write_bytes(before)
    assert found.keys() == stored(build()).keys()
