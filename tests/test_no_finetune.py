"""The benchmark of accuracy without fine-tuning, with small networks and figures made up."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("torch_pruning")
pytest.importorskip("timm")
pytest.importorskip("transformers")

from transformers import BertConfig, BertModel

from benchmarks import no_finetune
from benchmarks.kept_figures import Kept, name_of
from benchmarks.no_finetune import (
    FIGURES,
    PAGE,
    SEEDS,
    STUDIES,
    Job,
    Study,
    benchmark,
    jobs_of,
    measure,
    page_of,
)
from benchmarks.no_finetune_page import NORMS, NOTHING, PEER, Table, epochs_saved, summary, target
from benchmarks.rivals import CRITERIA, SCOPES, Rival, estimate_norms, loss, macs
from benchmarks.subjects import Size, Subject, classifier, mended_bert, published, with_bert_heads
from benchmarks.ways import METHODS, REPAIRS, planned, shrunk
from examples.data import Images
from examples.minilm import Encoder
from examples.pretrained import Trial, moves
from examples.resnet18 import Data, Settings
from fxprune import InputError, analyze

pytestmark = pytest.mark.filterwarnings("ignore")  # of a package that is here to be compared with
SIZE = Size(Settings(images=64), calibration=32, points=(16, 32))
STATES = (NOTHING, NORMS)
REPAIRED = [name for name in REPAIRS if name != NOTHING]


def images(count: int) -> Images:
    return Images(torch.randn(count, 3, 8, 8), torch.randint(10, (count,)))


def norms_of(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def small(size: Size, networks: Path, seed: int) -> Subject:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )
    for norm in norms_of(model):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return classifier(model.eval(), Data(images(64), images(8), images(40)), size, seed)


def known(figures: dict[str, float], repairs: tuple[str, ...] = ("nothing", "means")) -> Table:
    return Table([figures], {"l2": False, "taylor": True, "random": False}, repairs)


def test_all_is_measured_for_every_seed_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(small, ("L2",), ("l2", "activation variance", "taylor"), (0.75, 0.5, 0.25))
    monkeypatch.setattr(no_finetune, "STUDIES", {"ResNet-18": study})
    page = benchmark(SIZE, 2, tmp_path, tmp_path, 1)
    assert "| taylor (with labels) |" in page
    assert page.count(", reached |") + page.count(", missed |") == 2
    for seed in range(2):
        figures = Kept(tmp_path / f"ResNet-18-{seed}.json").figures
        for method in study.methods:
            assert all(name_of(s, method, r) in figures for s in study.shares for r in REPAIRS)
        for share, scope in product(study.shares, SCOPES):
            assert name_of(share, f"{PEER}L2, {scope}", NORMS) in figures
    capsys.readouterr()
    assert benchmark(SIZE, 2, tmp_path, tmp_path, 1) == page
    assert not capsys.readouterr().out  # nothing was measured again


def test_the_page_tells_the_figures_that_are_kept(tmp_path: Path) -> None:
    """All but its last lines, about the machine."""
    page = page_of(jobs_of(Size(), SEEDS, FIGURES, tmp_path), Size())
    there = PAGE.read_text(encoding="utf-8")
    assert page.rpartition("Written by")[0] == there.rpartition("Written by")[0]


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    study = Study(small, (), ("l2",), (0.5,))
    subject = small(SIZE, tmp_path, 0)
    measure(subject, Kept(path), study)
    whole = Kept(path).figures
    kept = Kept(path)
    kept.put(name_of(0.5, "l2", NOTHING), -5.0)
    del kept.figures[name_of(0.5, "l2", REPAIRED[0])]
    measure(subject, kept, study)
    assert kept.figures == whole | {name_of(0.5, "l2", NOTHING): -5.0}


def published_network(size: Size, networks: Path, seed: int) -> Subject:
    """The same weights and test images whatever the seed."""
    model = small(size, networks, 0).model
    return classifier(model, Data(images(64), images(8), images(40)), size, seed)


def test_what_looks_at_no_inputs_is_the_same_for_all_seeds_of_a_published_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("random", "l2", "lamp, global", "activation variance")
    study = Study(published_network, ("L2", "Taylor"), methods, (0.5,), published=True)
    monkeypatch.setattr(no_finetune, "STUDIES", {"some": study})
    first, second = (Job("some", seed, SIZE, tmp_path, tmp_path) for seed in range(2))
    for job in (first, second):
        measure(published_network(SIZE, tmp_path, job.seed), job.kept, study)
    same = study.of_any_seed()
    assert len(same) == 2 * 2 + len(SCOPES)
    assert all(first.kept.figures[name] == second.kept.figures[name] for name in same)
    for name in first.kept.figures:
        first.kept.put(name, -5.0)
    (tmp_path / "some-1.json").unlink()
    second.run()
    assert {name for name, figure in second.kept.figures.items() if figure == -5} == same
    assert not replace(study, published=False).of_any_seed()


@pytest.mark.parametrize("name", METHODS)
def test_every_way_leaves_no_more_than_the_share(name: str, tmp_path: Path) -> None:
    subject = small(SIZE, tmp_path, 0)
    deps = analyze(subject.model, subject.example)
    plan = planned(subject, deps, name, METHODS[name].criterion(subject), 0.5)
    assert plan is not None
    whole = macs(subject.model, *subject.example)
    for repair in REPAIRS:
        left = macs(shrunk(subject, plan, repair), *subject.example) / whole
        assert 0.25 < left <= 0.5


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("scope", SCOPES)
def test_torch_pruning_leaves_no_more_than_the_share(
    criterion: str, scope: str, tmp_path: Path
) -> None:
    subject = small(SIZE, tmp_path, 0)
    rival = Rival.of(criterion, subject.model, subject.example, subject.labelled, loss)
    found = rival.within(0.5, scope)
    assert found is not None
    assert 0.25 < macs(found, *rival.example) / macs(subject.model, *rival.example) <= 0.5


def test_torch_pruning_that_cannot_tell_channels_apart_has_no_figure(tmp_path: Path) -> None:
    subject = small(SIZE, tmp_path, 0)
    for norm in norms_of(subject.model):
        nn.init.ones_(norm.weight)
    kept = Kept(tmp_path / "some.json")
    measure(subject, kept, Study(small, ("BN scale",), (), (0.5,)))
    assert kept.figures[name_of(0.5, f"{PEER}BN scale, global", NOTHING)] is None


def test_what_has_no_labels_is_judged_by_its_dense_self_and_tried_without_them(
    tmp_path: Path,
) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    inputs = torch.randn(32, 8)
    trial = Trial(model.eval(), (inputs,), (inputs,), "group", lambda dense, small: {})
    subject = published(trial, lambda dense, small: (dense == small).all(1).double(), 0)
    kept = Kept(tmp_path / "some.json")
    measure(subject, kept, Study(small, ("L2", "Taylor", "Hessian"), ("l2", "taylor"), (0.5,)))
    assert kept.figures.pop("dense") == 100
    assert {name.split(": ")[0] for name in kept.figures} == {
        "0.5, l2",
        *(
            f"0.5, {PEER}{name}, {scope}"
            for name in ("L2", "Taylor", "Hessian")
            for scope in SCOPES
        ),
    }
    assert all(kept.figures[name_of(0.5, f"{PEER}L2, {s}", NORMS)] is None for s in SCOPES)
    assert kept.figures[name_of(0.5, "l2", NOTHING)] < 100


@pytest.mark.parametrize("criterion", STUDIES["MiniLM"].rivals)
@pytest.mark.parametrize("scope", SCOPES)
def test_torch_pruning_prunes_the_heads_of_a_bert_and_not_its_outputs(
    criterion: str, scope: str
) -> None:
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    bert = BertModel(config, add_pooling_layer=False)
    example = (torch.randint(50, (2, 6)), torch.ones(2, 6, dtype=torch.long))
    options = {"own": with_bert_heads, "mend": mended_bert}
    batches = [(*example, torch.randn(2, 32))]
    rival = Rival.of(criterion, Encoder(bert).eval(), example, batches, moves, **options)
    small = rival.within(0.5, scope)
    assert small is not None
    assert small(*example).shape == (2, 32)
    attention = small.bert.encoder.layer[0].attention.self
    assert attention.query.out_features < 32


def test_batch_norms_get_the_statistics_of_the_inputs() -> None:
    norm = nn.BatchNorm2d(2)
    batches = [(3 + 2 * torch.randn(50, 2, 8, 8),) for _ in range(3)]
    assert estimate_norms(norm, batches)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    means = torch.stack([batch.mean((0, 2, 3)) for (batch,) in batches])
    torch.testing.assert_close(mean, means.mean(0))
    assert not norm.training
    assert not estimate_norms(nn.ReLU(), batches)


def test_the_best_needs_no_labels_and_has_figures_of_all_seeds() -> None:
    figures = {
        name_of(0.5, "l2", "nothing"): 50.0,
        name_of(0.5, "l2", "means"): 60.0,
        name_of(0.5, "taylor", "means"): 70.0,
    }
    assert known(figures).best(0.5) == ("l2", "means")
    both = Table([figures | {name_of(0.5, "random", "means"): 90.0}, figures], {}, ("means",))
    assert Table(both.seeds, known({}).methods, ("means",)).best(0.5) == ("l2", "means")


def test_the_best_of_torch_pruning_is_told_not_the_first() -> None:
    figures = {
        name_of(0.5, f"{PEER}L2, global", NOTHING): 40.0,
        name_of(0.5, f"{PEER}Taylor, each layer", NOTHING): 55.0,
        name_of(0.5, f"{PEER}L2, global", NORMS): 80.0,
    }
    table = known(figures)
    assert table.best_peer(0.5) == f"{PEER}Taylor, each layer"
    assert table.best_peer(0.5, NORMS) == f"{PEER}L2, global"


def test_the_best_of_every_network_is_told_and_nothing_of_what_was_not_tried() -> None:
    norms = {name_of(0.5, f"{PEER}L2, global", NORMS): 80.0}
    plain = {
        "dense": 90.0,
        name_of(0.5, "l2", NOTHING): 50.0,
        name_of(0.5, "l2", "means"): 85.0,
        name_of(0.5, f"{PEER}L2, global", NOTHING): 70.0,
    }
    tables = {"one": known(plain | norms), "other": known(plain)}
    rows = list(summary(tables, dict.fromkeys(tables, (0.5,))))[2:]
    ours = "50.0: l2 | 85.0: l2 + means | 0.250"
    assert rows == [
        f"| one | 50% | 70.0: L2, global | 80.0: L2, global | {ours} | 0.500 |",
        f"| other | 50% | 70.0: L2, global |  | {ours} |  |",
    ]


def test_saved_epochs_are_read_off_the_curve_without_a_repair() -> None:
    points = [0.0, 1.0, 2.0, 4.0]
    without = [10.0, 50.0, 70.0, 80.0]
    assert epochs_saved(points, without, without) == [0.0, 0.0, 0.0, 0.0]
    repaired = [60.0, 75.0, 80.0, 81.0]
    assert epochs_saved(points, without, repaired) == [1.5, 2.0, 2.0, float("inf")]


def test_a_repair_that_is_worse_saves_less_than_nothing() -> None:
    assert epochs_saved([0.0, 1.0], [10.0, 50.0], [10.0, 30.0]) == [0.0, -0.5]
    assert epochs_saved([0.0, 1.0], [10.0, 50.0], [5.0, 5.0]) == [0.0, -1.0]


def test_saved_epochs_count_the_best_so_far() -> None:
    """A curve that falls again was as high before."""
    assert epochs_saved([0.0, 1.0, 2.0], [0.0, 60.0, 40.0], [60.0, 60.0, 60.0])[0] == 1.0


def test_every_study_names_what_there_is() -> None:
    for study in STUDIES.values():
        assert set(study.methods) <= set(METHODS)
        assert set(study.rivals) <= set(CRITERIA)


def test_the_target_is_about_the_best_of_torch_pruning_for_each_seed() -> None:
    def seed(ours: float, l2: float, taylor: float) -> dict[str, float]:
        peers = {f"{PEER}L2, global": l2, f"{PEER}Taylor, global": taylor}
        figures = {name_of(0.5, name, state): peers[name] for name in peers for state in STATES}
        return {"dense": 90.0, name_of(0.5, "l2", "means"): ours, **figures}

    table = Table([seed(85.0, 70.0, 60.0), seed(80.0, 55.0, 65.0)], {"l2": False}, ("means",))
    rows = [line for line in target(table) if line.startswith(("| 0", "| 1"))]
    assert rows[0].startswith("| 0 | 90.00 | 5.00 | 20.00: L2, global | 0.250, reached |")
    assert rows[1].startswith("| 1 | 90.00 | 10.00 | 25.00: Taylor, global | 0.400, missed |")


def test_other_errors_of_a_plan_are_not_taken_for_groups_without_a_score(tmp_path: Path) -> None:
    subject = small(SIZE, tmp_path, 0)
    deps = analyze(subject.model, subject.example)
    with pytest.raises(InputError, match="fpgm2"):
        planned(subject, deps, "l2", "fpgm2", 0.5)


def test_a_seed_draws_what_the_criterion_random_removes(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        subject = replace(small(SIZE, tmp_path, 0), seed=seed)
        deps = analyze(subject.model, subject.example)
        found.append(planned(subject, deps, "random", "random", 0.5))
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].groups != found[1].groups


def test_drops_are_those_of_seeds_that_have_a_figure() -> None:
    name = name_of(0.5, "l2", NOTHING)
    table = Table(
        [{"dense": 90.0, name: 80.0}, {"dense": 50.0}, {"dense": 70.0, name: None}], {}, ()
    )
    assert table.drop(0.5, "l2", NOTHING) == 10
    assert table.drop(0.25, "l2", NOTHING) is None


def test_attention_counts_as_much_as_its_products() -> None:
    x = torch.randn(1, 2, 5, 4)

    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert macs(Attention(), x) == 2 * (2 * 5 * 5 * 4)


def test_a_drop_is_a_share_of_theirs_where_there_are_both() -> None:
    def seed(theirs: float, ours: float) -> dict[str, float]:
        peers = {name_of(0.5, f"{PEER}L2, global", NOTHING): theirs}
        own = {name_of(0.5, "l2", repair): ours for repair in (NOTHING, "means")}
        return {"dense": 90.0, **peers, **own}

    told = {
        "half": seed(80, 85),
        "none": seed(80, 91),
        "theirs": seed(90, 80),
        "both": seed(91, 91),
    }
    rows = list(summary({name: known(f) for name, f in told.items()}, dict.fromkeys(told, (0.5,))))
    cells = [row.split(" | ")[-2] for row in rows[2:]]
    assert cells == ["0.500", "no drop", "theirs has none", "no drop"]
