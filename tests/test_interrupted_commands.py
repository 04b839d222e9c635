"""Ctrl-C in the middle of a command: code 130, one line, nothing left behind, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fxprune
from fxprune import Sensitivity
from tests.sensitivities.models import X, two

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.slow,
]
CHECKOUT = Path(__file__).parents[1]
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have turned it off
from fxprune.cli import main
main()
"""
TWO = ("tests.sensitivities.models:two", "--input", "2x4")
MARK = "FXPRUNE_TESTED_IN"


class Run:
    """A command that runs in a folder, in a group of processes as a terminal makes one."""

    def __init__(self, folder: Path, *arguments: object, fast: int = 99, code: str = COMMAND):
        self.folder = folder
        (folder / "tmp").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=folder,
            env={
                **os.environ,
                MARK: str(folder),
                "FAST": str(fast),
                "PYTHONPATH": str(CHECKOUT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(folder / "tmp"),
                "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"),
                "XDG_CACHE_HOME": str(folder / "cache"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self.told: list[str] = []
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self.told.extend, args=(self.process.stderr,))
        self._reader.start()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to happen."""
        for _ in range(12000):
            if condition() or self.process.poll() is not None:
                break
            time.sleep(0.01)
        assert condition(), self.told

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: any(text in line for line in [*self.told])

    def interrupt(self) -> str:
        """Ctrl-C: all processes of the group get the signal. Returns the last line."""
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.wait(60) == 130, self.told
        self._reader.join(60)
        assert not self._reader.is_alive()
        assert "Traceback" not in "".join(self.told)
        assert self.process.stdout is not None
        assert self.process.stdout.read() == ""
        assert not [*(self.folder / "tmp").iterdir()]
        assert not [*self.folder.rglob(".fxprune-*")]
        assert not self.left()
        lines = [line.strip() for line in self.told if "stopped: " in line]
        assert len(lines) == 1, self.told
        assert self.told[-1].strip() == lines[0]
        return lines[0]

    def left(self) -> list[str]:
        """Processes that the command has left behind: they get a moment to be gone."""
        for _ in range(300):
            found = [*self._marked()]
            if not found:
                break
            time.sleep(0.02)
        return found

    def _marked(self) -> Iterator[str]:
        mark = f"{MARK}={self.folder}\0".encode()
        for entry in Path("/proc").iterdir():
            try:
                if mark in (entry / "environ").read_bytes():
                    yield entry.name
            except OSError:
                continue

    @property
    def calls(self) -> int:
        """How often `evaluate` was begun."""
        file = self.folder / "calls"
        return len(file.read_text()) if file.exists() else 0

    def end(self) -> None:
        """Whatever has happened, nothing goes on."""
        for entry in self._marked():
            try:
                os.kill(int(entry), signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(60)
        self._reader.join(60)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(*arguments: object, **options: Any) -> Run:
        runs.append(Run(tmp_path, *arguments, **options))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"tmp", "cache", "calls"}


@pytest.mark.parametrize(
    ("command", "options", "stage"),
    [
        ("analyze", ["tests.slow_nets:SlowToTrace"], "Analyzing"),
        ("plan", ["tests.slow_nets:SlowToTrace", "--ratio", 0.5, "-o", "p.json"], "Planning"),
        (
            "shrink",
            ["tests.slow_nets:SlowToCall", "--ratio", 0.5, "-o", "small.pt"],
            "Shrinking and verifying",
        ),
    ],
)
def test_what_writes_at_its_end_writes_nothing(
    start: Callable[..., Run], tmp_path: Path, command: str, options: list[object], stage: str
) -> None:
    run = start(command, *options, "--input", "2x4")
    run.until(run.says(f"{stage} ..."))
    assert run.interrupt() == "stopped: no result was written"
    assert names(tmp_path) == set()


def test_a_proof_stops(start: Callable[..., Run], tmp_path: Path) -> None:
    from tests.slow_nets import SlowToCall  # noqa: PLC0415  # wraps a function for tracing

    model = SlowToCall()
    plan = fxprune.plan(model, X[:2], ratio=0.5)
    plan.save(tmp_path / "plan.json")
    fxprune.save(fxprune.shrink(model, plan, verify=False), tmp_path / "small.safetensors")
    run = start("verify", "tests.slow_nets:SlowToCall", "small.safetensors")
    run.until(run.says("Verifying ..."))
    run.interrupt()
    assert names(tmp_path) == {"plan.json", "small.safetensors"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_sensitivity_keeps_its_points_and_goes_on(
    start: Callable[..., Run], tmp_path: Path, jobs: int
) -> None:
    options = ("--evaluate", "tests.slow_nets:value", "--mode", "min", "--ratios", "0.25,0.5,0.75")
    options = ("sensitivity", *TWO, *options, "--resume", "points.json", "-o", "curves.json")
    first = start(*options, "--jobs", jobs, fast=4)
    first.until(lambda: first.calls == 4 + jobs)  # so many are slow now
    first.until(lambda: len(points(tmp_path)) >= 3)
    last = first.interrupt()
    assert "3 of 6 points are finished in" in last
    assert "points.json; to go on, do the same again" in last
    assert names(tmp_path) == {"points.json"}
    again = start(*options)
    assert again.process.wait(100) == 0
    assert again.calls == 4 + jobs + 3
    assert Sensitivity.load(tmp_path / "curves.json") == fxprune.sensitivity(
        *(two(), X[:2], error_of_two()), ratios=(0.25, 0.5, 0.75), mode="min", progress=False
    )


def error_of_two() -> Callable[[Any], float]:
    from tests.sensitivities.models import error  # noqa: PLC0415

    return error


def points(folder: Path) -> list[object]:
    file = folder / "points.json"
    if not file.exists():
        return []
    return [p for curve in Sensitivity.load(file).curves.values() for p in curve.points]


def test_without_a_file_it_says_that_nothing_is_kept(start: Callable[..., Run]) -> None:
    options = ("--evaluate", "tests.slow_nets:value", "--mode", "min")
    run = start("sensitivity", *TWO, *options, fast=2)
    run.until(lambda: run.calls == 3)
    assert run.interrupt() == "stopped: nothing is kept, for there is no file to resume from"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_report_keeps_the_values_of_candidates_and_goes_on(
    start: Callable[..., Run], tmp_path: Path, jobs: int
) -> None:
    for ratio in (0.25, 0.5, 0.75):
        fxprune.plan(two(), X[:2], ratio=ratio).save(tmp_path / f"{ratio}.json")
    candidates = [f"--candidate={ratio}.json" for ratio in (0.25, 0.5, 0.75)]
    options = ("--plan", "0.5.json", *candidates, "--evaluate", "tests.slow_nets:value")
    options = ("report", *TWO, *options, "--quick", "--resume", "values.json", "-o", "r.md")
    first = start(*options, "--jobs", jobs, fast=2)
    first.until(lambda: first.calls == 2 + jobs)
    first.until((tmp_path / "values.json").exists)
    first.until(lambda: '"macs"' in (tmp_path / "values.json").read_text())
    first.until(lambda: (tmp_path / "values.json").read_text().count('"macs"') == 2)
    assert "2 of 4 candidates are finished in" in first.interrupt()
    assert "r.md" not in names(tmp_path)
    again = start(*options)
    assert again.process.wait(100) == 0
    assert again.calls == 2 + jobs + 2
    assert "r.md" in names(tmp_path)


@pytest.mark.parametrize(
    ("model", "text"),
    [("Fast", "Timing, round"), ("SlowToCall", "Loading and warming up")],
)
def test_measurements_stop_with_their_processes(
    start: Callable[..., Run], tmp_path: Path, model: str, text: str
) -> None:
    options = ("--input", "2x4", "--rounds", 100000)
    run = start("bench", f"tests.slow_nets:{model}", "tests.slow_nets:Fast", *options)
    run.until(run.says(text))
    assert run.interrupt() == "stopped: no result was written"
    assert names(tmp_path) == set()


BENCHMARKS = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
import benchmarks.__main__ as run

def slow():
    print("begun", file=sys.stderr, flush=True)
    time.sleep(300)

run.TARGET = Path("page.md")
run.SECTIONS = {"One": lambda: ["new"], "Two words": slow, "Three": lambda: ["new"]}
sys.exit(run.command([]))
"""


def test_benchmarks_keep_the_sections_that_are_finished(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    pytest.importorskip("torch_pruning", reason="needs the extra scores")
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n\n## One\n\nold\n\n## Two words\n\nold\n")
    run = start(code=BENCHMARKS)
    run.until(run.says("begun"))
    last = run.interrupt()
    assert last == (
        "stopped: 1 of 3 sections are finished and written; to go on: python -m benchmarks"
        " 'two words' three"
    )
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\n## One\n\nnew\n")
    assert text.endswith("## Two words\n\nold\n")
