"""`fxprune draw`: a picture of a model."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

import fxprune
from fxprune.cli import main
from tests.drawing.models import IMAGE, Residual
from tests.drawing.test_scenes import OFF_BY_ONE, marked
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


@pytest.fixture
def faulty() -> Iterator[None]:
    """Tensors are sliced one off."""
    with OFF_BY_ONE.applied():
        yield


@pytest.mark.usefixtures("faulty")
def test_a_refuted_model_is_drawn_where_it_was_asked_for(tmp_path: Path) -> None:
    small, picture = tmp_path / "small.pt", tmp_path / "error.dot"
    arguments = (MODEL, *INPUT, "--ratio", "0.5", "-o", str(small))
    done = RUNNER.invoke(main, ["shrink", *arguments, "--draw-error", str(picture)])
    assert done.exit_code == 3
    assert f"wrote {picture}\n" in done.stderr
    assert "node stem differs from the original" in done.stderr
    assert marked(picture.read_text(encoding="utf-8")) == ["stem"]
    assert not small.exists()


def test_verify_draws_where_a_model_differs(tmp_path: Path) -> None:
    small, plans, picture = tmp_path / "small.pt", tmp_path / "plan.json", tmp_path / "error.dot"
    fxprune.plan(Residual(6, 6, 4).eval(), IMAGE, ratio=0.5).save(plans)
    common = (MODEL, "--app-dir", CHECKOUT, "--plan", str(plans))
    with OFF_BY_ONE.applied():
        done = RUNNER.invoke(main, ["shrink", *common, "--no-verify", "-o", str(small)])
    assert done.exit_code == 0, done.output
    arguments = ["verify", *common, str(small), "--trust", "--draw-error", str(picture)]
    done = RUNNER.invoke(main, arguments)
    assert done.exit_code == 3, done.output
    assert marked(picture.read_text(encoding="utf-8")) == ["output"]


def test_that_an_error_cannot_be_drawn_does_not_hide_it(tmp_path: Path) -> None:
    plan, picture = tmp_path / "plan.json", tmp_path / "error.dot"
    fxprune.plan(Residual(4).eval(), IMAGE, ratio=0.5).save(plan)
    common = (MODEL, "--app-dir", CHECKOUT, "--plan", str(plan), "-o", str(tmp_path / "small.pt"))
    done = RUNNER.invoke(main, ["shrink", *common, "--draw-error", str(picture)])
    assert done.exit_code == 1
    assert "no picture of the error: there is no picture of this error" in done.stderr
    assert "the plan belongs to another model" in done.stderr
    assert not picture.exists()


def test_nothing_is_drawn_if_all_goes_well(tmp_path: Path) -> None:
    small, picture = tmp_path / "small.pt", tmp_path / "error.dot"
    arguments = (MODEL, *INPUT, "--ratio", "0.5", "-o", str(small))
    done = RUNNER.invoke(main, ["shrink", *arguments, "--draw-error", str(picture)])
    assert done.exit_code == 0, done.output
    assert small.exists()
    assert not picture.exists()


def test_the_answer_to_a_why_is_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "why.dot"
    arguments = ["analyze", MODEL, *INPUT, "--why", "head", "--draw", str(picture)]
    done = RUNNER.invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"wrote {picture}\n")
    assert marked(picture.read_text(encoding="utf-8")) == ["output"]
    document = json.loads(RUNNER.invoke(main, [*arguments, "--json"]).stdout)
    assert document.keys() == {"why"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("analyze", "--draw", "why.dot"), 2, "--draw shows the answer to one --why"),
        (("analyze", "--why", "stem", "--why", "head", "--draw", "a.dot"), 2, "to one --why"),
        (("analyze", "--why", "stem", "--draw", "why"), 1, "does not end with a kind of picture"),
        (
            ("shrink", "--ratio", "0.5", "-o", "small.pt", "--draw-error", "error.txt"),
            1,
            "does not end with a kind of picture",
        ),
    ],
)
def test_a_wrong_request_for_a_picture_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = RUNNER.invoke(main, [arguments[0], MODEL, *INPUT, *arguments[1:]])
    assert done.exit_code == code
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
