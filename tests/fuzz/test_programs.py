"""Random programs by random plans, on every run of the tests: none may be wrong."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from fuzz.drafting import STEPS
from fuzz.search import search
from fuzz.summary import Summary
from tests.sweeps.slicing import builtin_rules, touched_rules

PROGRAMS, PARTS, SEED = 200, 2, 0

pytestmark = [
    pytest.mark.slow,
    # One worker runs the programs once for all the tests of this file.
    pytest.mark.xdist_group("fuzz"),
    # Torch and fxprune's capture warn of what random programs do.
    pytest.mark.filterwarnings("ignore"),
]

# Rules of operators that no step has, and why.
NOT_DRAWN = {
    "attention.attention": "a fused kernel; analysis runs attention in its parts",
    "by_value.multinomial": "draws numbers",
    "by_value.repeats_to_positions": "numbers of repeats from data, so that sizes are",
    "detection.deform_conv2d": "of torchvision",
    "detection.nms": "of torchvision",
    "detection.ps_roi_align": "of torchvision",
    "detection.roi_align": "of torchvision",
    "experts.grouped_mm_fallback": "of transformers",
    "indexing.embedding_renorm": "changes its weight in forward",
    "matrices.grouped_mm": "wants widths of whole 16 bytes",
    "matrices.pdist": "pairs of samples, so that the batch stays",
    "movement.narrow": "narrow_copy; narrow itself is a slice",
    "movement.repeat_interleave": "as one operator; it comes in its parts",
    "pointwise.prelu": "as one operator; it comes as the one below it",
    "reshaping.as_strided": "names strides, which a mask need not share",
    "reshaping.channel_shuffle": "as one operator; it comes in its parts",
    "reshaping.matrix_t": "as one operator; it comes as a transposition",
    "reshaping.view_dtype": "reads the bits of numbers",
    "scattering.masked_scatter": "takes elements in their order, so that all stay",
    "scattering.put": "takes positions in the flat tensor, so that all stay",
}


@cache
def run() -> tuple[Summary, frozenset[str]]:
    """What became of the programs, and the label rules that their analysis looked up."""
    summary, threads = Summary(), torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are tiny
    with touched_rules() as touched:
        for part in range(PARTS):
            search(PROGRAMS // PARTS, SEED + part, summary)
    torch.set_num_threads(threads)
    return summary, frozenset(touched)


def test_no_program_of_200_is_wrong() -> None:
    summary, _ = run()
    assert summary.failures == [], "\n".join(map(str, summary.failures))
    assert summary.programs == PROGRAMS


def test_few_programs_are_refused_and_fewer_without_need() -> None:
    summary, _ = run()
    assert summary.outcomes["false alarm"] <= 0.01 * PROGRAMS
    assert summary.refused <= 0.05, str(summary)
    assert summary.outcomes["unusable"] <= 0.02 * PROGRAMS


def test_most_plans_remove_parameters_and_results_take_other_batches_and_sizes() -> None:
    summary, _ = run()
    assert summary.pruned >= 0.75 * PROGRAMS
    assert summary.after < 0.8 * summary.before
    assert summary.sets["batch"] >= 0.75 * PROGRAMS
    assert summary.sets["larger"] >= 0.2 * PROGRAMS
    assert set(summary.captured) >= {"symbolic_trace", "export"}


def test_nearly_every_step_is_drawn() -> None:
    summary, _ = run()
    assert len(set(summary.steps)) >= 0.95 * len(STEPS)


def test_the_programs_look_up_nearly_all_rules_that_they_can() -> None:
    _, touched = run()
    possible = builtin_rules() - NOT_DRAWN.keys()
    assert len(possible & touched) >= 0.85 * len(possible), "\n".join(sorted(possible - touched))
