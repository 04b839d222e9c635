"""Whatever ends the work early, the source is untouched, and the same call goes on."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fxprune
from fxprune.errors import FxPruneError, InputError
from fxprune.files import DRAFT
from fxprune.streaming import Progress, work
from fxprune.streaming.folders import owned
from fxprune.streaming.markers import FINISHED, MARKER, Marker
from tests.streaming.nets import (
    build,
    digests,
    empty,
    plan_of,
    read_back,
    same,
    stored,
    write_sharded,
)

pytest.importorskip("safetensors", reason="needs the extra safetensors")

_KILLED = """
import os, signal, sys
import fxprune
from tests.streaming.nets import empty, plan_of

source, target, shards, written, workers = sys.argv[1:]

def kill(progress):
    if progress.shards == int(shards) and progress.written >= int(written):
        os.kill(os.getpid(), signal.SIGKILL)

fxprune.shrink_checkpoint(
    empty(), source, target, plan_of(), workers=int(workers), progress=kill
)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tensor_files(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of tensors, and what tells whether they were written again."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.glob("model-*.safetensors")
    }


def check_whole(source: Path, target: Path) -> None:
    small = fxprune.shrink(build(), plan_of(), emit="module")
    assert same(read_back(target), stored(small))
    assert MARKER not in names(target)
    assert FINISHED in names(target)
    assert not list(target.glob(f"{DRAFT}*"))


@pytest.mark.parametrize(("shards", "written"), [(0, 1), (1, 0), (2, 0), (2, 2000)])
def test_a_killed_run_goes_on_and_writes_no_finished_file_again(
    source: Path, target: Path, shards: int, written: int
) -> None:
    before = digests(source)
    arguments = [str(source), str(target), str(shards), str(written), "1"]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments], check=False, timeout=300, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL
    assert digests(source) == before
    finished = Marker.read(target).shards
    assert len(finished) == shards
    there = {name: mark for name, mark in tensor_files(target).items() if name in finished}
    report = fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    check_whole(source, target)
    assert {shard.name for shard in report.shards if shard.resumed} == {*finished}
    assert there.items() <= tensor_files(target).items()
    assert digests(source) == before


def test_a_killed_run_of_two_workers_goes_on_with_one(source: Path, target: Path) -> None:
    arguments = [str(source), str(target), "1", "0", "2"]
    subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments], check=False, timeout=300, capture_output=True
    )
    assert MARKER in names(target)
    fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    check_whole(source, target)


def full_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The disk is full once so many files of tensors were written."""
    write, begun = work.write_in_parts, list[int]()

    def limited(stream: Any, *others: Any) -> str:
        begun.append(1)
        if len(begun) > count:
            stream.write(b"half of a header")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(stream, *others)

    monkeypatch.setattr(work, "write_in_parts", limited)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_leaves_the_source_as_it_is_and_the_target_marked(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    before = digests(source)
    with monkeypatch.context() as patched:
        full_after(patched, 1)
        with pytest.raises(FxPruneError, match="No space left on device") as caught:
            fxprune.shrink_checkpoint(empty(), source, target, plan_of(), workers=workers)
    finished = Marker.read(target).shards
    assert len(finished) == 1 or workers == 2  # the other may have been stopped
    assert f"{len(finished)} of 3 files are finished" in str(caught.value)
    assert "do the same again" in caught.value.hint
    assert digests(source) == before
    assert tensor_files(target).keys() == finished.keys()
    assert MARKER in names(target)
    assert not list(target.glob(f"{DRAFT}*"))
    there = tensor_files(target)
    fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    check_whole(source, target)
    assert there.items() <= tensor_files(target).items()


def interrupted(when: Callable[[Progress], bool]) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if when(progress):
            os.kill(os.getpid(), signal.SIGINT)

    return tell


@pytest.mark.parametrize("shards", [0, 1])
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_and_tells_how_to_go_on(
    source: Path, target: Path, shards: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxprune.shards.writing._PIECE", 64)
    before = digests(source)
    once = iter([True])
    tell = interrupted(lambda p: p.shards == shards and next(once, False))
    with pytest.raises(KeyboardInterrupt) as caught:
        fxprune.shrink_checkpoint(
            empty(), source, target, plan_of(), workers=workers, progress=tell
        )
    assert "do the same again" in caught.value.__notes__[0]
    assert digests(source) == before
    assert MARKER in names(target)
    assert not list(target.glob(f"{DRAFT}*"))
    fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    check_whole(source, target)


def stop_after(source: Path, target: Path, shards: int) -> None:
    """Leave an incomplete target with so many finished files."""

    def tell(progress: Progress) -> None:
        if progress.shards == shards:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fxprune.shrink_checkpoint(empty(), source, target, plan_of(), progress=tell)
    assert MARKER in names(target)


def test_what_was_begun_with_another_plan_is_not_gone_on_with(source: Path, target: Path) -> None:
    stop_after(source, target, 1)
    before = digests(target)
    with pytest.raises(FxPruneError, match="incomplete checkpoint of another plan"):
        fxprune.shrink_checkpoint(empty(), source, target, plan_of(ratio=0.25))
    assert digests(target) == before


def test_what_was_begun_with_another_source_is_not_gone_on_with(
    source: Path, target: Path, tmp_path: Path
) -> None:
    stop_after(source, target, 1)
    other = write_sharded(stored(build()), tmp_path / "other", 2)
    with pytest.raises(FxPruneError, match="incomplete checkpoint of another source"):
        fxprune.shrink_checkpoint(empty(), other, target, plan_of())


def test_how_a_plan_was_made_does_not_make_it_another_one(source: Path, target: Path) -> None:
    stop_after(source, target, 1)
    plan = plan_of()
    channels = {name: list(group.removed) for name, group in plan.groups.items()}
    named = plan_of(ratio=0.0, channels={"embed": channels["embed"]} | {
        f"blocks.{k}.up": channels[f"blocks.{k}.up"] for k in range(3)
    })  # fmt: skip
    assert named.made != plan.made
    fxprune.shrink_checkpoint(empty(), source, target, named)
    check_whole(source, target)


@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
def test_a_finished_file_that_was_changed_since_is_written_again(
    source: Path, target: Path, change: str
) -> None:
    stop_after(source, target, 1)
    name = next(iter(Marker.read(target).shards))
    data = bytearray((target / name).read_bytes())
    data[-1] ^= 1
    if change == "remove":
        (target / name).unlink()
    else:
        (target / name).write_bytes(data if change == "flip" else data[:-1])
    report = fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    check_whole(source, target)
    assert name in {shard.name for shard in report.shards if not shard.resumed}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"format": "fxprune shrunk checkpoint", "version": 2}',
        '{"format": "fxprune shrunk checkpoint", "version": 1, "plan": "x", "source": "y"}',
        '{"format": "fxprune shrunk checkpoint", "version": 1, "plan": 0, "source":1, "shards": 2}',
    ],
)
def test_a_marker_that_is_malformed_is_refused(source: Path, target: Path, text: str) -> None:
    target.mkdir()
    (target / MARKER).write_text(text)
    with pytest.raises(InputError):
        fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    assert names(target) == [MARKER]


def test_a_marker_cannot_name_files_elsewhere(source: Path, target: Path) -> None:
    stop_after(source, target, 1)
    marker = Marker.read(target)
    finished = next(iter(marker.shards.values()))
    marker.with_finished("../source/model-00001-of-00003.safetensors", finished).write(target)
    with pytest.raises(InputError, match="which the source has not"):
        fxprune.shrink_checkpoint(empty(), source, target, plan_of())


def test_what_is_read_back_wrong_is_removed_and_told(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = work.write_in_parts

    def faulty(stream: Any, *others: Any) -> str:
        digest = write(stream, *others)
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\xff")
        return digest

    monkeypatch.setattr(work, "write_in_parts", faulty)
    with pytest.raises(FxPruneError, match="does not hold what was to be written") as caught:
        fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    assert "another SHA-256" in caught.value.why
    assert not tensor_files(target)
    assert MARKER in names(target)


def test_an_untouched_tensor_with_other_bytes_is_told(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = work.Job._parts

    def faulty(self: work.Job, shard: Any, name: str) -> Any:
        parts = made(self, shard, name)
        return parts if name in self.slices else [part.clone().zero_() for part in parts]

    monkeypatch.setattr(work.Job, "_parts", faulty)
    with pytest.raises(FxPruneError, match="other bytes than in the source"):
        fxprune.shrink_checkpoint(empty(), source, target, plan_of())


@pytest.mark.skipif(os.name != "posix", reason="folders are locked on posix systems only")
def test_two_processes_do_not_write_one_target(source: Path, target: Path) -> None:
    with owned(target), pytest.raises(FxPruneError, match="another process writes"):
        fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    check_whole(source, target)
