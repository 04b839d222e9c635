"""Plans from a sensitivity: less goes from what loses much, and everything else holds as before."""

from typing import Any

import numpy as np
import pytest
import torch

import fxprune
from fxprune import InputError, Plan, PlanError, Sensitivity
from fxprune.planning.sensitivity_data import Curve, Point
from fxprune.planning.sensitivity_scores import Drops, by_sensitivity
from tests.sensitivities.models import X, error, two

DEPS = fxprune.analyze(two(), X[:2])
SENSITIVITY = fxprune.sensitivity(DEPS, X[:2], error, mode="min", progress=False)


def curve(size: int, *drops: tuple[int, float | None]) -> Curve:
    return Curve(size, "channels", tuple(Point(n / (size + 1), n, v, "") for n, v in drops))


def made(**curves: Curve) -> Sensitivity:
    """Losses above a baseline of 0."""
    return Sensitivity(0.0, "min", curves, DEPS.digest, "")


def removed(plan: Plan) -> dict[str, int]:
    return {name: len(group.removed) for name, group in plan.groups.items() if group.removed}


# -- curves ----------------------------------------------------------------------------------


def drops_at(share: list[float], *points: tuple[int, float | None]) -> list[float]:
    drops = Drops.of(made(), curve(8, *points))
    assert drops is not None
    found: list[float] = drops.at(np.array(share), infinite=100.0).tolist()
    return found


def test_a_curve_runs_from_nothing_through_its_points_at_the_shares_that_went() -> None:
    assert drops_at([0, 1 / 8, 2 / 8, 3 / 8, 4 / 8], (2, 0.2), (4, 0.6)) == pytest.approx(
        [0, 0.1, 0.2, 0.4, 0.6]
    )


def test_a_curve_never_falls_and_never_is_better_than_the_whole_model() -> None:
    assert drops_at([2 / 8, 3 / 8, 4 / 8], (1, -0.5), (2, 0.3), (4, 0.1)) == [0.3, 0.3, 0.3]
    assert drops_at([1 / 8, 2 / 8], (1, -0.5), (2, -0.1)) == [0, 0]


def test_beyond_its_points_a_curve_goes_on_with_its_last_slope_or_with_its_mean_one() -> None:
    assert drops_at([1.0], (2, 0.1), (4, 0.6)) == pytest.approx([0.6 + 4 * 0.25])
    assert drops_at([1.0], (2, 0.4), (4, 0.4)) == pytest.approx([0.8])


def test_all_beyond_the_last_finite_drop_is_infinite_if_one_follows() -> None:
    assert drops_at([2 / 8, 3 / 8, 4 / 8, 1], (2, 0.1), (4, None)) == [0.1, 100, 100, 100]
    assert drops_at([1 / 8], (2, None), (4, 0.0)) == [100]
    assert drops_at([2 / 8], (2, 1e308)) == [100]


def test_a_group_of_which_nothing_went_has_no_curve() -> None:
    assert Drops.of(made(), curve(8)) is None
    assert Drops.of(made(), curve(8, (0, 0.0))) is None


def test_scores_keep_the_order_of_a_group_and_rise_strictly() -> None:
    torch.manual_seed(0)
    group = DEPS.group("small")
    scores = np.zeros(len(DEPS.trace.labels))
    scores[group.ids] = np.random.default_rng(0).random(16)
    kept = np.zeros(len(scores), dtype=np.bool_)
    flat = made(small=curve(16, (8, 0.0)))
    found = by_sensitivity(scores, [group], flat, kept)[group.ids]
    assert np.argsort(found).tolist() == np.argsort(scores[group.ids]).tolist()
    assert len(set(found.tolist())) == 16


def test_what_is_kept_does_not_count_among_what_goes_first() -> None:
    group = DEPS.group("small")
    scores = np.zeros(len(DEPS.trace.labels))
    scores[group.ids] = np.arange(16)
    kept = np.zeros(len(scores), dtype=np.bool_)
    kept[group.ids[0]] = True
    found = by_sensitivity(scores, [group], made(small=curve(16, (16, 1.6))), kept)[group.ids]
    assert found[1] == pytest.approx(0.1)
    assert found[0] == pytest.approx(1.6)


# -- plans -----------------------------------------------------------------------------------


def test_less_goes_from_the_sensitive_group_and_more_from_the_other() -> None:
    found = removed(fxprune.plan(DEPS, ratio=0.5, sensitivity=SENSITIVITY))
    assert found["small"] > 8 > found.get("large", 0)
    assert sum(found.values()) == 16


def test_a_plan_from_a_sensitivity_is_better_than_one_of_the_same_size_without() -> None:
    plans = [fxprune.plan(DEPS, ratio=0.5, sensitivity=s) for s in (SENSITIVITY, None)]
    with_it, without = (error(fxprune.shrink(two(), plan)) for plan in plans)
    assert with_it < without / 2


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_a_target_is_met(cost: str) -> None:
    plan = fxprune.plan(DEPS, target={cost: 0.6}, sensitivity=SENSITIVITY)
    assert 0.55 < plan.made["reached"][cost] <= 0.6
    found = removed(plan)
    assert found["small"] > found.get("large", 0)


def test_a_threshold_is_the_drop_that_a_group_may_cause_by_itself() -> None:
    allowed = 0.002
    found = removed(fxprune.plan(DEPS, threshold=allowed, sensitivity=SENSITIVITY))
    assert found["small"] > 8 > found.get("large", 0)
    for name, curve in SENSITIVITY.curves.items():
        for point in curve.points:
            drop = SENSITIVITY.drop(point.value)
            assert (drop < allowed) == (point.removed <= found.get(name, 0))


def test_a_larger_ratio_takes_what_a_smaller_one_takes() -> None:
    before: dict[str, set[int]] = {}
    for ratio in (0.1, 0.3, 0.5, 0.7, 0.9):
        plan = fxprune.plan(DEPS, ratio=ratio, sensitivity=SENSITIVITY)
        now = {name: set(group.removed) for name, group in plan.groups.items()}
        assert all(now[name] >= gone for name, gone in before.items())
        before = now
    assert all(group.width >= 1 for group in plan.groups.values())


def test_within_a_group_the_criterion_tells_what_goes() -> None:
    plan = fxprune.plan(DEPS, ratio=0.3, sensitivity=SENSITIVITY, criterion="l1")
    gone = plan.groups["small"].removed
    alone = fxprune.plan(DEPS, ratios={"small": len(gone) / 16}, criterion="l1")
    assert alone.groups["small"].removed == gone


def test_constraints_hold() -> None:
    plan = fxprune.plan(
        DEPS, ratio=0.4, sensitivity=SENSITIVITY, round_to=4, min_channels=8, keep={"small": [0, 1]}
    )
    assert all(g.width % 4 == 0 and g.width >= 8 for g in plan.groups.values())
    assert not {0, 1} & set(plan.groups["small"].removed)
    assert not removed(fxprune.plan(DEPS, ratio=0.4, sensitivity=SENSITIVITY, ignore=["*"]))
    equal = removed(fxprune.plan(DEPS, ratio=0.5, sensitivity=SENSITIVITY, uniform=True))
    assert sum(equal.values()) == 16


def test_groups_that_were_not_measured_lose_only_what_is_said_of_them() -> None:
    only = Sensitivity(0.0, "min", {"small": SENSITIVITY.curves["small"]}, DEPS.digest, "")
    assert removed(fxprune.plan(DEPS, ratio=0.5, sensitivity=only)) == {"small": 8}
    named = fxprune.plan(DEPS, ratio=0.5, sensitivity=only, ratios={"large": 0.25})
    assert removed(named) == {"small": 8, "large": 4}
    same = fxprune.plan(DEPS, ratio=0.5, sensitivity=only, ratios={"large": 0.5})
    assert removed(same) == {"small": 8, "large": 8}
    said = fxprune.plan(
        DEPS, ratio=0.5, sensitivity=only, strategies={"large": {"criterion": "l1"}}
    )
    assert removed(said) == {"small": 8}


def test_a_group_of_which_no_channel_went_counts_as_not_measured() -> None:
    blind = made(small=SENSITIVITY.curves["small"], large=curve(16, (0, 0.0)))
    assert removed(fxprune.plan(DEPS, ratio=0.5, sensitivity=blind)) == {"small": 8}


def test_a_group_that_breaks_the_model_goes_last() -> None:
    broken = made(small=curve(16, (4, 0.0), (8, None)), large=curve(16, (4, 5.0), (15, 50.0)))
    assert removed(fxprune.plan(DEPS, ratio=0.5, sensitivity=broken)) == {"small": 4, "large": 12}


def test_other_weights_and_the_path_of_a_file_are_taken(tmp_path: Any) -> None:
    SENSITIVITY.save(tmp_path / "curves.json")
    tuned = two()
    with torch.no_grad():
        tuned.large.weight.mul_(1.01)
    plan = fxprune.plan(tuned, X[:2], 0.5, sensitivity=tmp_path / "curves.json")
    assert removed(plan)["small"] > 8


def test_the_plan_says_what_it_was_made_of() -> None:
    plan = fxprune.plan(DEPS, ratio=0.5, sensitivity=SENSITIVITY)
    assert plan.made["scope"] == "global"
    assert plan.made["sensitivity"]["mode"] == "min"
    assert plan.made["sensitivity"]["weights"] == SENSITIVITY.weights
    assert Plan.from_json(plan.to_json()) == plan
    assert "sensitivity" not in fxprune.plan(DEPS, ratio=0.5).made
    assert "scope" not in fxprune.plan(DEPS, ratio=0.5).made


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"normalize": "max"}, "both sensitivity= and normalize"),
        ({"strategies": {"small": {"normalize": "rank"}}}, r"strategies\['small'\]"),
        ({"scope": "group"}, 'scope="group"'),
        ({"by": "blocks", "target": {"macs": 0.5}, "ratio": 0.0}, 'by="blocks"'),
        ({"sensitivity": 3}, "the sensitivity is a int"),
        ({"sensitivity": "no.json"}, "no.json cannot be read"),
    ],
)
def test_what_contradicts_a_sensitivity_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        fxprune.plan(DEPS, **{"ratio": 0.5, "sensitivity": SENSITIVITY, **options})


@pytest.mark.parametrize(
    ("sensitivity", "text"),
    [
        (Sensitivity(0.0, "min", SENSITIVITY.curves, "0" * 64, ""), "another digest"),
        (made(none=curve(16, (8, 0.1))), "group none has 16 channels there, none"),
        (made(small=curve(8, (4, 0.1))), "group small has 8 channels there, 16 here"),
        (made(), "tells nothing"),
        (made(small=curve(16, (0, 0.0))), "tells nothing"),
    ],
)
def test_a_sensitivity_of_another_model_or_of_nothing_is_refused(
    sensitivity: Sensitivity, text: str
) -> None:
    with pytest.raises(PlanError, match=text):
        fxprune.plan(DEPS, ratio=0.5, sensitivity=sensitivity)
