"""A slice of the sweep, of every kind of model, that touches as many rules as the whole."""

from __future__ import annotations

import pytest

from tests.sweeps.slicing import SLICE, builtin_rules, library, measured, zoo_rules

pytestmark = [
    pytest.mark.slow,
    # One worker measures every model once for all the tests of this file.
    pytest.mark.xdist_group("slice"),
    # The libraries warn while they are imported, each version of them of other things.
    pytest.mark.filterwarnings("ignore"),
]

# Rules that no model of the zoo or of the slice needs, and what would need them. Only the samples
# of the rule oracle (tests/rules) run these.
ORACLE_ONLY: dict[str, str] = {}


@pytest.mark.parametrize("key", SLICE)
def test_a_model_of_every_kind_shrinks_and_verifies(key: str) -> None:
    pytest.importorskip(library(key))
    row = measured(key).row
    assert (row.outcome, row.reason) == ("shrunk", "")
    assert row.dtype == "float64"
    assert row.cut is not None
    assert row.cut >= 0.15
    assert row.error is not None
    assert row.error < 1e-6


def test_detectors_keep_their_own_class() -> None:
    pytest.importorskip("torchvision")
    row = measured("torchvision/detection/fasterrcnn_mobilenet_v3_large_320_fpn").row
    assert (row.captured, row.emit) == ("record", "module")


def test_every_rule_is_touched_or_known_to_be_run_by_the_oracle_only() -> None:
    for name in {library(key) for key in SLICE}:
        pytest.importorskip(name)
    touched = zoo_rules().union(*(measured(key).touched for key in SLICE))
    assert builtin_rules() - touched == set(ORACLE_ONLY)


def test_the_slice_has_every_kind_of_model() -> None:
    kinds = {key.rpartition("/")[0].partition("/")[2].partition("/")[0] for key in SLICE}
    assert kinds >= {"classification", "detection", "optical flow", "images", "encoders"}
    assert kinds >= {"decoders", "encoder-decoders", "mixtures of experts", "state space"}
    assert kinds >= {"vision", "audio", "multimodal"}
