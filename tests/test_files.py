"""Files appear whole or not at all, and only regular files are read."""

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from torch import nn

import fxprune
from fxprune.errors import FxPruneError
from fxprune.files import read_text, regular_file, write_atomically
from fxprune.model_files import save_model

CHECKOUT = Path(__file__).parents[1]
X = torch.randn(2, 6)


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3)).eval()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupted(error: BaseException) -> Callable[[BinaryIO], None]:
    """Writes half of a file."""

    def write(stream: BinaryIO) -> None:
        stream.write(b"half of")
        stream.flush()
        raise error

    return write


# -- writing --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("bits"), OSError(28, "No space left"), MemoryError()])
def test_a_file_that_fails_in_the_middle_is_not_there(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(FxPruneError, match="new cannot be written"):
        write_atomically(tmp_path / "new", interrupted(error))
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError("bits"), KeyboardInterrupt(), SystemExit(1)])
def test_the_old_file_stays_if_the_new_one_fails(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "old").write_bytes(b"precious")
    with pytest.raises((FxPruneError, KeyboardInterrupt, SystemExit)):
        write_atomically(tmp_path / "old", interrupted(error))
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"precious"


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def noted_replace(self: Path, target: Path) -> Path:
        events.append(f"replace {target.name}")
        return replace(self, target)

    def noted_fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append(f"sync {kind} of {os.fstat(descriptor).st_size if kind == 'file' else ''}")
        fsync(descriptor)

    monkeypatch.setattr(Path, "replace", noted_replace)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    write_atomically(tmp_path / "new", lambda stream: stream.write(b"12345"))
    assert events == ["sync file of 5", "replace new", "sync folder of "]


LIMITED = """
import resource, signal, sys
import torch, fxprune
from pathlib import Path
from fxprune.model_files import save_model
from tests.test_files import X, chain
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
plan = fxprune.plan(chain(), X, 0.5)
small = fxprune.shrink(chain(), plan)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))  # as if the disk were full
for save in (plan.save, lambda path: save_model(small, Path(path))):
    try:
        save(sys.argv[1])
    except fxprune.FxPruneError as error:
        print(str(error).replace("\\n", " "))
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from fxprune.files import write_atomically
def write(stream):
    stream.write(b"half of")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), write)
"""


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_full_disk_leaves_the_old_plan_and_the_old_model(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"precious")
    done = python(LIMITED, tmp_path / "old")
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert all(f"{tmp_path / 'old'} cannot be written" in line for line in lines)
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"precious"


def test_a_killed_process_leaves_the_old_file_and_a_draft_at_most(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"precious")
    assert python(KILLED, tmp_path / "old").returncode == -signal.SIGKILL
    assert (tmp_path / "old").read_bytes() == b"precious"
    draft, *others = [name for name in names(tmp_path) if name != "old"]
    assert draft.startswith(".fxprune-")
    assert not others


def test_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", lambda stream: stream.write(b"1"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_permissions_stay_and_no_draft_has_more(tmp_path: Path, mode: int) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "old").chmod(mode)
    drafts = []

    def write(stream: BinaryIO) -> None:
        drafts.append(stat.S_IMODE(os.fstat(stream.fileno()).st_mode))
        stream.write(b"new")

    write_atomically(tmp_path / "old", write)
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == mode
    assert drafts == [0o600]
    assert (tmp_path / "old").read_bytes() == b"new"


def test_a_link_stays_and_its_target_is_written_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/file")  # which is not there yet
    for content in (b"first", b"second"):
        write_atomically(tmp_path / "link", lambda stream, c=content: stream.write(c))
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real" / "file").read_bytes() == content
    assert names(tmp_path / "real") == ["file"]


def test_a_hard_link_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "twin").hardlink_to(tmp_path / "old")
    write_atomically(tmp_path / "old", lambda stream: stream.write(b"new"))
    assert (tmp_path / "twin").read_bytes() == b"old"


def test_links_in_a_circle_folders_and_devices_are_not_written(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "a", tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(FxPruneError, match="cannot be written"):
            write_atomically(path, lambda stream: stream.write(b"1"))
    assert names(tmp_path) == ["a", "b", "pipe"]
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, lambda stream: stream.write(b"1"))
    assert path.read_bytes() == b"1"


def test_a_model_that_cannot_be_pickled_leaves_no_file(tmp_path: Path) -> None:
    small = fxprune.shrink(chain(), fxprune.plan(chain(), X, 0.5))
    small.get_submodule("0").helper = lambda x: x
    with pytest.raises(FxPruneError, match=r"small\.pt cannot be written"):
        save_model(small, tmp_path / "small.pt")
    assert names(tmp_path) == []


# -- reading --------------------------------------------------------------------------------


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "nothing"):
        with pytest.raises(OSError, match=r"regular file|folder|No such file"):
            regular_file(path)


def test_a_file_is_measured_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as stream:
        stream.truncate(1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OSError, match=r"it has 1,099,511,627,776 bytes, more than 1,000"):
        read_text(tmp_path / "hole", 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_a_link_to_a_file_is_read_as_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("äöü", encoding="utf-8")
    (tmp_path / "link").symlink_to("file")
    assert read_text(tmp_path / "link", 6) == "äöü"
    with pytest.raises(OSError, match="more than 5"):
        read_text(tmp_path / "link", 5)
