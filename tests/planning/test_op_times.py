"""Operators are measured once; a cache is never trusted, and never fatal."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fxprune.planning.op_times import OpTimes, Shaped, cache_folder

CPU = torch.device("cpu")
aten = torch.ops.aten


def floats(*shape: int, dtype: torch.dtype = torch.float32) -> Shaped:
    return Shaped(shape, dtype, tuple(range(len(shape))))


PRODUCT = (aten.mm.default, [floats(4, 3), floats(3, 5)], {})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets every operator run once, and take as many yardsticks as were measured before it."""
    runs: list[int] = []

    def once(self: OpTimes, run: Any) -> float:
        run()
        runs.append(len(runs))
        return float(len(runs))

    monkeypatch.setattr(OpTimes, "_median", once)
    return runs


def file_in(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_the_time_of_an_operator_is_a_positive_number(tmp_path: Path) -> None:
    taken = OpTimes(CPU, tmp_path).of(*PRODUCT)
    assert taken is not None
    assert taken > 0


def test_what_was_measured_is_not_measured_again(tmp_path: Path, measured: list[int]) -> None:
    times = OpTimes(CPU, tmp_path)
    assert times.of(*PRODUCT) == times.of(*PRODUCT) == 1
    times.save()
    assert times.of(*PRODUCT) == 1
    assert OpTimes(CPU, tmp_path).of(*PRODUCT) == 1
    assert len(measured) == 1


def test_shapes_types_orders_and_arguments_are_told_apart(
    tmp_path: Path, measured: list[int]
) -> None:
    times = OpTimes(CPU, tmp_path)
    a, b, c = floats(4, 3), floats(4, 3, dtype=torch.float64), Shaped((4, 3), torch.float32, (1, 0))
    for args, kwargs in (
        ([a, 1.0], {}),
        ([a, 1], {}),
        ([b, 1], {}),
        ([c, 1], {}),
        ([floats(3, 4), 1], {}),
        ([a, 1, 2], {}),
        ([a, 1], {"alpha": 2}),
    ):
        times.of(aten.add.Scalar, args, kwargs)
    times.of(aten.mul.Scalar, [a, 1], {})
    assert len(measured) == 8


def test_an_operator_that_refuses_its_operands_has_no_time(
    tmp_path: Path, measured: list[int]
) -> None:
    times = OpTimes(CPU, tmp_path)
    assert times.of(aten.mm.default, [floats(4, 3), floats(4, 3)], {}) is None
    times.save()
    assert OpTimes(CPU, tmp_path).of(aten.mm.default, [floats(4, 3), floats(4, 3)], {}) is None
    assert measured == []


def test_other_devices_threads_and_versions_have_files_of_their_own(
    tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("2.13.0", "2.14.0"):
        monkeypatch.setattr(torch, "__version__", version)
        times = OpTimes(CPU, tmp_path)
        times.of(*PRODUCT)
        times.save()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    times = OpTimes(CPU, tmp_path)
    times.of(*PRODUCT)
    times.save()
    assert len(list(tmp_path.iterdir())) == len(measured) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda d: "not JSON",
        lambda d: "[" * 100_000,
        lambda d: json.dumps([d]),
        lambda d: json.dumps({**d, "times": list(d["times"])}),
        lambda d: json.dumps({**d, "environment": "another machine"}),
        lambda d: json.dumps({**d, "format": "another"}),
        lambda d: json.dumps({**d, "more": 1}),
        *(
            lambda d, v=value: json.dumps({**d, "times": dict.fromkeys(d["times"], v)})
            for value in ("1", -1.0, float("nan"), float("inf"), True, [1.0])
        ),
    ],
)
def test_a_file_that_is_not_what_was_written_is_measured_anew(
    tmp_path: Path, measured: list[int], change: Any
) -> None:
    times = OpTimes(CPU, tmp_path)
    times.of(*PRODUCT)
    times.save()
    path = file_in(tmp_path)
    path.write_text(change(json.loads(path.read_text())))
    times = OpTimes(CPU, tmp_path)
    assert times.of(*PRODUCT) == 2
    times.save()
    assert OpTimes(CPU, tmp_path).of(*PRODUCT) == 2


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = OpTimes(CPU, tmp_path)
    times.of(*PRODUCT)
    times.save()
    before = file_in(tmp_path).read_text()
    monkeypatch.setattr("fxprune.planning.op_times.LARGEST_FILE", len(before) - 1)
    times = OpTimes(CPU, tmp_path)
    assert times.of(*PRODUCT) == 2
    times.save()
    assert file_in(tmp_path).read_text() == before


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, measured: list[int]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    times = OpTimes(CPU, blocked / "folder")
    assert times.of(*PRODUCT) == 1
    times.save()
    assert times.of(*PRODUCT) == 1
    assert blocked.read_text() == "not a folder"


def test_what_others_wrote_meanwhile_stays(tmp_path: Path, measured: list[int]) -> None:
    one, two = OpTimes(CPU, tmp_path), OpTimes(CPU, tmp_path)
    one.of(*PRODUCT)
    two.of(aten.relu.default, [floats(3)], {})
    one.save()
    two.save()
    both = OpTimes(CPU, tmp_path)
    assert [both.of(*PRODUCT), both.of(aten.relu.default, [floats(3)], {})] == [1, 2]


def test_nothing_is_written_if_nothing_is_new(tmp_path: Path) -> None:
    OpTimes(CPU, tmp_path).save()
    assert list(tmp_path.iterdir()) == []


def test_measuring_leaves_the_users_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    OpTimes(CPU, tmp_path).of(aten.native_dropout.default, [floats(9), 0.5, True], {})
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_are_made_as_they_are_described(dtype: torch.dtype) -> None:
    made = Shaped((2, 3, 4), dtype, (0, 2, 1)).random(torch.Generator(), CPU)
    assert made.shape == (2, 3, 4)
    assert made.dtype == dtype
    assert made.stride() == (12, 1, 3)


def test_the_cache_lies_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/fxprune")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "fxprune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "fxprune"


def test_a_user_without_a_home_has_a_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert cache_folder() == Path(tempfile.gettempdir()) / "fxprune"
