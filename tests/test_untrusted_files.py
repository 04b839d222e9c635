"""Plans and weights from anyone: a valid object or an FxPruneError, and nothing else happens.

No code of the file runs (a canary tells), no file is written, and memory stays within a limit that
the system enforces.
"""

import json
import os
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fxprune
from fxprune import Plan
from fxprune.errors import FxPruneError, PlanError
from fxprune.inputs import materialize
from fxprune.loading import ModelName, ModelSource
from fxprune.planning import plan_text
from fxprune.state_files import read_state

ROOM = 1 << 30
"""How much memory in bytes a file may take to be read or refused."""
EXAMPLES = hypothesis.settings(
    max_examples=300,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
X = torch.ones(2, 6)


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@cache
def analysis() -> fxprune.DependencyGraph:
    return fxprune.analyze(chain(), X)


@cache
def plan() -> Plan:
    return fxprune.plan(analysis(), ratio=0.5)


@contextmanager
def little_memory(room: int = ROOM) -> Iterator[None]:
    """The process cannot get more memory than it has and `room` bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- mutations ------------------------------------------------------------------------------


@st.composite
def edits(draw: st.DrawFn, size: int, words: list[bytes]) -> Callable[[bytes], bytes]:
    """A change of bytes: one flipped, some cut out or off, some doubled, a word put in."""
    at, to = draw(st.integers(0, size)), draw(st.integers(0, size))
    low, high = sorted((at, to))
    word = draw(st.sampled_from(words) | st.binary(max_size=8))
    return draw(
        st.sampled_from(
            [
                lambda b: b[:at] + bytes([b[at] ^ (1 << to % 8)]) + b[at + 1 :] if b[at:] else b,
                lambda b: b[:at],
                lambda b: b[:low] + b[high:],
                lambda b: b[:high] + b[low:],
                lambda b: b[:at] + word + b[at:],
                lambda b: b[:low] + word + b[high:],
            ]
        )
    )


def mutated(data: bytes, changes: list[Callable[[bytes], bytes]]) -> bytes:
    for change in changes:
        data = change(data)
    return data


# -- plans ----------------------------------------------------------------------------------

TEXT = plan().to_json().encode()
TOKENS = [b"[", b"{", b"NaN", b"-1", b"1e999", b"9" * 5000, b'"a":', b"null", b"true", b"\\ud800"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(1 << 60, 1 << 70)
    | st.floats(allow_nan=True)
    | st.text(max_size=6)
    | st.sampled_from(["0.weight", "float32", "load", "../../etc/passwd", "__class__"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tensor", "shape", "dtype", "low", "high", "dict", "0", "size"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def outcome(path: Path) -> str:
    """What comes of a plan's file, used as a user would."""
    try:
        loaded = Plan.load(path)
        again = Plan.from_json(loaded.to_json())
        assert again == loaded
        materialize(loaded.inputs, seed=0)
        fxprune.shrink(chain(), loaded, verify=False)
    except FxPruneError:
        return "refused"
    return "taken"


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON document: the container and the key."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def test_the_plan_itself_is_taken(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(TEXT)
    assert outcome(tmp_path / "plan.json") == "taken"


@pytest.mark.parametrize("step", [7])
def test_a_plan_that_is_cut_short_anywhere_is_refused(step: int) -> None:
    for size in range(0, len(TEXT) - 2, step):
        with pytest.raises(PlanError):
            Plan.from_json(TEXT[:size].decode())


@EXAMPLES
@given(st.lists(edits(len(TEXT), TOKENS), min_size=1, max_size=4))
def test_a_plan_of_changed_bytes_is_taken_or_refused(
    tmp_path: Path, changes: list[Callable[[bytes], bytes]]
) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(mutated(TEXT, changes))
    with little_memory():
        outcome(path)
    assert names(tmp_path) == ["plan.json"]


@EXAMPLES
@given(st.data())
def test_a_plan_of_changed_json_is_taken_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    document = json.loads(TEXT)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(list(places(document))))
        if data.draw(st.booleans()):
            container[key] = data.draw(VALUES)
        else:
            del container[key]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    with little_memory():
        outcome(path)
    assert names(tmp_path) == ["plan.json"]


@EXAMPLES
@given(
    st.lists(st.integers(-2, 1 << 62), max_size=5), st.sampled_from(["float32", "int64", "bool"])
)
def test_an_input_of_any_shape_is_made_or_refused(shape: list[int], dtype: str) -> None:
    document = json.loads(TEXT)
    document["inputs"][0]["tensor"].update(shape=shape, dtype=dtype)
    with little_memory(3 << 30):
        try:
            loaded = Plan.from_json(json.dumps(document))
            if sum(spec.empty().numel() for spec in loaded.inputs) < 1 << 20:
                materialize(loaded.inputs, seed=0)
            fxprune.shrink(chain(), loaded, verify=False)
        except FxPruneError:
            pass


class Flattened(nn.Module):
    """Flattens channels with positions, of which a plan's inputs can have many."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 64, 1)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        tokens = self.token.expand(x.shape[2] * x.shape[3], -1, -1)
        return torch.cat([x.flatten(1).sum(1), x.mean((1, 2, 3))]) + tokens.sum()


def test_giant_inputs_of_a_plan_take_no_memory_in_the_analysis() -> None:
    small = fxprune.plan(Flattened(), torch.zeros(1, 1, 8, 8), 0.5)
    document = json.loads(small.to_json())
    document["inputs"][0]["tensor"]["shape"] = [1, 1, 1 << 14, 1 << 14]
    loaded = Plan.from_json(json.dumps(document))
    with little_memory(), pytest.raises(PlanError):
        fxprune.shrink(Flattened(), loaded, verify=False)


@pytest.mark.parametrize("unit", ['"ab",', "999,", "[],", "{},", "1.5,"])
def test_the_largest_plans_that_are_read_take_little_memory(unit: str) -> None:
    count = plan_text.LARGEST_FILE // 8 // len(unit)  # an eighth of it, to be quick
    with little_memory(), pytest.raises(PlanError):
        Plan.from_json(f"[{unit * count}0]")


# -- weights --------------------------------------------------------------------------------


def saved(thing: object, *, legacy: bool = False) -> bytes:
    stream = BytesIO()
    torch.save(thing, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def with_pickle(data: bytes, content: bytes) -> bytes:
    """A file of `torch.save` with another pickle in it."""
    stream = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("/data.pkl") else old.read(name))
    return stream.getvalue()


def pickle_in(data: bytes) -> bytes:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return archive.read("archive/data.pkl")


STATE = saved(chain().state_dict())
LEGACY = saved(chain().state_dict(), legacy=True)
PICKLE = pickle_in(STATE)
OPCODES = [
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\nbytearray\n", b"ctorch\nTensor\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ctorch\nfloat8_e5m2\n"),
    *(b"ccollections\nOrderedDict\n", b"R", b"b", b"o", b"i", b"(", b")", b"t", b"\x85", b"\x86"),
    *(b"s", b"u", b"d", b"Q", b"0", b"2", b"\x93", b"\x81", b"\x92", b"\x90", b"\x8f", b"h\x00"),
    *(b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"r\xff\xff\xff\xff", b"\x82\x01"),
    *(b"\x96" + struct.pack("<Q", 1 << 40), b"\x8e" + struct.pack("<Q", 1 << 40), b"\x97", b"N"),
]


def load(path: Path) -> str:
    """What comes of a file of weights."""
    source = ModelSource(ModelName("tests.test_untrusted_files", "chain"), state=path)
    try:
        source.model()
    except FxPruneError:
        return "refused"
    return "taken"


@pytest.mark.parametrize("data", [STATE, LEGACY], ids=["zip", "legacy"])
def test_weights_of_both_formats_are_taken(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "weights.pt").write_bytes(data)
    assert load(tmp_path / "weights.pt") == "taken"


KINDS = {
    **{str(dtype): torch.ones(3).to(dtype) for dtype in (torch.half, torch.bfloat16, torch.int8)},
    **{str(dtype): torch.ones(3).to(dtype) for dtype in (torch.bool, torch.complex128)},
    **{str(dtype): torch.ones(3).to(dtype) for dtype in (torch.float8_e4m3fn, torch.uint16)},
    "a parameter": nn.Parameter(torch.ones(3)),
    "empty": torch.ones(0, 3),
    "a number": torch.tensor(3),
    "a part": torch.arange(12).view(3, 4)[1:, 1:].t(),
    "expanded": torch.ones(1).expand(100),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("legacy", [False, True])
def test_every_kind_of_tensor_that_torch_saves_is_read(
    tmp_path: Path, kind: str, legacy: bool
) -> None:
    tensor = KINDS[kind].detach()
    if legacy and tensor.dtype in (torch.float8_e4m3fn, torch.uint16):
        pytest.skip("torch reads no such tensors in its old format")
    state = OrderedDict(a=KINDS[kind], b={"c": [KINDS[kind], 1, "x", None, 0.5]})
    (tmp_path / "weights.pt").write_bytes(saved(state, legacy=legacy))
    read = read_state(tmp_path / "weights.pt")
    assert read["a"].dtype == tensor.dtype
    assert read["a"].tolist() == tensor.tolist()
    assert read["b"]["c"][1:] == [1, "x", None, 0.5]


@EXAMPLES
@given(st.sampled_from([STATE, LEGACY]), st.data())
def test_weights_of_changed_bytes_are_taken_or_refused(
    tmp_path: Path, base: bytes, data: st.DataObject
) -> None:
    changes = data.draw(st.lists(edits(len(base), OPCODES), min_size=1, max_size=4))
    path = tmp_path / "weights.pt"
    path.write_bytes(mutated(base, changes))
    with little_memory():
        load(path)
    assert names(tmp_path) == ["weights.pt"]


@EXAMPLES
@given(st.lists(edits(len(PICKLE), OPCODES), min_size=1, max_size=6))
def test_weights_of_a_changed_pickle_are_taken_or_refused(
    tmp_path: Path, changes: list[Callable[[bytes], bytes]]
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(with_pickle(STATE, mutated(PICKLE, changes)))
    with little_memory():
        load(path)
    assert names(tmp_path) == ["weights.pt"]


@EXAMPLES
@given(st.data())
def test_safetensors_of_changed_bytes_are_taken_or_refused(
    tmp_path: Path, data: st.DataObject
) -> None:
    base = pytest.importorskip("safetensors.torch").save(chain().state_dict())
    words = [b'"data_offsets":[0,18446744073709551615]', b'"F64"', b'"shape":[9999999999]', b"{"]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(mutated(base, data.draw(st.lists(edits(len(base), words), min_size=1))))
    with little_memory():
        load(path)
    assert names(tmp_path) == ["weights.safetensors"]


# -- what someone writes on purpose -----------------------------------------------------------


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def canaries(folder: Path) -> dict[str, object]:
    """Objects whose unpickling makes a file, each in another way."""
    target = str(folder / "canary")
    return {
        "os.system": Calls(os.system, f"touch {target}"),
        "eval": Calls(eval, f"open({target!r}, 'w')"),
        "exec": Calls(exec, f"open({target!r}, 'w')"),
        "open": Calls(open, target, "w"),
        "torch.save": Calls(torch.save, 1, target),
        "a module": fxprune.shrink(chain(), plan()),
        "hidden in a state dict": {**chain().state_dict(), "x": Calls(os.mkdir, target)},
    }


@pytest.mark.parametrize("how", list(canaries(Path())))
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "json", "safetensors"])
def test_no_code_of_a_file_runs(tmp_path: Path, how: str, form: str) -> None:
    thing = canaries(tmp_path)[how]
    data = pickle.dumps(thing) if form == "pickle" else saved(thing, legacy=form != "zip")
    suffix = {"json": "json", "safetensors": "safetensors"}.get(form, "pt")
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(data)
    assert load(path) == "refused"
    assert outcome(path) == "refused"
    assert names(tmp_path) == [path.name]


def nested(depth: int) -> bytes:
    """A pickle of a dict with a key of tuples in tuples."""
    return b"\x80\x02}" + b")" + b"\x85" * depth + b"Ns."


def compressed(data: bytes) -> bytes:
    stream = BytesIO()
    with (
        zipfile.ZipFile(BytesIO(data)) as old,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return stream.getvalue()


def twice(data: bytes) -> bytes:
    """An archive with two pickles, of which one looks harmless."""
    stream = BytesIO(data)
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", PICKLE)
    return stream.getvalue()


def declared(elements: int) -> bytes:
    """An old file that says of a tensor of 48 elements that it has more."""
    return LEGACY.replace(b"K0", b"J" + struct.pack("<i", elements))


def view(sizes: tuple[int, ...], strides: tuple[int, ...], *, legacy: bool) -> bytes:
    """A tensor of sizes beyond its memory."""
    storage = torch.ones(2)._typed_storage()
    rebuild = torch._utils._rebuild_tensor_v2
    return saved({"a": Calls(rebuild, storage, 0, sizes, strides, False, {})}, legacy=legacy)


BOMBS: dict[str, Callable[[], bytes]] = {
    "a bytearray of 16 GiB": lambda: saved({"a": Calls(bytearray, 16 << 30)}),
    "memory of 16 GiB": lambda: saved({"a": Calls(torch.UntypedStorage, 16 << 30)}),
    "a tensor of 16 GiB": lambda: saved({"a": Calls(torch.Tensor, 4 << 30)}),
    "zeros, compressed": lambda: compressed(saved(torch.zeros(1 << 22))),
    "a declared size": lambda: declared((1 << 31) - 1),
    "a view beyond its memory": lambda: view((1 << 33,), (1,), legacy=False),
    "a view beyond memory that can grow": lambda: view((1 << 33,), (1,), legacy=True),
    "a stride beyond its memory": lambda: view((2, 2), (1, 1 << 40), legacy=True),
    "tuples in tuples": lambda: with_pickle(STATE, nested(1_000_000)),
    "a bytearray of pickle's own": lambda: with_pickle(
        STATE, b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"."
    ),
    "a memo of 4 billion": lambda: with_pickle(STATE, b"\x80\x02Nr\xff\xff\xff\xff."),
    "two pickles": lambda: twice(with_pickle(STATE, pickle.dumps(Calls(os.system, "true"), 2))),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_small_file_that_asks_for_much_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(BOMBS[what]())
    assert path.stat().st_size < 2 << 20
    with little_memory(256 << 20):
        assert load(path) == "refused"
    assert names(tmp_path) == ["weights.pt"]


def test_paths_inside_an_archive_lead_nowhere(tmp_path: Path) -> None:
    stream = BytesIO(STATE)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("archive/../../escaped", "x")
        archive.writestr("/absolute", "x")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "weights.pt").write_bytes(stream.getvalue())
    assert load(tmp_path / "inner" / "weights.pt") == "refused"
    assert names(tmp_path) == ["inner"]
    assert names(tmp_path / "inner") == ["weights.pt"]
