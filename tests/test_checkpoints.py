"""Checkpoints: the model that is loaded is the model that was saved, or there is an error."""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

import fxprune
from fxprune import FxPruneError, InputError, Plan, PlanError, tensor_files
from fxprune.inputs import materialize
from models_zoo import ZOO, randomize
from tests.passes.test_drop_branches import branched, residual
from tests.progress.test_progressing import Backwards
from tests.test_dropping import ROWS, net
from tests.test_recording import IMAGES, BranchesOnValue

safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra safetensors")

CHECKOUT = Path(__file__).parents[1]
ROUND_TRIPS = [
    *("residual", "squeeze_excite", "channel_shuffle", "tied_weights", "experts_routed"),
    *("reparametrized_weight_norm", "recurrent_lstm", "attention_modules", "shared_module"),
    *("attention_windows_shifted", "group_norm"),
]
"""Tied weights, buffers, batch norms, lowered attention, forwards that need values."""
GRAPHS_ONLY = ["index_channels", "attention_positions_complex", "qkv_fused"]
"""Positions that are looked up, complex numbers."""


def chain(width: int = 8, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))
    return layers.to(dtype).eval()


X = torch.ones(2, 6)


def small_chain(**options: Any) -> Any:
    return fxprune.shrink(chain(), {"0": 0.5}, X, **{"verify": False, **options})


def outputs(model: nn.Module, inputs: Any) -> list[Any]:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return pytree.tree_leaves(model(*inputs))


def assert_same(saved: nn.Module, loaded: nn.Module, inputs: Any) -> None:
    """The same state, tied likewise, and the same outputs to the last bit."""
    ours, theirs = (m.state_dict(keep_vars=True) for m in (saved, loaded))
    assert list(ours) == list(theirs) or set(ours) == set(theirs)
    for name, value in ours.items():
        other = theirs[name]
        assert torch.equal(value, other) or bool(value.isnan().any())
        assert value.dtype == other.dtype
        assert value.requires_grad == other.requires_grad
        assert type(value) is type(other)
    ties = [{n: [k for k in s if s[k] is s[n]] for n in s} for s in (ours, theirs)]
    assert ties[0] == ties[1]
    for a, b in zip(outputs(saved, inputs), outputs(loaded, inputs), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
    modes = [{n: m.training for n, m in model.named_modules()} for model in (saved, loaded)]
    assert modes[0] == modes[1]
    order = [[name for name, _ in model.named_parameters()] for model in (saved, loaded)]
    assert order[0] == order[1]


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


# -- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "emit"),
    [*((n, "graph") for n in ROUND_TRIPS + GRAPHS_ONLY), *((n, "module") for n in ROUND_TRIPS)],
)
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, name: str, emit: Any) -> None:
    entry = ZOO[name]
    inputs = entry.example_inputs()
    model = randomize(entry.build()).eval()
    plan = fxprune.plan(model, inputs, ratio=0.5)
    small = fxprune.shrink(model, plan, emit=emit, verify=False)
    fxprune.save(small, tmp_path / "small.safetensors")
    torch.manual_seed(7)
    for fresh in (entry.build(), on_meta(entry.build)):
        before = {n: t.clone() for n, t in fresh.state_dict().items() if not t.is_meta}
        loaded = fxprune.load(fresh, tmp_path / "small.safetensors")
        assert isinstance(loaded, fx.GraphModule) == (emit == "graph")
        assert emit == "graph" or type(loaded) is type(model)
        assert_same(small, loaded, inputs)
        assert all(torch.equal(fresh.state_dict()[n], t) for n, t in before.items())
        assert not any(p is q for p in fresh.parameters() for q in loaded.parameters())


def normed() -> nn.Module:
    layers = [nn.Linear(6, 8, bias=False), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4, bias=False)]
    return randomize(nn.Sequential(*layers)).eval()


@pytest.mark.parametrize("options", [{"norm": "exact"}, {"constants": "fold"}])
def test_every_meaning_comes_back(tmp_path: Path, options: dict[str, Any]) -> None:
    """Also biases that folding has added."""
    model = normed()
    if options == {"constants": "fold"}:
        model[1] = nn.Identity()  # type: ignore[index]
        model[0].bias = nn.Parameter(torch.rand(8))  # type: ignore[index, union-attr]
        model[0].weight.data[:4] = 0  # type: ignore[index, union-attr]
    small = fxprune.shrink(model, {"0": [0, 1, 2]}, X, **options)
    assert (small.get_submodule("3").bias is not None) == ("constants" in options)
    fxprune.save(small, tmp_path / "small.safetensors")
    loaded = fxprune.load(
        on_meta(lambda: copy.deepcopy(model).to("meta")), tmp_path / "small.safetensors"
    )
    assert_same(small, loaded, [X])
    assert loaded.meta["fxprune"].meaning == small.meta["fxprune"].meaning
    assert fxprune.verify(model, loaded, small.meta["fxprune"].recipe.plan).tolerance


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_the_file_that_defines_the_model_may_have_another_name(tmp_path: Path, emit: Any) -> None:
    """Such as `__main__` when it was trained."""
    kinds = [type("Net", (nn.Sequential,), {"__module__": name}) for name in ("__main__", "nets")]
    small = fxprune.shrink(kinds[0](*chain()), {"0": 0.5}, X, emit=emit)
    fxprune.save(small, tmp_path)
    assert_same(small, fxprune.load(kinds[1](*chain()), tmp_path), [X])


@pytest.mark.parametrize("bias", [True, False])
def test_a_branch_that_has_gone_comes_back_as_the_constant_that_it_was(
    tmp_path: Path, bias: bool
) -> None:
    model = branched(residual)
    if not bias:  # nothing is added, so the addition has gone, too
        model.b.bias.data.zero_()  # type: ignore[union-attr, operator]
        model.norm.bias.data.zero_()  # type: ignore[union-attr, operator]
        model.norm.running_mean.zero_()  # type: ignore[union-attr, operator]
        model.b.weight.data.zero_()  # type: ignore[union-attr, operator]
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    small = fxprune.shrink(model, {"a": list(range(8))}, x)
    assert any(name.endswith("_constant") for name, _ in small.named_buffers()) == bias
    fxprune.save(small, tmp_path / "small.safetensors")
    for fresh in (branched(residual), branched(residual).to("meta")):
        assert_same(small, fxprune.load(fresh, tmp_path / "small.safetensors"), [x])


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_dropped_blocks_stay_dropped(tmp_path: Path, emit: Any) -> None:
    model = net()
    plan = fxprune.plan(model, ROWS, ratio=0.25, drop=["blocks.1"])
    small = fxprune.shrink(model, plan, ROWS, emit=emit)
    fxprune.save(small, tmp_path / "small.safetensors")
    for fresh in (net(), net().to("meta")):
        loaded = fxprune.load(fresh, tmp_path / "small.safetensors")
        assert_same(small, loaded, [ROWS])
        assert loaded.meta["fxprune"].dropped == ("blocks.1",)


def test_a_model_that_only_runs_on_data_is_loaded_without(tmp_path: Path) -> None:
    model = randomize(BranchesOnValue()).eval()
    small = fxprune.shrink(model, {"conv": 0.5}, IMAGES, emit="auto")
    assert small.meta["fxprune"].captured_by == "record"
    fxprune.save(small, tmp_path / "small.safetensors")
    for fresh in (BranchesOnValue(), on_meta(BranchesOnValue)):
        assert_same(small, fxprune.load(fresh, tmp_path / "small.safetensors"), [IMAGES])


def test_graphs_and_exported_programs_are_loaded_into_their_like(tmp_path: Path) -> None:
    graph = fx.symbolic_trace(chain())
    small = fxprune.shrink(graph, {"0": 0.5}, X)
    fxprune.save(small, tmp_path / "small.safetensors")
    assert_same(small, fxprune.load(graph, tmp_path / "small.safetensors"), [X])
    program = torch.export.export(chain(), (X,))
    small = fxprune.shrink(fxprune.analyze(program, X), {"0": 0.5})
    fxprune.save(small, tmp_path / "small.safetensors")
    again = fxprune.load(torch.export.export(chain(), (X,)), tmp_path / "small.safetensors")
    assert_same(small, again, [X])


def test_the_weights_of_now_are_saved_with_flags_and_modes(tmp_path: Path) -> None:
    """Also in another type, and of what `load` returned."""
    small = small_chain()
    path = tmp_path / "small.safetensors"
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    small(X).sum().backward()
    optimizer.step()
    small.get_parameter("0.weight").requires_grad_(False)
    small.train()
    small.get_submodule("2").eval()
    fxprune.save(small, path)
    loaded = fxprune.load(chain(), path)
    assert_same(small, loaded, [X])
    fxprune.save(loaded.half(), path)
    again = fxprune.load(chain(), path)
    assert again.get_parameter("2.bias").dtype == torch.float16
    assert_same(loaded, again, [X.half()])


def test_the_original_is_captured_in_the_modes_that_it_was_shrunk_in(tmp_path: Path) -> None:
    class Doubled(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x) if self.training else super().forward(x)

    model = Doubled(*chain()).train()
    small = fxprune.shrink(model, {"0": 0.5}, X)
    fxprune.save(small, tmp_path / "small.safetensors")
    assert_same(small, fxprune.load(Doubled(*chain()).eval(), tmp_path / "small.safetensors"), [X])


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_progressive_models_are_saved_with_the_order_of_their_parameters(
    tmp_path: Path, emit: Any
) -> None:
    x = torch.randn(2, 4)
    run = fxprune.Progressive(Backwards(), x, ratio=0.5, steps=2, emit=emit)
    run.step()
    run.step()
    fxprune.save(run.model, tmp_path / "small.safetensors")
    assert_same(run.model, fxprune.load(Backwards(), tmp_path / "small.safetensors"), [x])


def test_tensors_that_are_plain_attributes_are_saved(tmp_path: Path) -> None:
    class Scaled(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*chain())
            self.factor = torch.rand(3)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.factor

    for emit in ("graph", "module"):
        small = fxprune.shrink(Scaled(), {"0": 0.5}, X, emit=emit)  # type: ignore[arg-type]
        fxprune.save(small, tmp_path / "small.safetensors")
        for fresh in (Scaled(), on_meta(Scaled)):
            assert_same(small, fxprune.load(fresh, tmp_path / "small.safetensors"), [X])


def test_what_a_module_tells_of_its_weights_may_change(tmp_path: Path) -> None:
    class Told(nn.Linear):
        def extra_repr(self) -> str:
            return f"{float(self.bias[0])}"

    def build() -> nn.Module:
        return nn.Sequential(*chain(), Told(3, 3))

    small = fxprune.shrink(build(), {"0": 0.5}, X)
    small.get_parameter("3.bias").data.add_(1)
    fxprune.save(small, tmp_path)
    for fresh in (build(), on_meta(build)):
        assert_same(small, fxprune.load(fresh, tmp_path), [X])


def test_tensors_on_meta_that_are_not_in_the_file_are_refused(tmp_path: Path) -> None:
    class Hidden(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*chain())
            self.factors = [torch.full((3,), 2.0)]

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.factors[0]

    small = fxprune.shrink(Hidden(), {"0": 0.5}, X, emit="module")
    fxprune.save(small, tmp_path / "small.safetensors")
    assert_same(small, fxprune.load(Hidden(), tmp_path / "small.safetensors"), [X])
    with pytest.raises(InputError, match="on the meta device, and not in the checkpoint"):
        fxprune.load(on_meta(Hidden), tmp_path / "small.safetensors")


def test_a_loaded_model_is_proved_against_its_original(tmp_path: Path) -> None:
    model = chain()
    plan = fxprune.plan(model, X, ratio=0.5)
    fxprune.save(fxprune.shrink(model, plan), tmp_path)
    loaded = fxprune.load(chain(), tmp_path)
    assert loaded.meta["fxprune"].verification is None
    assert fxprune.verify(model, loaded, plan).nodes
    with pytest.raises(fxprune.VerificationError):
        fxprune.verify(chain(), loaded, plan)


# -- files ------------------------------------------------------------------------------------


def test_a_folder_holds_one_file_which_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    for _ in range(2):
        small = small_chain()
        fxprune.save(small, folder)
        assert [path.name for path in folder.iterdir()] == ["model.safetensors"]
        assert_same(small, fxprune.load(chain(), folder), [X])


def test_the_file_is_one_of_safetensors_with_the_names_of_the_state_dict(tmp_path: Path) -> None:
    small = small_chain()
    fxprune.save(small, tmp_path / "small.safetensors")
    read = safetensors.load_file(tmp_path / "small.safetensors")
    assert {n: t.tolist() for n, t in read.items()} == {
        n: t.tolist() for n, t in small.state_dict().items()
    }


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_chain()
    fxprune.save(small, tmp_path)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("unpickled")

    for owner, name in ((torch, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(owner, name, never)
    monkeypatch.setattr(pickle, "Unpickler", never)
    monkeypatch.setattr(pickle, "_Unpickler", never)
    assert_same(small, fxprune.load(chain(), tmp_path), [X])


SAVES = """
import sys, torch, fxprune
from torch import nn
from tests.test_checkpoints import chain, X
small = fxprune.shrink(chain(1 << 12), {"0": [0]}, X, verify=False)
while True:
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(float(parameter.flatten()[0]) + 1)
    fxprune.save(small, sys.argv[1])
    print("saved", flush=True)
"""


def test_a_process_that_is_killed_leaves_an_old_or_a_new_file(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    command = [sys.executable, "-c", SAVES, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    loaded = fxprune.load(chain(1 << 12), folder)
    assert all(bool((p == p.flatten()[0]).all()) for p in loaded.parameters())


def test_without_safetensors_the_error_tells_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_chain()
    fxprune.save(small, tmp_path)

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert tensor_files.importlib is importlib
    for call in (lambda: fxprune.save(small, tmp_path), lambda: fxprune.load(chain(), tmp_path)):
        with pytest.raises(InputError, match=re.escape('pip install "fxprune[safetensors]"')):
            call()


@pytest.mark.parametrize("name", ["file/x", "no/folder", "no/small.safetensors"])
def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FxPruneError, match="cannot be"):
        fxprune.save(small_chain(), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# -- what is refused --------------------------------------------------------------------------


def saved_chain(folder: Path) -> Path:
    fxprune.save(small_chain(), folder / "small.safetensors")
    return folder / "small.safetensors"


def test_a_model_of_other_widths_is_refused_with_what_differs(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"0.weight: shape \[9, 6\] here, \[8, 6\] in the plan"):
        fxprune.load(chain(9), saved_chain(tmp_path))


def test_a_model_of_another_type_is_refused_with_what_differs(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"0.weight is torch.float64 here, torch.float32 in the"):
        fxprune.load(chain(dtype=torch.float64), saved_chain(tmp_path))


def test_a_model_with_other_layers_is_refused_with_what_differs(tmp_path: Path) -> None:
    more = nn.Sequential(*chain(), nn.Linear(3, 3))
    with pytest.raises(PlanError, match=r"3.weight: not in the plan's model"):
        fxprune.load(more, saved_chain(tmp_path))
    with pytest.raises(PlanError, match="plan belongs to another model"):
        fxprune.load(nn.Sequential(nn.Linear(6, 8)), saved_chain(tmp_path))


def test_a_model_that_computes_otherwise_is_refused_with_what_differs(tmp_path: Path) -> None:
    path, other = saved_chain(tmp_path), chain()
    other[1] = nn.GELU()
    with pytest.raises(PlanError, match="module 1 is another"):
        fxprune.load(other, path)
    assert isinstance(fxprune.load(other, path, strict=False).get_submodule("1"), nn.GELU)


def test_a_forward_that_computes_otherwise_is_refused(tmp_path: Path) -> None:
    class Halved(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / 2

    with pytest.raises(PlanError, match="the graph, or the outermost module, is another"):
        fxprune.load(Halved(*chain()), saved_chain(tmp_path))


def test_a_model_that_is_not_tied_likewise_is_refused(tmp_path: Path) -> None:
    entry = ZOO["tied_weights"]
    model = entry.build().eval()
    small = fxprune.shrink(model, fxprune.plan(model, entry.example_inputs(), 0.5), verify=False)
    fxprune.save(small, tmp_path)
    untied = entry.build().eval()
    alias = min(small.meta["fxprune"].recipe.outline.tied)
    path, _, name = alias.rpartition(".")
    setattr(untied.get_submodule(path), name, nn.Parameter(untied.get_parameter(alias).clone()))
    with pytest.raises(PlanError, match="plan belongs to another model"):
        fxprune.load(untied, tmp_path)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another layer": (lambda m: setattr(m, "2", nn.Linear(4, 5)), r"2.weight has shape \[3, 4\]"),
    "another activation": (lambda m: setattr(m, "1", nn.GELU()), "module 1 is another"),
    "more parameters": (lambda m: m.register_parameter("w", nn.Parameter(X)), "w is in the model"),
    "another graph": (
        lambda m: (
            m.graph.output_node().replace_input_with(
                list(m.graph.nodes)[-2], list(m.graph.nodes)[-3]
            ),
            m.recompile(),
        ),
        "the graph",
    ),
    "tied since": (
        lambda m: setattr(m.get_submodule("2"), "bias", m.get_submodule("0").bias),
        "2.bias",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_was_changed_since_is_not_saved(tmp_path: Path, change: str) -> None:
    small = small_chain()
    apply, told = CHANGES[change]
    apply(small)
    with pytest.raises(InputError, match="was changed after") as caught:
        fxprune.save(small, tmp_path)
    assert re.search(told, str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_shrunk_is_saved(tmp_path: Path) -> None:
    wrapped = nn.Sequential(small_chain())
    for thing in (chain(), wrapped, torch.compile(small_chain()), 3):
        with pytest.raises(InputError, match=r"not what fxprune.shrink returned|is a int"):
            fxprune.save(thing, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on the meta device, without data"):
        fxprune.save(small_chain().to("meta"), tmp_path)


def test_a_plan_of_a_saved_model_can_be_had_back(tmp_path: Path) -> None:
    model = chain()
    plan = fxprune.plan(model, X, ratio=0.5)
    fxprune.save(fxprune.shrink(model, plan), tmp_path)
    assert fxprune.load(model, tmp_path).meta["fxprune"].recipe.plan == Plan.from_json(
        plan.to_json()
    )
    assert materialize(plan.inputs, seed=None)[0].is_meta
