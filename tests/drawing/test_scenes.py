"""Errors and why-nots with a picture."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import re
import weakref
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from faults.injection import Edit
from fxprune.drawing import Picture
from fxprune.drawing.scenes import drawable
from fxprune.errors import FxPruneError, Location
from fxprune.explanations import Explanation
from tests.drawing.models import IMAGE, Residual, analyzed, residual

OFF_BY_ONE = Edit(
    "passes.slicing:sliced",
    "torch.from_numpy(np.ascontiguousarray(index))",
    "torch.from_numpy(np.ascontiguousarray((index + 1) % tensor.shape[dim]))",
)
MARKED = 'color="#D40000", penwidth=5'


def refuted(emit: Any = "graph") -> fxprune.VerificationError:
    """The error for a model that is sliced wrongly."""
    model = Residual(6, 6, 4).eval()
    with OFF_BY_ONE.applied(), pytest.raises(fxprune.VerificationError) as caught:
        fxprune.shrink(model, fxprune.plan(model, IMAGE, ratio=0.5), IMAGE, emit=emit)
    return caught.value


def in_another_process() -> None:
    """What a worker does."""
    raise refuted()


def marked(text: str) -> list[str]:
    """The nodes of a DOT file that are marked."""
    return [line.split('"')[1] for line in text.splitlines() if MARKED in line]


def test_a_refuted_model_is_drawn_around_the_node_that_differs(tmp_path: Path) -> None:
    error = refuted()
    assert isinstance(error.where, Location)
    picture = error.draw(tmp_path / "error.dot", hops=1)
    text = (tmp_path / "error.dot").read_text(encoding="utf-8")
    assert marked(text) == [error.where.node] == ["stem"]
    assert re.search(r"differs from the original by \d\.\d+e[+-]\d+", picture.marks["stem"])
    assert "node stem differs from the original" in text
    assert "thick red border: the place in question" in text
    assert '"head"' not in text
    assert {n.name for n in picture.nodes} >= {"x", "stem", "blocks_0_conv1"}
    assert picture.pruned, "the widths that the plan leaves are shown"


def test_the_kinds_of_files_are_those_of_draw(tmp_path: Path) -> None:
    error = refuted()
    error.draw(tmp_path / "error.svg")
    assert b"</svg>" in (tmp_path / "error.svg").read_bytes()
    with pytest.raises(fxprune.InputError, match="does not end with a kind of picture"):
        error.draw(tmp_path / "error.txt")
    for options, message in (({"level": "layer"}, "level is 'layer'"), ({"hops": -1}, "hops is")):
        with pytest.raises(fxprune.InputError, match=message):
            error.draw(tmp_path / "other.dot", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["error.svg"]


def test_every_operator_can_be_drawn(tmp_path: Path) -> None:
    picture = refuted().draw(tmp_path / "error.dot", level="op", hops=3)
    assert picture.level == "op"
    assert "blocks_0_bn1" in {node.name for node in picture.nodes}


def test_a_module_that_differs_is_drawn(tmp_path: Path) -> None:
    error = refuted(emit="module")
    assert error.where == "module stem"
    assert list(error.draw(tmp_path / "error.dot").marks) == ["stem"]


def test_what_was_refuted_both_ways_is_drawn(tmp_path: Path) -> None:
    error = refuted(emit="auto")
    assert error.what.startswith("graph: ")
    assert list(error.draw(tmp_path / "error.dot").marks) == ["stem"]


def test_a_model_that_was_shrunk_by_another_plan_is_drawn(tmp_path: Path) -> None:
    model = Residual(6, 6, 4).eval()
    plans = [fxprune.plan(model, IMAGE, channels={"stem": [k]}) for k in (0, 1)]
    small = fxprune.shrink(model, plans[0])
    with pytest.raises(fxprune.VerificationError) as caught:
        fxprune.verify(model, small, plans[1], IMAGE)
    assert list(caught.value.draw(tmp_path / "error.dot").marks) == ["stem"]


def test_a_tensor_of_another_shape_is_drawn_as_its_module(tmp_path: Path) -> None:
    model = Residual(6, 6, 4).eval()
    plans = [
        fxprune.plan(model, IMAGE, channels={"blocks.1.conv1": gone}) for gone in ([0], [0, 1])
    ]
    small = fxprune.shrink(model, plans[0])
    with pytest.raises(fxprune.VerificationError, match="has shape") as caught:
        fxprune.verify(model, small, plans[1], IMAGE)
    assert caught.value.where == "module blocks.1.conv1"
    assert list(caught.value.draw(tmp_path / "error.dot").marks) == ["blocks_1_conv1"]


class Reads(nn.Module):
    """Has a number of channels in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.shape[-1] != 8:
            raise ValueError("a number of channels that is not 8")
        return self.last(x)


def test_a_module_that_cannot_be_rewritten_says_whether_it_can_be_drawn(tmp_path: Path) -> None:
    inputs = torch.zeros(2, 3)
    plan = fxprune.plan(Reads().eval(), inputs, ratio=0.5)
    with pytest.raises(fxprune.RewriteError) as caught:
        fxprune.shrink(Reads().eval(), plan, inputs, emit="module")
    with pytest.raises(fxprune.InputError, match="no place to draw") as refusal:
        caught.value.draw(tmp_path / "error.dot")
    assert "names no node or module" in str(refusal.value)


def test_an_error_of_no_model_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(FxPruneError) as caught:
        fxprune.plan(Residual(6), torch.zeros(2, 5, 8, 8), ratio=0.5)
    for error in (caught.value, fxprune.CaptureError("no graph"), fxprune.InputError("wrong")):
        with pytest.raises(fxprune.InputError, match="there is no picture of this error"):
            error.draw(tmp_path / "error.dot")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_node_of_the_picture_is_refused(tmp_path: Path) -> None:
    deps = residual(6)
    with pytest.raises(fxprune.RewriteError) as caught, drawable(deps):
        raise fxprune.RewriteError("no", where=Location("size_3", "nowhere"))
    with pytest.raises(fxprune.InputError, match="no size_3 or nowhere"):
        caught.value.draw(tmp_path / "error.dot")


class Decides(nn.Module):
    """Looks at a value."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if float(x.abs().sum()) > 0:
            x = x.relu()
        return self.last(x)


@pytest.mark.parametrize("level", ["module", "op"])
def test_of_a_node_that_is_not_drawn_what_it_reads_is_marked(level: str) -> None:
    model, inputs = Decides().eval(), torch.ones(2, 3)
    plan = fxprune.plan(model, inputs, ratio=0.5)
    with pytest.raises(fxprune.RewriteError) as caught:
        fxprune.shrink(model, plan, inputs, emit="graph")
    where = caught.value.where
    assert isinstance(where, Location)
    picture = caught.value.draw(level=level)
    ((node, text),) = picture.marks.items()
    assert where.node not in {name for each in picture.nodes for name in each.ops}
    assert any("sum" in name for each in picture.nodes if each.name == node for name in each.ops)
    assert text == f"{caught.value.what} (at {where.node}, which reads this)"


def test_the_parameter_of_a_gradient_is_drawn_as_its_module(tmp_path: Path) -> None:
    deps = residual(6)
    with pytest.raises(fxprune.VerificationError) as caught, drawable(deps):
        raise fxprune.VerificationError("no", where="parameter blocks.0.conv2.weight")
    assert list(caught.value.draw(tmp_path / "error.dot").marks) == ["blocks_0_conv2"]


def test_of_a_module_with_several_nodes_the_last_is_marked(tmp_path: Path) -> None:
    deps = residual(6)
    with pytest.raises(fxprune.VerificationError) as caught, drawable(deps):
        raise fxprune.VerificationError("no", where="module blocks.0")
    (mark,) = caught.value.draw(tmp_path / "error.dot", hops=0).marks
    assert mark == "add"


def test_a_marked_block_is_not_folded(tmp_path: Path) -> None:
    deps = residual(6, 6, 6)
    with pytest.raises(fxprune.VerificationError) as caught, drawable(deps):
        raise fxprune.VerificationError("no", where="module blocks.1.conv2")
    caught.value.draw(tmp_path / "error.dot", hops=9)
    assert marked((tmp_path / "error.dot").read_text(encoding="utf-8")) == ["blocks_1_conv2"]


def test_an_error_does_not_keep_the_model_once_its_traceback_is_gone(tmp_path: Path) -> None:
    model = Residual(6, 6, 4).eval()
    gone = weakref.ref(model)
    plan = fxprune.plan(model, IMAGE, ratio=0.5)
    with OFF_BY_ONE.applied(), pytest.raises(fxprune.VerificationError) as caught:
        fxprune.shrink(model, plan, IMAGE)
    error = caught.value
    del model, caught
    error.draw(tmp_path / "error.dot")
    error.__traceback__ = error.__cause__ = error.__context__ = None
    gc.collect()
    assert gone() is None
    with pytest.raises(fxprune.InputError, match="the model of this error is gone"):
        error.draw(tmp_path / "other.dot")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_pickled_error_has_its_picture_with_it(tmp_path: Path) -> None:
    error = refuted()
    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (type(other), str(other), other.where) == (type(error), str(error), error.where)
        for hops in (0, 2):
            expected = error.draw(tmp_path / "one.dot", hops=hops)
            assert other.draw(tmp_path / "two.dot", hops=hops) == expected
        with pytest.raises(fxprune.InputError, match="from another process"):
            other.draw(tmp_path / "two.dot", level="op")
    assert (tmp_path / "one.dot").read_bytes() == (tmp_path / "two.dot").read_bytes()


@pytest.mark.slow
def test_an_error_of_another_process_can_be_drawn(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor:
        error = executor.submit(in_another_process).exception()
    assert isinstance(error, fxprune.VerificationError)
    assert list(error.draw(tmp_path / "error.dot").marks) == ["stem"]


def drawn(explanation: Explanation, path: Path, **options: Any) -> Picture:
    """The picture of an explanation."""
    return explanation.draw(path / "why.dot", **options)


def test_a_why_not_is_drawn_with_the_node_that_stops_it(tmp_path: Path) -> None:
    deps = residual(6, 6, 4)
    picture = drawn(deps.why("head"), tmp_path)
    assert list(picture.marks) == ["output"]
    assert picture.marks["output"].startswith("head.weight[0]; head.bias[0] must stay: these are")
    names = {node.name for node in picture.nodes}
    assert "head" in names
    assert "stem" not in names
    assert marked((tmp_path / "why.dot").read_text(encoding="utf-8")) == ["output"]


class FarPin(nn.Module):
    """The channels of a layer meet the input three layers on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = y + self.second(y.relu())
        return self.last((z + x).relu())


def test_the_way_to_a_far_pin_is_drawn(tmp_path: Path) -> None:
    deps = analyzed(FarPin(), torch.zeros(2, 4))
    explanation = deps.why("first")
    picture = drawn(explanation, tmp_path, hops=0, level="op")
    way = {place.node for axis in explanation.axes for place in axis.way}
    assert "add_1" in way
    assert way <= {node.name for node in picture.nodes} - picture.outside
    assert "first.weight[0]" in picture.marks["add_1"]


def test_what_can_be_pruned_is_drawn_without_a_mark(tmp_path: Path) -> None:
    picture = drawn(residual(6, 6, 4).why("blocks.0.conv1"), tmp_path)
    assert not picture.marks
    assert "blocks_0_conv1" in {node.name for node in picture.nodes}


def test_a_group_is_drawn_where_it_is(tmp_path: Path) -> None:
    picture = drawn(residual(6, 6, 4).why("stem"), tmp_path, hops=0)
    assert {n.name for n in picture.nodes} - picture.outside == {"stem"}


def test_an_explanation_is_about_what_was_found_and_not_about_a_model(tmp_path: Path) -> None:
    deps = residual(6)
    explanation = deps.why("head")
    assert explanation == Explanation(explanation.pattern, explanation.axes)
    assert len(pickle.dumps(explanation)) < 20_000
    again = pickle.loads(pickle.dumps(explanation))
    assert again == explanation
    assert str(again) == str(explanation)
    with pytest.raises(fxprune.InputError, match="no model to draw"):
        drawn(again, tmp_path)


def test_an_explanation_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(fxprune.InputError, match="no operator that is drawn"):
        drawn(Explanation.of(residual(6), "nothing", ()), tmp_path)
