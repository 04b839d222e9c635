"""`fxprune report`: one page on a shrunk model."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result

import fxprune
from fxprune import Plan, Sensitivity
from fxprune.cli import main
from fxprune.measurements import Comparison
from fxprune.reports import plan_digest
from tests.reports.reading import Parsed
from tests.reports.samples import LATENCY
from tests.sensitivities.models import error, two
from tests.test_cli import CHECKOUT, RUNNER

MODEL = ("tests.sensitivities.models:two", "--app-dir", CHECKOUT, "--input", "2x4")
X = torch.ones(2, 4)


def run(*arguments: object) -> Result:
    return RUNNER.invoke(main, ["report", *map(str, arguments)])


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    fxprune.plan(two(), X, ratio=0.5).save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def page_of(tmp_path: Path, *arguments: object) -> Parsed:
    done = run(*MODEL, *arguments, "-o", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"wrote {tmp_path / 'report.html'}\n"
    return Parsed.of((tmp_path / "report.html").read_text("utf-8"))


def test_the_page_tells_costs_proof_and_how_it_was_made(tmp_path: Path, plan: Path) -> None:
    page = page_of(tmp_path, "--plan", plan)
    small = fxprune.shrink(two(), plan, X)
    before, after = small.meta["fxprune"].before, small.meta["fxprune"].after
    assert page.values("costs", 1)[0] == (before.parameters, after.parameters)
    assert "verification" in page.tables
    rows = {row[0].text: row[1].text for row in page.tables["origin"]}
    command = "fxprune report tests.sensitivities.models:two --app-dir"
    assert rows["command"].startswith(command)
    assert rows["command"].endswith(f"--plan {plan} -o {tmp_path / 'report.html'}")
    assert rows["plan"] == plan_digest(Plan.load(plan))
    assert "Pruning report: tests.sensitivities.models:two" in page.text


def test_a_page_for_a_comment_is_markdown(tmp_path: Path, plan: Path) -> None:
    done = run(*MODEL, "--plan", plan, "--title", "Two", "-o", tmp_path / "report.md", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["output"] == str(tmp_path / "report.md")
    assert document["verification"]["nodes"] > 0
    assert (tmp_path / "report.md").read_text("utf-8").startswith("## Two\n")


def test_options_of_the_result_reach_shrink(tmp_path: Path, plan: Path) -> None:
    options = ("--emit", "module", "--norm", "kept", "--constants", "drop", "--no-verify")
    page = page_of(tmp_path, "--plan", plan, *options)
    rows = {row[0].text: row[1].text for row in page.tables["origin"]}
    assert rows["emitted as"] == "module"
    assert "NOT verified" in page.text
    quick = page_of(tmp_path, "--plan", plan, "--quick")
    checks = dict(zip(quick.texts("verification", 0), quick.texts("verification", 1), strict=True))
    assert checks["gradients that agree"] == "0"


def test_curves_candidates_and_latencies_are_shown(tmp_path: Path, plan: Path) -> None:
    curves, bench, other = (tmp_path / f"{name}.json" for name in ("curves", "bench", "other"))
    measured = fxprune.sensitivity(two(), X, error, ratios=(0.5,), mode="min", verify=False)
    measured.save(curves)
    bench.write_text(LATENCY.to_json())
    fxprune.plan(two(), X, ratio=0.25).save(other)
    page = page_of(
        *(tmp_path, "--plan", plan, "--sensitivity", curves, "--bench", bench),
        *("--candidate", plan, "--candidate", other, "--mode", "min", "--metric", "error"),
        *("--evaluate", "tests.sensitivities.models:error"),
    )
    assert page.texts("sensitivity", 0) == list(Sensitivity.load(curves).curves)
    assert page.texts("latency", 0) == ["dense", "half", "half"]
    assert page.texts("candidates", 0) == ["(original)", str(plan), str(other)]
    values = [value for (value,) in page.values("candidates", 3)]
    assert values[0] == 0
    assert values[1] == pytest.approx(error(fxprune.shrink(two(), plan, X)))
    assert page.texts("candidates", 4)[1].startswith("this plan")


def test_values_of_candidates_can_be_said(tmp_path: Path, plan: Path) -> None:
    fxprune.plan(two(), X, ratio=0.25).save(tmp_path / "other.json")
    said = ("--candidate", f"{plan}=0.5", "--candidate", tmp_path / "other.json")
    page = page_of(tmp_path, "--plan", plan, *said, "--baseline", 0.75)
    assert [row[3].text for row in page.tables["candidates"]] == ["0.75", "0.5", "-"]


def test_candidates_without_values_are_held_against_one_another_by_their_weights(
    tmp_path: Path, plan: Path
) -> None:
    page = page_of(tmp_path, "--plan", plan, "--candidate", plan)
    values = [value for (value,) in page.values("candidates", 3)]
    assert values[0] == 1
    assert 0 < values[1] < 1


@pytest.mark.slow
def test_latencies_can_be_measured(tmp_path: Path, plan: Path) -> None:
    page = page_of(tmp_path, "--plan", plan, "--measure")
    assert page.texts("latency", 0) == ["tests.sensitivities.models:two", "shrunk"]
    assert page.texts("latency", 3)[1] != ""


def test_a_plan_that_drops_blocks_has_a_page(tmp_path: Path) -> None:
    model = "tests.drawing.models:small"
    done = RUNNER.invoke(
        main,
        [
            *("plan", model, "--app-dir", str(CHECKOUT), "--input", "2x3x8x8"),
            *("--drop", "blocks.1", "-o", str(tmp_path / "plan.json")),
        ],
    )
    assert done.exit_code == 0, done.output
    done = run(
        *(model, "--app-dir", CHECKOUT, "--input", "2x3x8x8", "--plan", tmp_path / "plan.json"),
        *("-o", tmp_path / "report.html"),
    )
    assert done.exit_code == 0, done.output
    page = Parsed.of((tmp_path / "report.html").read_text("utf-8"))
    assert page.texts("dropped", 0) == ["blocks.1"]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch 2.13 copies its own specs
def test_an_exported_program_has_a_page(tmp_path: Path) -> None:
    program, plan = tmp_path / "two.pt2", tmp_path / "plan.json"
    exported = torch.export.export(two(), (X,))
    torch.export.save(exported, program)
    fxprune.plan(exported, ratio=0.5).save(plan)
    done = run(
        *(program, "--trust", "--plan", plan, "--candidate", plan),
        *("--evaluate", "tests.sensitivities.models:size", "--app-dir", CHECKOUT),
        *("-o", tmp_path / "report.html"),
    )
    assert done.exit_code == 0, done.output
    page = Parsed.of((tmp_path / "report.html").read_text("utf-8"))
    assert "Pruning report: two.pt2" in page.text
    assert page.values("candidates", 1) == page.values("candidates", 3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing option '--plan'"),
        (("--plan", "PLAN", "-o", "report.pdf"), 2, "does not end with .html or .md"),
        (("--plan", "PLAN", "--no-verify", "--quick"), 2, "--quick is a kind of verification"),
        (("--plan", "PLAN", "--bench", "PLAN", "--measure"), 2, "--bench has latencies already"),
        (("--plan", "PLAN", "--candidate", "PLAN", "--candidate", "PLAN=1"), 2, "named twice"),
        (("--plan", "PLAN", "--candidate", "PLAN=good"), 2, "not of the form PLAN or PLAN=VALUE"),
        (("--plan", "PLAN", "--evaluate", "a:b"), 2, "--evaluate is for candidates"),
        (
            ("--plan", "PLAN", "--candidate", "PLAN=1", "--evaluate", "a:b"),
            *(2, "--evaluate finds values out"),
        ),
        (("--plan", "PLAN", "--baseline", "1"), 2, "--baseline goes with values"),
        (("--plan", "CURVES"), 1, 'not a plan: the text has no "format": "fxprune plan"'),
        (("--plan", "PLAN", "--sensitivity", "PLAN"), 1, "not a sensitivity"),
        (("--plan", "PLAN", "--bench", "PLAN"), 1, "not a bench"),
        (("--plan", "PLAN", "--candidate", "CURVES"), 1, "not a plan"),
        (("--plan", "PLAN", "--candidate", "absent.json"), 1, "absent.json cannot be read"),
        (("--plan", "PLAN", "--candidate", "PLAN=nan"), 1, "a finite number was expected"),
        (("--plan", "FOREIGN"), 1, "the plan belongs to another model"),
        (("--plan", "PLAN", "--candidate", "FOREIGN"), 1, "the plan belongs to another model"),
        (("--plan", "PLAN", "--sensitivity", "CURVES"), 1, "the sensitivity belongs to another"),
    ],
)
def test_a_wrong_command_line_is_refused_and_writes_nothing(
    tmp_path: Path, plan: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    other = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    fxprune.plan(other, X, ratio=0.5).save(tmp_path / "foreign.json")
    foreign = fxprune.sensitivity(other, X, lambda _: 1.0, ratios=(0.4,), verify=False)
    foreign.save(tmp_path / "curves.json")
    files = {"PLAN": plan, "CURVES": tmp_path / "curves.json", "FOREIGN": tmp_path / "foreign.json"}
    given = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        given.append(f"{files.get(name, name)}{equals}{value}")
    before = sorted(tmp_path.iterdir())
    output = () if "-o" in arguments else ("-o", tmp_path / "report.html")
    done = run(*MODEL, *given, *output)
    assert done.exit_code == code, done.output
    assert message in " ".join(done.stderr.split())
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_what_bench_prints_is_what_report_reads(tmp_path: Path) -> None:
    arguments = ["bench", *map(str, MODEL), "--rounds", "5", "--json"]
    done = RUNNER.invoke(main, arguments)
    (tmp_path / "bench.json").write_text(done.stdout)
    found = Comparison.load(tmp_path / "bench.json")
    assert [each.name for each in found.measurements] == ["tests.sensitivities.models:two"]
