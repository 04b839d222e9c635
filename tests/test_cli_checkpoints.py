"""The command line writes checkpoints without pickle, and verifies them without trust."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import app, document, fail, run

pytest.importorskip("safetensors", reason="needs the extra safetensors")

__all__ = ["app"]  # the fixture in whose folder commands run

pytestmark = pytest.mark.usefixtures("app")
SMALL = "small.safetensors"


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_checkpoint_is_verified_without_trust_and_without_a_plan(emit: str) -> None:
    run("shrink", "nets:Net", "--ratio", 0.5, "--emit", emit, "-o", SMALL)
    assert document("verify", "nets:Net", SMALL)["nodes"]
    wrong = fail("verify", "nets:Net", SMALL, "--model-seed", 1, code=3)
    assert "differs from the original" in wrong


def test_a_checkpoint_is_verified_in_its_own_meaning_unless_another_is_asked_for() -> None:
    run("shrink", "nets:Net", "--ratio", 0.5, "--constants", "fold", "-o", SMALL)
    run("verify", "nets:Net", SMALL)
    fail("verify", "nets:Net", SMALL, "--constants", "drop", code=3)


def test_a_checkpoint_is_verified_against_the_plan_that_is_given() -> None:
    run("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json")
    run("shrink", "nets:Net", "--plan", "plan.json", "-o", SMALL)
    run("verify", "nets:Net", SMALL, "--plan", "plan.json", "--quick")
    run("plan", "nets:Net", "--ratio", 0.25, "-o", "plan.json")
    fail("verify", "nets:Net", SMALL, "--plan", "plan.json", code=3)


def test_a_checkpoint_of_another_model_is_refused() -> None:
    run("shrink", "nets:Net", "--ratio", 0.5, "-o", SMALL)
    assert "body.weight: shape [10, 8, 3, 3] here" in fail("verify", "nets:Other", SMALL)


def test_a_file_of_another_kind_needs_trust_and_a_plan() -> None:
    run("shrink", "nets:Net", "--ratio", 0.5, "-o", "small.pt")
    assert "--trust" in fail("verify", "nets:Net", "small.pt", code=2)
    assert "--plan" in fail("verify", "nets:Net", "small.pt", "--trust", code=2)


def test_without_safetensors_nothing_is_shrunk_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    message = fail("shrink", "nets:Net", "--ratio", 0.5, "-o", SMALL)
    assert 'pip install "fxprune[safetensors]"' in message
    assert not Path(SMALL).exists()
