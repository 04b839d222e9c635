"""Running random programs until enough of them did, with failures made small."""

from __future__ import annotations

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from fuzz.drawing import programs
from fuzz.program import Program
from fuzz.pruning import Pruning, prunings
from fuzz.summary import Failure, Summary
from fuzz.trial import DEFECTS, attempt


class DefectError(Exception):
    """A program showed a defect; one class for each kind, which hypothesis keeps apart."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class WrongError(DefectError):
    """The result differs from the oracle."""


class RefutedError(DefectError):
    """fxprune refuted its own result."""


class CrashedError(DefectError):
    """An error that is none of fxprune's."""


_ERRORS = dict(zip(DEFECTS, (RefutedError, WrongError, CrashedError), strict=True))


def search(examples: int, seed: int, summary: Summary) -> Failure | None:
    """Run programs and count them in `summary`; the first that fails is made small.

    The same numbers give the same programs.
    """
    found = False

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), prunings())
    def check(program: Program, pruning: Pruning) -> None:
        nonlocal found
        outcome = attempt(program, pruning)
        if not found:
            summary.add(program, outcome)
        if outcome.kind in DEFECTS:
            found = True
            raise _ERRORS[outcome.kind](Failure(program, pruning, outcome))

    try:
        check()
    except DefectError as error:
        summary.failures.append(error.failure)
        return error.failure
    return None
