"""A checkpoint is shrunk without the model in memory, to what `shrink` makes of the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import fxprune
from fxprune.shards import INDEX, SINGLE
from fxprune.streaming import Progress, slicing, work
from fxprune.streaming.markers import FINISHED, MARKER
from tests.streaming.nets import (
    TOKENS,
    build,
    digests,
    empty,
    plan_of,
    read_back,
    same,
    stored,
    weight_map,
    write_files,
    write_sharded,
    write_single,
)

pytest.importorskip("safetensors", reason="needs the extra safetensors")


def test_the_result_is_the_shrunk_module_and_the_plan_applied_to_the_state_dict(
    source: Path, target: Path
) -> None:
    plan = plan_of()
    before = digests(source)
    report = fxprune.shrink_checkpoint(empty(), source, target, plan)
    assert digests(source) == before
    made = read_back(target)
    whole = plan.apply_to_state_dict(build().state_dict())
    assert same(made, {name: whole[name] for name in made})
    assert whole.keys() - made.keys() == {"head.weight"}  # which is tied to another
    assert same(made, stored(fxprune.shrink(build(), plan, emit="module")))
    assert weight_map(target) == weight_map(source)
    assert (
        report.before > report.after == sum(p.stat().st_size for p in target.glob("*.safetensors"))
    )
    assert fxprune.Plan.load(target / "plan.json") == plan
    assert not (target / MARKER).exists()
    assert (target / FINISHED).exists()


def test_the_index_tells_the_new_size_and_keeps_what_else_it_said(
    source: Path, target: Path
) -> None:
    fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    document = json.loads((target / f"{SINGLE}{INDEX}").read_text())
    size = sum(t.numel() * t.element_size() for t in read_back(target).values())
    assert document["metadata"] == {"total_size": size, "kept": "text"}


def test_a_single_file_becomes_a_single_file(tmp_path: Path, target: Path) -> None:
    folder = write_single(stored(build()), tmp_path / "one")
    plan = plan_of()
    fxprune.shrink_checkpoint(empty(), folder, target, plan)
    assert sorted(path.name for path in target.iterdir()) == [FINISHED, SINGLE, "plan.json"]
    assert same(read_back(target), stored(fxprune.shrink(build(), plan, emit="module")))
    other = tmp_path / "other"
    fxprune.shrink_checkpoint(empty(), folder / SINGLE, other, plan)
    assert same(read_back(other), read_back(target))


def test_several_workers_make_the_same_files(source: Path, target: Path, tmp_path: Path) -> None:
    plan = plan_of()
    one = fxprune.shrink_checkpoint(empty(), source, target, plan)
    two = fxprune.shrink_checkpoint(empty(), source, tmp_path / "two", plan, workers=2)
    assert one.shards == two.shards
    assert digests(target).keys() == digests(tmp_path / "two").keys()


@pytest.mark.parametrize(
    "names", [["embed.weight"], ["head.weight"], ["embed.weight", "head.weight"]]
)
def test_of_tied_tensors_one_name_is_enough(tmp_path: Path, target: Path, names: list[str]) -> None:
    state = stored(build())
    table = state.pop("embed.weight")
    folder = write_sharded(state | {name: table.clone() for name in names}, tmp_path / "tied")
    plan = fxprune.plan(empty(), TOKENS, 0.5, weights=folder)
    assert plan == plan_of()
    fxprune.shrink_checkpoint(empty(), folder, target, plan)
    made = read_back(target)
    small = fxprune.shrink(build(), plan, emit="module").state_dict()
    assert same(made, {name: small[name] for name in made})
    assert {*made} - {*state} == {*names}


def test_a_plan_can_be_a_path_or_ratios_by_name(source: Path, target: Path, tmp_path: Path) -> None:
    plan = plan_of(ratio=0.0, ratios={"blocks.1.up": 0.5})
    plan.save(tmp_path / "plan.json")
    fxprune.shrink_checkpoint(empty(), source, target, tmp_path / "plan.json")
    other = tmp_path / "other"
    fxprune.shrink_checkpoint(empty(), source, other, {"blocks.1.up": 0.5}, TOKENS)
    assert same(read_back(target), read_back(other))
    assert read_back(target)["blocks.1.up.weight"].shape == (16, 16)


def test_a_model_with_data_is_taken_for_its_names_and_sizes_only(
    source: Path, target: Path
) -> None:
    torch.manual_seed(1)
    other = type(build())().eval()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    plan = plan_of()
    fxprune.shrink_checkpoint(other, source, target, plan)
    assert same(read_back(target), stored(fxprune.shrink(build(), plan, emit="module")))
    assert same(before, other.state_dict())


def test_types_stay_as_they_are(tmp_path: Path, target: Path) -> None:
    state = {n: t.bfloat16() if t.is_floating_point() else t for n, t in stored(build()).items()}
    state["blocks.0.up.weight"] = state["blocks.0.up.weight"].to(torch.float8_e4m3fn)
    state["blocks.1.up.weight"] = state["blocks.1.up.weight"].double()
    folder = write_sharded(state, tmp_path / "mixed")
    plan = plan_of()
    fxprune.shrink_checkpoint(empty(), folder, target, plan)
    made = read_back(target)
    assert {n: t.dtype for n, t in made.items()} == {n: t.dtype for n, t in state.items()}
    for name, tensor in made.items():
        kept = state[name].float()
        for dim, gone in plan.slices.get(name, {}).items():
            rest = [k for k in range(kept.shape[dim]) if k not in gone]
            kept = kept.index_select(dim, torch.tensor(rest))
        assert torch.equal(tensor.float(), kept)


def test_large_tensors_are_sliced_in_parts_to_the_same(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of()
    fxprune.shrink_checkpoint(empty(), source, target, plan)
    monkeypatch.setattr("fxprune.streaming.slicing._PART", 40)
    monkeypatch.setattr("fxprune.shards.writing._PIECE", 7)
    fxprune.shrink_checkpoint(empty(), source, tmp_path / "parts", plan)
    assert same(read_back(target), read_back(tmp_path / "parts"))


def test_tensors_of_dropped_blocks_are_left_out(source: Path, target: Path) -> None:
    plan = plan_of(ratio=0.25, drop=["blocks.1"])
    report = fxprune.shrink_checkpoint(empty(), source, target, plan)
    made = read_back(target)
    assert not any(name.startswith("blocks.1.") for name in made)
    assert len(report.dropped) == 4
    assert made.keys() == weight_map(target).keys()
    assert same(made, stored(fxprune.shrink(build(), plan, emit="module")))


def test_a_file_of_which_nothing_is_left_is_not_written(tmp_path: Path, target: Path) -> None:
    state = stored(build())
    gone = {n: f"model-{1 + n.startswith('blocks.1.')}.safetensors" for n in state}
    folder = write_files(state, tmp_path / "blocks", gone)
    fxprune.shrink_checkpoint(empty(), folder, target, plan_of(ratio=0.25, drop=["blocks.1"]))
    assert [path.name for path in target.glob("*.safetensors")] == ["model-1.safetensors"]
    assert set(weight_map(target).values()) == {"model-1.safetensors"}


def test_names_that_the_model_does_not_have_are_copied_and_told(
    tmp_path: Path, target: Path
) -> None:
    more = {"rope.inv_freq": torch.rand(3), "step": torch.tensor(7)}
    folder = write_sharded(stored(build()) | more, tmp_path / "more")
    report = fxprune.shrink_checkpoint(empty(), folder, target, plan_of())
    assert sorted(report.unknown) == ["rope.inv_freq", "step"]
    assert same({name: read_back(target)[name] for name in more}, more)
    assert "rope.inv_freq" in str(report)


def test_small_files_are_copied_and_other_weights_are_not(source: Path, target: Path) -> None:
    texts = {"tokenizer.json": "{}", "tokenizer.model": "x", "merges.txt": "a b", "README.md": "#"}
    for name, text in texts.items():
        (source / name).write_text(text)
    for name in ("pytorch_model.bin", "model.gguf", ".hidden", "rust_model.ot"):
        (source / name).write_bytes(b"weights")
    (source / "original").mkdir()
    (source / "config.json").write_text("{}")  # of a library that we do not know
    report = fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    assert sorted(report.copied) == sorted(texts)
    assert {name: (target / name).read_text() for name in texts} == texts
    assert sorted(report.left_out) == sorted(
        ["pytorch_model.bin", "model.gguf", ".hidden", "rust_model.ot", "original/", "config.json"]
    )
    assert "no config.json" in str(report)
    assert "original/" in str(report)


def test_progress_tells_of_all_files_and_bytes(source: Path, target: Path) -> None:
    told: list[Progress] = []
    fxprune.shrink_checkpoint(empty(), source, target, plan_of(), progress=told.append)
    written = [each.written for each in told]
    assert written == sorted(written)
    assert (told[-1].shards, told[-1].written) == (told[-1].all_shards, told[-1].all_written)
    assert told[-1].all_shards == 3
    assert "3 of 3 finished" in str(told[-1])


@pytest.mark.parametrize("verify", [True, "quick"])
def test_the_models_are_compared_on_request(source: Path, target: Path, verify: bool) -> None:
    report = fxprune.shrink_checkpoint(build(), source, target, plan_of(), TOKENS, verify=verify)
    assert report.verification is not None
    assert report.verification.nodes
    assert "verified" in str(report)
    assert not (target / MARKER).exists()


def test_without_verification_the_report_says_what_was_not_checked(
    source: Path, target: Path
) -> None:
    report = fxprune.shrink_checkpoint(empty(), source, target, plan_of())
    assert report.verification is None
    assert "not checked: what the model computes" in str(report)


def test_a_model_that_computes_something_else_is_refuted_and_stays_marked(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(tensor: torch.Tensor, gone: object) -> list[torch.Tensor]:
        parts = list(slicing.sliced_parts(tensor, gone))  # type: ignore[arg-type]
        return [part.flip(-1) for part in parts]

    monkeypatch.setattr(work, "sliced_parts", wrong)
    with pytest.raises(fxprune.VerificationError):
        fxprune.shrink_checkpoint(build(), source, target, plan_of(), TOKENS, verify="quick")
    assert (target / MARKER).exists()


class Convolutional(nn.Module):
    """Batch norm with its counter, which is an integer that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("criterion", ["l2", "bn_scale"])
def test_a_convolutional_net_is_shrunk_by_its_shards(
    tmp_path: Path, target: Path, criterion: str
) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = Convolutional().eval()
    torch.nn.init.uniform_(model.norm.weight)
    folder = write_sharded(stored(model), tmp_path / "conv")
    with torch.device("meta"):
        bare = Convolutional().eval()
    plan = fxprune.plan(bare, x, 0.5, criterion=criterion, weights=folder)
    assert plan == fxprune.plan(model, x, 0.5, criterion=criterion)
    fxprune.shrink_checkpoint(bare, folder, target, plan)
    assert same(read_back(target), stored(fxprune.shrink(model, plan, x, emit="module")))


_MEMORY = """
import sys, torch, fxprune
from pathlib import Path
from torch import nn
from tests.peak_memory import most_memory
from tests.streaming.nets import write_single

rows, width = 40_000, 800
class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(rows, width)
        self.last = nn.Linear(width, 4)
    def forward(self, x):
        return self.last(self.table(x))

with torch.device("meta"):
    model = Table().to(torch.bfloat16).eval()
folder = Path(sys.argv[1])
if not (folder / "source").exists():
    state = {n: torch.randn(t.shape).to(torch.bfloat16) for n, t in model.state_dict().items()}
    write_single(state, folder / "source")
    sys.exit()
tokens = torch.zeros(1, 2, dtype=torch.int64)
warm = fxprune.plan(nn.Linear(2, 2), torch.ones(1, 2), 0.0)
def work():
    plan = fxprune.plan(model, tokens, 0.25, weights=folder / "source")
    fxprune.shrink_checkpoint(model, folder / "source", folder / "target", plan)
print(most_memory(work)[1] / (2 * rows * width))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_below_three_times_the_largest_tensor(tmp_path: Path) -> None:
    for _ in range(2):  # the first makes the checkpoint
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
    assert float(done.stdout.split()[-1]) < 3
