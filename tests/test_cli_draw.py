"""`fxprune draw`: a picture of a model."""

import json
from pathlib import Path

import pytest
from click.testing import Result

import fxprune
from fxprune.cli import main
from tests.drawing.models import IMAGE, Residual
from tests.test_cli import CHECKOUT, RUNNER

MODEL = "tests.drawing.models:small"
INPUT = ("--app-dir", CHECKOUT, "--input", "2x3x8x8")


def run(*arguments: object) -> Result:
    return RUNNER.invoke(main, ["draw", *map(str, arguments)])


def test_the_command_draws_what_the_function_draws(tmp_path: Path) -> None:
    done = run(MODEL, *INPUT, "-o", tmp_path / "cli.dot")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"wrote {tmp_path / 'cli.dot'}\n"
    fxprune.draw(Residual(6, 6, 4).eval(), tmp_path / "function.dot", example_inputs=IMAGE)
    assert (tmp_path / "cli.dot").read_bytes() == (tmp_path / "function.dot").read_bytes()


def test_a_page_is_written_like_any_picture(tmp_path: Path) -> None:
    done = run(MODEL, *INPUT, "-o", tmp_path / "cli.html")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "cli.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert ".html" in run("--help").stdout


def test_every_option_reaches_the_function(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    fxprune.plan(Residual(6, 6, 4).eval(), IMAGE, ratio=0.5).save(plan)
    options = ("--level", "op", "--group", "stem", "--around", "blocks.0", "--hops", 0, "--no-fold")
    done = run(
        MODEL,
        "--app-dir",
        CHECKOUT,
        "--plan",
        plan,
        *options,
        "--json",
        "--out",
        tmp_path / "a.dot",
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["output"] == str(tmp_path / "a.dot")
    assert (document["level"], document["pruned"]) == ("op", True)
    inside = {node["name"] for node in document["nodes"]} - set(document["outside"])
    assert inside == {"blocks_0_conv1", "blocks_0_conv2", "add", "relu_1"}
    assert document["groups"]["stem"]["width"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing option '-o'"),
        (("-o", "model.jpg"), 1, "does not end with a kind of picture"),
        (("-o", "model.dot", "--around", "nobody"), 1, "no module or node 'nobody'"),
        (("-o", "model.dot", "--group", "nobody"), 1, "no group is named 'nobody'"),
        (("-o", "model.dot", "--level", "layer"), 2, "Invalid value for '--level'"),
        (("-o", "model.dot", "--hops", "-1"), 2, "Invalid value for '--hops'"),
    ],
)
def test_a_wrong_command_line_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(MODEL, *INPUT, *arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
