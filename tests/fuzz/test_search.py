"""The search: what it counts, what it makes small, and what the command tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import fuzz.search
import fxprune
from fuzz.__main__ import main
from fuzz.program import Program
from fuzz.pruning import Pruning
from fuzz.search import search
from fuzz.summary import Summary
from fuzz.trial import Outcome, attempt
from fxprune.rules import registry
from tests.fuzz.test_oracle import drawn

pytestmark = pytest.mark.filterwarnings("ignore")


def wrong_if_it_has(step: str) -> Any:
    def pretended(program: Program, pruning: Pruning) -> Outcome:
        return Outcome("wrong", "said the test") if step in program.steps else Outcome("equal")

    return pretended


def test_a_failure_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz.search, "attempt", wrong_if_it_has("activation"))
    summary = Summary()
    failure = search(50, 0, summary)
    assert failure is not None
    assert summary.failures == [failure]
    assert failure.program.steps[-1] == "activation"
    assert len(failure.program.steps) <= 2
    assert len(failure.program.lines) <= 7
    assert failure.pruning == Pruning()
    assert "class Model(nn.Module):" in str(failure)
    assert "wrong: said the test" in str(failure)


def test_the_same_seed_gives_the_same_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz.search, "attempt", wrong_if_it_has("none"))
    counts = [Summary() for _ in range(3)]
    for summary, seed in zip(counts, (1, 1, 2), strict=True):
        search(20, seed, summary)
    assert counts[0].steps == counts[1].steps
    assert counts[0].steps != counts[2].steps


def test_a_refusal_is_counted_with_its_reason() -> None:
    summary = Summary()
    for node in ("getitem_3", "getitem_4"):
        reason = f"RewriteError: node {node} cannot be repaired | where: node {node}, line 3"
        summary.add(drawn(0), Outcome("refused", reason))
    assert summary.reasons == {"refused: RewriteError: node getitem cannot be repaired": 2}
    assert summary.refused == 1
    assert "2 programs: 2 refused" in str(summary)


def spoiled(small: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(1e-4)
    return small


@pytest.mark.parametrize(
    ("error", "spoil", "kind"),
    [
        (None, False, "equal"),
        (None, True, "wrong"),
        (fxprune.VerificationError("off"), False, "false alarm"),
        (fxprune.VerificationError("off"), True, "refuted"),
        (fxprune.RewriteError("cannot"), False, "refused"),
        (ZeroDivisionError("oops"), False, "crashed"),
    ],
)
def test_outcomes_have_their_kinds(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, spoil: bool, kind: str
) -> None:
    shrink = fxprune.shrink

    def pretended(*args: Any, verify: bool = True) -> torch.nn.Module:
        if error is not None and verify:
            raise error
        small = shrink(*args, verify=False)
        return spoiled(small) if spoil else small

    monkeypatch.setattr(fxprune, "shrink", pretended)
    outcome = attempt(drawn(0), Pruning())
    assert outcome.kind == kind
    assert error is None or type(error).__name__ in outcome.reason


@pytest.mark.parametrize("text", ["torch.roll(", ".flip("])
def test_a_wrong_label_rule_is_found_by_the_oracle_alone(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A rule that leaves channels where they are, though they move; nothing is verified."""
    op = {"torch.roll(": torch.ops.aten.roll.default, ".flip(": torch.ops.aten.flip.default}[text]

    def stays(call: Any) -> None:
        call.result(call.axes("self"))

    monkeypatch.setitem(registry._RULES, op, replace(registry._RULES[op], propagate=stays))
    shrink = fxprune.shrink
    monkeypatch.setattr(fxprune, "shrink", lambda *args, **_: shrink(*args, verify=False))
    programs = [drawing for drawing in map(drawn, range(150)) if text in str(drawing)]
    pruning = Pruning(criterion="random")
    assert "wrong" in {attempt(drawing, pruning).kind for drawing in programs}


def test_the_command_tells_what_became_of_the_programs() -> None:
    result = CliRunner().invoke(main, ["--examples", "3", "--seed", "7"])
    assert result.exit_code == 0, result.output
    assert "3 programs" in result.output
    assert "defects: 0 refuted, 0 wrong, 0 crashed" in result.output


def test_the_command_fails_with_the_program_if_one_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fuzz.search, "attempt", wrong_if_it_has("activation"))
    result = CliRunner().invoke(main, ["--examples", "60"])
    assert result.exit_code == 1
    assert "class Model(nn.Module):" in result.output
    assert "1 wrong" in result.output
