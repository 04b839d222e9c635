"""After any operations, any set of removed ids keeps every promise that an operation made."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fxprune.labels import LabelAlgebra
from fxprune.labels.masks import free_ids, mask
from tests.labels.masks import random_removals
from tests.labels.programs import OPERATIONS, Machine, Program, programs


@settings(max_examples=300)
@given(programs(), st.integers(0, 2**16))
@example([("take", 9)], 0)  # a single position that broadcasts
def test_every_operation_keeps_its_promise_whatever_is_removed(program: Program, seed: int) -> None:
    machine = Machine().run(program)
    for removed in random_removals(machine.labels, seed=seed):
        assert machine.broken_promises(removed) == []


@settings(max_examples=20)
@given(programs(longest=80), st.integers(0, 2**16))
def test_long_programs_are_as_sound_as_short_ones(program: Program, seed: int) -> None:
    machine = Machine().run(program)
    for removed in random_removals(machine.labels, seed=seed):
        assert machine.broken_promises(removed) == []


@pytest.mark.parametrize("alternative", [[1, 0, 3, 2], [1, 1, 1, 1]])
def test_ids_that_would_have_to_mean_one_another_terminate(alternative: list[int]) -> None:
    labels = LabelAlgebra()
    ids, others = labels.fresh_axis(4), labels.fresh_axis(2)
    # Position k of this axis goes with id alternative[k], or with one of the other two.
    either = labels.take(
        labels.merge([ids, others]), [2 * i + k % 2 for k, i in enumerate(alternative)]
    )
    labels.unify(ids, either)
    for removed in random_removals(labels):
        assert mask(labels, ids, removed).tolist() == mask(labels, either, removed).tolist()
    assert free_ids(labels, ids)


@given(programs())
def test_an_axis_of_one_position_is_never_removed(program: Program) -> None:
    machine = Machine().run(program)
    singles = [axis for axis in machine.axes if axis.size == 1]
    assert [axis for axis in singles if machine.labels.leaves(axis)] == []


@given(programs())
def test_a_pinned_id_always_has_a_reason(program: Program) -> None:
    machine = Machine()
    labels = machine.labels
    labels.place = "some place"
    machine.run(program)
    ids = np.arange(1, len(labels))
    reasons = {labels.pin_reason(int(i)) for i in ids[labels.is_pinned(ids)]}
    assert reasons <= {"some place", "pinned by the program"}


@given(programs())
def test_the_same_program_always_gives_the_same_labels(program: Program) -> None:
    first, second = Machine().run(program), Machine().run(program)
    assert first.meaning() == second.meaning()


@given(programs(), programs())
def test_a_copy_does_not_see_what_happens_to_the_original(first: Program, rest: Program) -> None:
    machine = Machine().run(first)
    meaning = machine.meaning()
    twin = Machine(machine.labels.copy(), list(machine.axes))
    machine.run(rest)
    assert twin.meaning() == meaning


@given(programs(), programs())
def test_the_original_does_not_see_what_happens_to_a_copy(first: Program, rest: Program) -> None:
    machine = Machine().run(first)
    meaning, count = machine.meaning(), len(machine.labels)
    Machine(machine.labels.copy(), list(machine.axes)).run(rest)
    assert machine.meaning() == meaning
    assert len(machine.labels) == count


@given(programs(), programs())
def test_a_copy_goes_on_as_the_original_would(first: Program, rest: Program) -> None:
    machine = Machine().run(first)
    twin = Machine(machine.labels.copy(), list(machine.axes))
    assert twin.run(rest).meaning() == machine.run(rest).meaning()


@given(programs())
def test_doing_everything_again_changes_nothing(program: Program) -> None:
    """What holds already costs nothing: neither a union nor a pin."""
    machine = Machine().run(program)
    labels = machine.labels
    meaning = machine.meaning()
    for axis in list(machine.axes):
        labels.unify(axis, labels.take(axis, slice(None)))
        labels.unify(labels.concat([axis]), axis)
        labels.unify(labels.merge([axis]), axis)
        labels.unify(axis, labels.reshape([axis], [axis.size])[0])
    assert machine.meaning() == meaning


@given(programs(), st.lists(st.integers(0, 2**16), max_size=4))
def test_unifying_with_each_is_unifying_one_after_the_other(
    program: Program, picks: list[int]
) -> None:
    together, apart = Machine().run(program), Machine().run(program)
    axis = together.axes[sum(picks) % len(together.axes)]
    number = together.axes.index(axis)
    fitting = [k for k, other in enumerate(together.axes) if other.size == axis.size]
    chosen = [fitting[pick % len(fitting)] for pick in picks]
    together.labels.unify_with_each(axis, [together.axes[k] for k in chosen])
    for k in chosen:
        apart.labels.unify(apart.axes[number], apart.axes[k])
    assert together.meaning() == apart.meaning()


@given(programs())
def test_splitting_and_merging_again_gives_the_same_axis(program: Program) -> None:
    machine = Machine().run(program)
    labels: LabelAlgebra = machine.labels
    for axis in [axis for axis in machine.axes if axis.size % 2 == 0]:
        merged = labels.merge(labels.split(axis, 2, axis.size // 2))
        before = machine.meaning()
        labels.unify(axis, merged)
        assert machine.meaning() == before


def test_programs_use_every_operation() -> None:
    public = {
        name
        for name in vars(LabelAlgebra)
        if not name.startswith("_") and callable(getattr(LabelAlgebra, name))
    }
    # These change no label.
    assert public - {"pinned_axis", "reason_of", "mark_batch"} == set(OPERATIONS)
