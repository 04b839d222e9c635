"""The examples run, and the pages that explain them show their code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
EXAMPLE = (CHECKOUT / "examples" / "custom_operator.py").read_text(encoding="utf-8")
PAGE = (CHECKOUT / "docs" / "custom_rules.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced code of the page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def output() -> str:
    """What the example prints, in a process of its own, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.custom_operator"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_custom_operator_pins_without_a_rule_and_shrinks_with_one(output: str) -> None:
    without, with_rule = output.split("The rule is right, and pins nothing without need.")
    assert "has no label rule" in without
    assert "prunable share of the parameters: 0.0%" in without
    assert "0.bias[0]: can be pruned" in with_rule
    assert "- verified: " in with_rule
    assert "the gates of the shrunk model: (12,)" in with_rule


def test_the_page_shows_what_the_example_prints(output: str) -> None:
    (text,) = blocks("text")
    assert text in output


@pytest.mark.parametrize("code", blocks("python"))
def test_the_code_of_the_page_is_that_of_the_example(code: str) -> None:
    assert code in EXAMPLE
