"""The rule oracle: slicing before an operator against slicing after it.

A rule is right if the operator on sliced operands gives the sliced outcome of the operator on full
operands in which removed positions do not count, for every set of ids that the labels allow to be
removed. It is precise if nothing is pinned that could be free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.errors import InputError, NeedlessPinError, WrongRuleError
from fxprune.labels.masks import mask
from fxprune.testing.differences import removed_in_words, shapes_differ, values_differ
from fxprune.testing.needless import needless_pins
from fxprune.testing.trial import CannotRunError, Trial

if TYPE_CHECKING:
    from torch._ops import OpOverload, OpOverloadPacket

    from fxprune.labels.masks import Mask
    from fxprune.rules import Rule
    from fxprune.testing.samples import Sample


def check_rule(
    op: OpOverload | OpOverloadPacket,
    *samples: Sample,
    rule: Rule | None = None,
    removals: int = 5,
    seed: int = 0,
) -> None:
    """Check the label rule of an operator on samples of calls, in both directions.

    For each sample, channels that the labels allow to be removed are removed: as many as can go,
    each alone, and random sets. The operator on sliced operands must give what is left of its
    outcome on full operands in which the removed positions do not count (they are zeroed where
    `sums` says so, and left out where `normalizes` says so); on random numbers and on all-negative
    ones. Then the pinned positions are tried, one by one: a rule must not pin what could be free.

    Args:
        op: the operator.
        samples: calls of it.
        rule: the rule to check; by default the registered one.
        removals: how many large sets of channels to remove, beside each channel alone; the first
            takes as much as it can.
        seed: for the removals and the numbers.

    Raises:
        WrongRuleError: slicing before and after the operator differ; tells which positions.
        NeedlessPinError: positions are pinned that could go; or fewer ids are free than a sample
            says.
        InputError: there is no sample, or one of another operator.
        FxPruneError: the operator has no rule.
    """
    if not samples:
        raise InputError(
            f"there is no sample of {op}", hint="pass fxprune.testing.Sample(op, (arguments, ...))"
        )
    for sample in samples:
        if op not in (sample.op, sample.op._overloadpacket):
            raise InputError(f"{sample} is a sample of {sample.op}, not of {op}")
        check_sample(sample, rule, removals=removals, seed=seed)


def check_sample(
    sample: Sample, rule: Rule | None = None, *, removals: int = 5, seed: int = 0
) -> Trial:
    """Check one sample; see `check_rule`. Returns its labels."""
    trial = Trial(sample, rule)
    for removed in trial.removals(removals, seed):
        for negative in (False, True):
            _check_removal(trial, removed, negative=negative, seed=seed)
    _check_precision(trial)
    return trial


def _check_removal(trial: Trial, removed: Mask, *, negative: bool, seed: int) -> None:
    """Compare slicing before with slicing after the operator."""
    sample = trial.sample
    inputs, outputs = trial.kept(trial.inputs, removed), trial.kept(trial.outputs, removed)
    call = trial.call(negative=negative, seed=seed)
    names = [f"output {number}" for number in range(len(outputs))]
    where = "removed: " + removed_in_words(
        [*trial.names, *names], trial.inputs + trial.outputs, inputs + outputs
    )
    try:
        # The sliced call comes first, because the operator may write into its operands.
        got = trial.sliced(call, inputs, outputs)
    except CannotRunError as error:
        raise WrongRuleError(
            f"{sample}: the operator does not run on the sliced operands",
            where=where,
            why=str(error),
            hint="couple the operands, or give the sample adapt= for arguments that name sizes",
        ) from error
    full = trial.masked(call, lambda axis: mask(trial.labels, axis, removed))
    why = shapes_differ(full, got, outputs)
    if not why and not sample.random:
        why = values_differ(full, got, outputs)
    if why:
        raise WrongRuleError(
            f"{sample}: slicing before and after the operator differ",
            where=where,
            why=why,
            hint="check which positions the rule moves (labels.take) and couples (labels.unify),"
            " and what it declares as sums= and normalizes=",
        )


def _check_precision(trial: Trial) -> None:
    """A rule leaves as many ids free as the sample says, and pins nothing without need."""
    sample, free = trial.sample, len(trial.free)
    if sample.free is not None and free > sample.free:
        raise WrongRuleError(f"{sample}: {free} ids are free, but the sample says {sample.free}")
    if not sample.pinned and (pins := needless_pins(trial)):
        raise NeedlessPinError(
            f"{sample}: positions are pinned that could be removed",
            why="each of these could go alone: " + " | ".join(map(str, pins)),
            hint="pass their labels on, or say why they stay: Sample(..., pinned='...')",
        )
    if sample.free is not None and free < sample.free:
        raise NeedlessPinError(
            f"{sample}: {free} ids are free, but the sample says {sample.free}",
            why="the rule pins or couples too much",
        )
