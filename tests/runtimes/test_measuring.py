"""Candidates run in processes of their own, in turns; what fails says why and stops no other."""

import json
from pathlib import Path

import pytest
import torch

from fxprune import InputError
from fxprune.loading import ModelName, ModelSource
from fxprune.runtimes import Candidate, Comparison, Settings, compare

SETTINGS = Settings(rounds=5, warm_up=0.0, shortest=0.0)
MIB = 2**20


def named(attribute: str) -> Candidate:
    source = ModelSource(ModelName("tests.runtimes.models", attribute))
    return Candidate(attribute, "eager", source, torch.zeros(1, 8))


TOLD: list[str] = []


@pytest.fixture(scope="module")
def several() -> Comparison:
    names = ("wide", "narrow", "loud", "failing", "killed")
    return compare([named(name) for name in names], SETTINGS, TOLD.append)


def test_a_larger_model_takes_longer_and_holds_more(several: Comparison) -> None:
    wide, narrow = several.measurements[:2]
    assert wide.relation is None
    assert narrow.relation is not None
    assert narrow.relation.to == "wide"
    assert narrow.relation.verdict == "faster"
    assert wide.peak_memory > narrow.peak_memory + 50 * MIB
    assert (wide.size, narrow.size) == (4 * (9 * 4096 + 4097 * 4096 + 4097 * 4), 4 * 9 * 4)


def test_what_a_model_prints_is_no_answer(several: Comparison) -> None:
    assert several.measurements[2].failure == ""


def test_what_fails_says_why_and_stops_no_other(several: Comparison) -> None:
    failing, killed = several.measurements[3:]
    assert failing.failure == "ValueError: cannot run"
    assert killed.failure == "the process ended with exit code 7"
    assert failing.milliseconds is None
    assert failing.relation is None


def test_a_comparison_is_plain_data(several: Comparison) -> None:
    document = json.loads(json.dumps(several.to_document()))
    assert document["rounds"] == 5
    assert document["measurements"][1]["relation"]["verdict"] == "faster"


def test_a_process_that_holds_more_than_the_limit_is_ended() -> None:
    limited = Settings(rounds=5, warm_up=0.0, memory_limit=10 * MIB)
    (found,) = compare([named("narrow")], limited).measurements
    assert found.failure.endswith("more than the limit of 10 MiB")
    assert found.peak_memory > 10 * MIB


def test_progress_tells_each_candidate_and_each_round(several: Comparison) -> None:
    assert TOLD[1] == "Loading and warming up narrow in eager (2 of 5)"
    assert TOLD[5:] == [f"Timing, round {number} of 5" for number in range(1, 6)]


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        compare([])


def test_onnx_files_run_without_torch(tmp_path: Path) -> None:
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    model = torch.nn.Linear(8, 4).eval()
    program = torch.onnx.export(model, (torch.zeros(1, 8),), dynamo=True, verbose=False)
    program.save(tmp_path / "model.onnx", external_data=True)
    candidates = [
        Candidate("file", "onnxruntime", tmp_path / "model.onnx", torch.zeros(1, 8)),
        Candidate("two", "onnxruntime", tmp_path / "model.onnx", (torch.zeros(1, 8),) * 2),
        named("narrow"),
    ]
    file, two, eager = compare(candidates, SETTINGS).measurements
    assert file.failure == ""
    files = list(tmp_path.glob("model.onnx*"))
    assert len(files) == 2
    assert file.size == sum(each.stat().st_size for each in files)
    assert file.peak_memory < eager.peak_memory - 50 * MIB
    assert two.failure == "ValueError: the file takes 1 inputs, and 2 are given"
