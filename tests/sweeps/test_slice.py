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

# Rules that no model of the zoo or of the slice needs, and what it would take. Only the samples of
# the rule oracle (tests/rules) run these.
ORACLE_ONLY = {
    "attention.attention": "a fused kernel; analysis runs attention in its parts",
    "by_value.bucketize": "integers from torch.bucketize that are used as numbers",
    "by_value.isin": "a mask from torch.isin",
    "by_value.multinomial": "ViLT, which draws patches",
    "by_value.repeats_to_positions": "repeat_interleave with numbers of repeats from data",
    "by_value.searchsorted": "a search in sorted values, as for quantiles",
    "detection.deform_conv2d": "deformable convolutions, which no model of torchvision has",
    "detection.ps_roi_align": "position-sensitive pooling, as in R-FCN",
    "diagonals.diag_embed": "a diagonal matrix made of features",
    "diagonals.diagonal": "a trace or diagonal of a matrix of features",
    "diagonals.diagonal_scatter": "functional writes to a diagonal",
    "indexing.embedding_renorm": "nn.Embedding(max_norm=...)",
    "matrices.addbmm": "torch.addbmm",
    "matrices.cdist": "distances between all pairs, as in vector quantization by torch.cdist",
    "matrices.cross": "vector products, as in networks on geometry",
    "matrices.grouped_mm": "torch._grouped_mm, which wants widths of whole 16 bytes",
    "matrices.pdist": "distances within one set of points",
    "matrices.solve": "equations with a triangular matrix, as in Qwen3-Next",
    "matrices.whole_matrix": "a decomposition or inverse of a matrix, as in whitening",
    "movement.narrow": "narrow_copy; narrow itself is a slice",
    "movement.repeat_interleave": "repeat_interleave as one operator; it comes in its parts",
    "movement.rot90": "torch.rot90 on features",
    "movement.select_scatter": "functional writes to one position",
    "movement.slice_scatter": "functional writes to a slice",
    "pointwise.prelu": "aten.prelu; nn.PReLU comes as the operator below it",
    "reshaping.matrix_t": "x.mT as one operator; it comes as a transposition",
    "reshaping.view_dtype": "a view of the bits of numbers as another type",
    "scattering.index_copy": "Tensor.index_copy, as in caches of a fixed length",
    "scattering.index_fill": "Tensor.index_fill",
    "scattering.masked_scatter": "image features put in the places of their tokens, as in LLaVA",
    "scattering.put": "Tensor.put",
    "windows.affine_grid": "a spatial transformer",
}


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
