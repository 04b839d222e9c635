"""What cannot become a whole checkpoint is refused, and then nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune.errors import FxPruneError, InputError, PlanError, RewriteError
from fxprune.shards import SINGLE
from fxprune.streaming.markers import MARKER
from tests.streaming.nets import (
    TOKENS,
    Net,
    build,
    digests,
    empty,
    plan_of,
    stored,
    weight_map,
    write_index,
    write_sharded,
    write_single,
)

pytest.importorskip("safetensors", reason="needs the extra safetensors")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """A folder that is not there, before and after."""
    yield tmp_path / "target"
    assert not (tmp_path / "target").exists()


def refused(source: Path, target: Path, **options: Any) -> str:
    """The text of the refusal; the source is untouched."""
    before = digests(source)
    with pytest.raises(InputError) as caught:
        fxprune.shrink_checkpoint(empty(), source, target, plan_of(), **options)
    assert digests(source) == before
    return str(caught.value)


# -- the checkpoint and the model -----------------------------------------------------------


def test_a_missing_tensor(tmp_path: Path, target: Path) -> None:
    state = stored(build())
    del state["blocks.1.up.bias"]
    text = refused(write_sharded(state, tmp_path / "source"), target)
    assert "it has no blocks.1.up.bias" in text


def test_all_names_of_a_tied_tensor_missing(tmp_path: Path, target: Path) -> None:
    state = stored(build())
    del state["embed.weight"]
    text = refused(write_sharded(state, tmp_path / "source"), target)
    assert "it has no embed.weight; head.weight" in text


@pytest.mark.parametrize("longer", ["the model's", "the checkpoint's"])
def test_names_with_another_prefix(tmp_path: Path, target: Path, longer: str) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Net()

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.model(tokens)

    state = stored(build())
    if longer == "the model's":
        with torch.device("meta"):
            model: nn.Module = Wrapped().eval()
    else:
        state = {f"model.{name}": tensor for name, tensor in state.items()}
        model = empty()
    folder = write_sharded(state, tmp_path / "source")
    with pytest.raises(InputError, match=f"prefix: {longer} begin with 'model.'"):
        fxprune.shrink_checkpoint(model, folder, target, plan_of())


def test_another_shape(tmp_path: Path, target: Path) -> None:
    state = stored(build()) | {"blocks.1.up.bias": torch.zeros(33)}
    text = refused(write_sharded(state, tmp_path / "source"), target)
    assert "blocks.1.up.bias has shape [33] here, [32] in the model" in text


def test_integers_in_the_place_of_weights(tmp_path: Path, target: Path) -> None:
    state = stored(build())
    state["blocks.1.up.weight"] = state["blocks.1.up.weight"].to(torch.int8)
    text = refused(write_sharded(state, tmp_path / "source"), target)
    assert "blocks.1.up.weight is I8 here, torch.float32 in the model" in text


def test_scales_beside_a_tensor_that_would_be_sliced(tmp_path: Path, target: Path) -> None:
    state = stored(build()) | {"blocks.1.up.weight_scale_inv": torch.ones(1)}
    text = refused(write_sharded(state, tmp_path / "source"), target)
    assert "part of a quantized tensor" in text


def test_a_plan_for_another_model(source: Path, target: Path) -> None:
    other = fxprune.plan(Net(12).eval(), TOKENS, 0.5)
    with pytest.raises(PlanError, match="another model"):
        fxprune.shrink_checkpoint(empty(), source, target, other)


def test_a_plan_that_leaves_nothing_of_a_branch(source: Path, target: Path) -> None:
    plan = plan_of(ratio=0.0, channels={"blocks.1.up": list(range(32))})
    with pytest.raises(FxPruneError, match="cannot be emitted"):
        fxprune.shrink_checkpoint(empty(), source, target, plan)


def test_a_graph_module(source: Path, target: Path) -> None:
    graph = torch.fx.symbolic_trace(build())
    with pytest.raises(InputError, match="not of a GraphModule"):
        fxprune.shrink_checkpoint(graph, source, target, plan_of())


class WithTable(nn.Module):
    """A buffer of as many entries as there are channels, which is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.last = nn.Linear(6, 2)
        self.register_buffer("table", torch.arange(6.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x) * self.table)


def test_a_buffer_that_is_in_no_checkpoint_and_would_be_sliced(
    tmp_path: Path, target: Path
) -> None:
    x = torch.ones(1, 4)
    folder = write_sharded(stored(WithTable()), tmp_path / "table")
    with torch.device("meta"):
        model = WithTable().eval()
    plan = fxprune.plan(model, x, 0.5, weights=folder)
    with pytest.raises(RewriteError, match="table would have to be sliced, and is in no"):
        fxprune.shrink_checkpoint(model, folder, target, plan)
    fxprune.shrink_checkpoint(
        model, folder, tmp_path / "kept", fxprune.plan(model, x, criterion="random")
    )


def test_verification_of_a_model_of_which_a_buffer_has_no_data(
    tmp_path: Path, target: Path
) -> None:
    folder = write_sharded(stored(WithTable()), tmp_path / "table")
    with torch.device("meta"):
        model = WithTable().eval()
    plan = fxprune.plan(model, torch.ones(1, 4), 0.0, criterion="random")
    with pytest.raises(InputError, match="cannot be loaded to be verified: table has no data"):
        fxprune.shrink_checkpoint(model, folder, target, plan, verify=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"workers": True}, "workers"),
        ({"verify": "no"}, "verify"),
    ],
)
def test_options_that_mean_nothing(
    source: Path, target: Path, options: dict[str, Any], text: str
) -> None:
    assert text in refused(source, target, **options)


def test_a_dict_of_ratios_without_example_inputs(source: Path, target: Path) -> None:
    with pytest.raises(InputError, match="example inputs are missing"):
        fxprune.shrink_checkpoint(empty(), source, target, {"blocks.1.up": 0.5})


# -- the files ------------------------------------------------------------------------------


def test_a_shard_that_is_not_there(source: Path, target: Path) -> None:
    (source / "model-00002-of-00003.safetensors").unlink()
    assert "has no model-00002-of-00003.safetensors" in refused(source, target)


@pytest.mark.parametrize("size", [-1, 100, 8, 3, 0])
def test_a_shard_that_is_cut_off(source: Path, target: Path, size: int) -> None:
    path = source / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    text = refused(source, target)
    assert f"{path} cannot be read" in text
    assert "no whole file of safetensors" in text


def test_a_name_in_two_shards(source: Path, target: Path) -> None:
    state = stored(build())
    where = weight_map(source)
    name, file = next(iter(where.items()))
    other = next(each for each in where.values() if each != file)
    held = {n: state[n] for n, f in where.items() if f == other} | {name: state[name]}
    write_single(held, source / "more")
    (source / "more" / SINGLE).replace(source / other)
    (source / "more").rmdir()
    assert f"{name} is in {file} and in {other}" in refused(source, target)


def test_a_tensor_that_the_index_does_not_have(source: Path, target: Path) -> None:
    where = weight_map(source)
    file = where.pop("scale")
    write_index(source, where)
    assert f"scale is in {file}, and the index has it not" in refused(source, target)


def test_a_tensor_that_is_in_another_file_than_the_index_says(source: Path, target: Path) -> None:
    where = weight_map(source)
    where["scale"], where["order"] = where["order"], where["scale"]
    write_index(source, where)
    assert "the index says" in refused(source, target)


def test_a_tensor_that_only_the_index_has(source: Path, target: Path) -> None:
    where = weight_map(source)
    write_index(source, where | {"ghost": where["scale"]})
    assert f"ghost is not in {where['scale']}" in refused(source, target)


def test_both_a_single_file_and_an_index(source: Path, target: Path) -> None:
    write_single(stored(build()), source)
    assert "has both" in refused(source, target)


def test_a_folder_without_a_checkpoint(tmp_path: Path, target: Path) -> None:
    (tmp_path / "source").mkdir()
    assert "has neither" in refused(tmp_path / "source", target)


def test_a_file_of_another_kind(source: Path, target: Path) -> None:
    (source / "weights.bin").write_bytes(b"")
    with pytest.raises(InputError, match="no file of safetensors"):
        fxprune.shrink_checkpoint(empty(), source / "weights.bin", target, plan_of())
    with pytest.raises(InputError, match="there is no checkpoint"):
        fxprune.shrink_checkpoint(empty(), source / "nothing", target, plan_of())


# -- the target -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "inside", "../source/inside"])
def test_a_target_in_the_source(source: Path, place: str) -> None:
    assert "is in the source" in refused(source, source / place)


def test_a_source_that_is_incomplete(source: Path, target: Path) -> None:
    (source / MARKER).write_text("{}")
    assert "is incomplete" in refused(source, target)


def test_a_target_beside_a_file_is_none_in_the_source(source: Path, tmp_path: Path) -> None:
    write_single(stored(build()), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    plan = plan_of()
    report = fxprune.shrink_checkpoint(empty(), tmp_path / SINGLE, tmp_path / "small", plan)
    assert report.copied == ()
    with pytest.raises(InputError, match="is in the source"):
        fxprune.shrink_checkpoint(empty(), tmp_path / SINGLE, tmp_path, plan)


def test_a_source_in_the_target(source: Path) -> None:
    assert "is not empty" in refused(source, source.parent)


def test_a_target_that_is_a_file(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert "is a file" in refused(source, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "text"


def test_a_target_with_other_content(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    text = refused(source, other)
    assert "notes.txt" in text
    assert MARKER in text
    assert [path.name for path in other.iterdir()] == ["notes.txt"]


def test_a_target_that_is_finished(source: Path, tmp_path: Path) -> None:
    fxprune.shrink_checkpoint(empty(), source, tmp_path / "done", plan_of())
    before = digests(tmp_path / "done")
    assert "a checkpoint that is finished" in refused(source, tmp_path / "done")
    assert digests(tmp_path / "done") == before


def test_a_target_in_a_folder_that_is_not_there(source: Path, tmp_path: Path) -> None:
    assert "is not there" in refused(source, tmp_path / "no" / "where")


def test_an_empty_folder_is_a_target(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fxprune.shrink_checkpoint(empty(), source, tmp_path / "empty", plan_of())
    assert (tmp_path / "empty" / "plan.json").exists()
