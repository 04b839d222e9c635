"""The examples run, and the pages that explain them show their code."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
EXAMPLES = ("custom_operator", "custom_fixer")
CODE = [(CHECKOUT / "examples" / f"{n}.py").read_text(encoding="utf-8") for n in EXAMPLES]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PAGE = (CHECKOUT / "docs" / "custom_rules.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = PAGE) -> list[str]:
    """The fenced code of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@cache
def output(example: str) -> str:
    """What an example prints, in a process of its own, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{example}"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_custom_operator_pins_without_a_rule_and_shrinks_with_one() -> None:
    printed = output("custom_operator")
    without, with_rule = printed.split("The rule is right, and pins nothing without need.")
    assert "has no label rule" in without
    assert "prunable share of the parameters: 0.0%" in without
    assert "0.bias[0]: can be pruned" in with_rule
    assert "- verified: " in with_rule
    assert "the gates of the shrunk model: (12,)" in with_rule


def test_a_custom_module_is_refused_without_a_fixer_and_proved_with_one() -> None:
    without, with_fixer = output("custom_fixer").split("With one, it is a Classifier")
    assert "fails in module blocks.0" in without
    assert "verified: " in with_fixer
    assert "every module" in with_fixer


@pytest.mark.parametrize("text", blocks("text"))
def test_the_page_shows_what_the_examples_print(text: str) -> None:
    assert any(text in output(example) for example in EXAMPLES)


@pytest.mark.parametrize("code", blocks("python"))
def test_the_code_of_the_page_is_that_of_the_examples(code: str) -> None:
    assert any(code in example for example in CODE)


@pytest.mark.parametrize("code", blocks("python", README), ids=["torchvision", "own class"])
def test_the_code_of_the_readme_runs(code: str, tmp_path: Path) -> None:
    if "torchvision" in code:
        pytest.importorskip("torchvision")
    (tmp_path / "code.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "code.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["blocks", "budgets", "criteria", "notebooks", "plans"])
def test_the_code_of_a_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what it writes
    page = (CHECKOUT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    if "import torchvision" in page:
        pytest.importorskip("torchvision")
    namespace: dict[str, object] = {}
    assert blocks("python", page)
    for code in blocks("python", page):
        exec(code, namespace)  # the pages of this repository


@pytest.mark.slow
@pytest.mark.parametrize("name", ["masks", "onnx", "progressive", "repair", "sensitivity", "texts"])
def test_a_page_runs_and_shows_what_it_prints(name: str, tmp_path: Path) -> None:
    page = (CHECKOUT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    if "import torchvision" in page:
        pytest.importorskip("torchvision")
    if "models_zoo.digits" in page:
        pytest.importorskip("sklearn")
    for package in ("onnxscript", "onnxruntime", "onnx2torch", "torchao") if name == "onnx" else ():
        pytest.importorskip(package)
    code = [block for block in blocks("python", page) if "fxprune.lightning" not in block]
    (tmp_path / "code.py").write_text("\n".join(code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "code.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in blocks("text", page))
