"""`shrink_checkpoint`: from a folder of weights to a smaller one, without the model in memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fxprune.errors import FxPruneError, InputError
from fxprune.files import write_atomically
from fxprune.planning import Plan
from fxprune.shards import Checkpoint
from fxprune.streaming.folders import (
    CONFIG,
    PLAN,
    Companions,
    check_target,
    companions,
    copy_file,
    owned,
)
from fxprune.streaming.markers import FINISHED, MARKER, Marker
from fxprune.streaming.outcomes import Outcome, outcome_of
from fxprune.streaming.proofs import check_verifiable, proof_of
from fxprune.streaming.reports import CheckpointReport, Progress, WrittenShard
from fxprune.streaming.work import Job, Work
from fxprune.surroundings import undisturbed

if TYPE_CHECKING:
    from torch import nn

Removal = Mapping[str, "float | Sequence[int]"]


@undisturbed()
def shrink_checkpoint(
    model: nn.Module,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    plan: Plan | str | os.PathLike[str] | Removal,
    example_inputs: Any = None,
    *,
    workers: int = 1,
    verify: bool | Literal["quick"] = False,
    progress: Callable[[Progress], object] | None = None,
) -> CheckpointReport:
    """Remove channels from a checkpoint of safetensors that may be larger than memory.

    The model is analyzed without data; then file by file every tensor is read from the source's
    memory-mapped file, sliced in parts, and written. What is written is what `shrink` with
    `emit="module"` makes of the model with these weights, under the names of its state dict. A
    target that is not finished has a file `fxprune-incomplete.json`; the same call again goes on
    where it was, also after the process was killed. The source is never written to.

    Args:
        model: the model that the checkpoint is of, built under `torch.device("meta")`, where it
            takes no memory; of one with data only names, shapes and types count.
        source: the folder with `model.safetensors`, or with `model.safetensors.index.json` and the
            files that it names; or the path of such a file or index.
        target: a folder, which is made; empty, or begun by the same call.
        plan: a Plan, the path of one, or a dict {module name or pattern: ratio or list of output
            channels}, which needs `example_inputs` and ranks channels by "l2" (see `weights` of
            `fxprune.plan` for all others).
        example_inputs: a tensor, a tuple or a dict of keyword arguments, for a plan that is a dict,
            and to verify; only their shapes and types matter otherwise.
        workers: how many files are written at a time; each needs memory for a part of a tensor.
        verify: load both checkpoints at the end and run `fxprune.verify` on them; "quick" for its
            quick checks. That takes the memory of both models.
        progress: is called with a `Progress` as tensors are written, from any thread.

    Returns:
        A report, which tells what was checked and what was not. In the target are the files of
        tensors (and the index) under the names of the source, plan.json, the small files of the
        source (tokenizer ...), config.json for a model of transformers, and
        `fxprune-checkpoint.json` with the SHA-256 of every file of tensors.

    Raises:
        InputError: the checkpoint is broken, or not one of the model; or the target cannot be one.
        PlanError: the plan is malformed or for another model, or names what is not there.
        RewriteError: the result could not be loaded: no configuration tells its widths, or a tensor
            that is in no checkpoint would have to be sliced. Up to here nothing is written.
        VerificationError: the shrunk model does not compute what the original does; the target
            stays marked as incomplete.
        FxPruneError: a file cannot be written, or holds something else when it is read back; or the
            target was begun with another plan or source. What was finished stays.
        CaptureError, AnalysisError: see `analyze`.
    """
    _check_options(workers, verify)
    checkpoint, folder = Checkpoint.open(source), Path(target)
    check_target(Path(source), folder)
    outcome = outcome_of(model, checkpoint, plan, example_inputs)
    if verify:
        check_verifiable(model, checkpoint)
    job = Job(checkpoint, folder, outcome.files, outcome.slices)
    others = companions(Path(source), has_config=outcome.config is not None)
    with owned(folder):
        marker, resumed = _begun(job, outcome)
        work = Work(job, marker, progress)
        with _told_how_to_go_on(work):
            work.run(workers)
            _write_rest(job, outcome, others)
        report = _report(work, outcome, others, resumed)
        if verify:
            quick, made = verify == "quick", outcome.plan
            proof = proof_of(model, checkpoint, folder, made, example_inputs, quick=quick)
            report = replace(report, verification=proof)
        work.marker.write(folder, FINISHED)
        (folder / MARKER).unlink()
    return report


def _check_options(workers: Any, verify: Any) -> None:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers is {workers!r}", why="it is a whole number, 1 or more")
    if not (isinstance(verify, bool) or verify == "quick"):
        raise InputError(f"verify={verify!r} is not known", hint='pass True, "quick" or False')


def _begun(job: Job, outcome: Outcome) -> tuple[Marker, frozenset[str]]:
    """The marker of the target, and the files that an earlier run has finished."""
    text = replace(outcome.plan, made={}).to_json()
    new = Marker(hashlib.sha256(text.encode()).hexdigest(), job.checkpoint.digest)
    if not (job.target / MARKER).exists():
        new.write(job.target)
        return new, frozenset()
    marker = Marker.read(job.target)
    marker.check_same_job(new, job.target)
    if unknown := [name for name in marker.shards if name not in job.files]:
        raise InputError(f"{job.target / MARKER} names {unknown[0]}, which the source has not")
    whole = {name: f for name, f in marker.shards.items() if not job.wrong(name, f)}
    return replace(marker, shards=whole), frozenset(whole)


@contextmanager
def _told_how_to_go_on(work: Work) -> Iterator[None]:
    """Tell of whatever ends the work early how to go on."""
    hint = "do the same again: it goes on from there, and writes no finished file again"
    try:
        yield
    except FxPruneError as error:
        why = f"{error.why}; {_state(work)}" if error.why else _state(work)
        hint = f"{error.hint}; then {hint}" if error.hint else hint
        raise FxPruneError(error.what, where=error.where, why=why, hint=hint) from error
    except BaseException as error:
        error.add_note(f"{_state(work)}. To go on, {hint}.")
        raise


def _state(work: Work) -> str:
    job = work.job
    return (
        f"{len(work.marker.shards)} of {len(job.files)} files are finished in {job.target}, which"
        " is marked as incomplete; the source is as it was"
    )


def _write_rest(job: Job, outcome: Outcome, others: Companions) -> None:
    """Write all but the tensors."""
    source, target = job.checkpoint, job.target
    if source.index is not None:
        _write(target / source.index, json.dumps(_index(source, outcome), indent=2) + "\n")
    if outcome.config is not None:
        _write(target / CONFIG, outcome.config)
    outcome.plan.save(target / PLAN)
    for name in others.copied:
        copy_file(source.folder / name, target / name)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda stream: stream.write(text.encode()))


def _index(source: Checkpoint, outcome: Outcome) -> dict[str, Any]:
    """The index of what is written; what it says of sizes is said anew."""
    tensors = [(file, tensor) for file, all_ in outcome.files.items() for tensor in all_]
    sizes = {"total_size": sum(tensor.size for _, tensor in tensors)}
    if "total_parameters" in source.metadata:
        sizes["total_parameters"] = outcome.report.after.parameters
    where = {tensor.name: file for file, tensor in tensors}
    return {"metadata": {**source.metadata, **sizes}, "weight_map": dict(sorted(where.items()))}


def _report(
    work: Work, outcome: Outcome, others: Companions, resumed: frozenset[str]
) -> CheckpointReport:
    job, marker = work.job, work.marker
    names = [tensor.name for tensors in job.files.values() for tensor in tensors]
    shards = [
        WrittenShard(
            name,
            job.checkpoint.shards[name].size,
            marker.shards[name].size,
            marker.shards[name].sha256,
            name in resumed,
        )
        for name in job.files
    ]
    return CheckpointReport(
        source=job.checkpoint.folder,
        target=job.target,
        shards=tuple(shards),
        sliced=tuple(name for name in names if name in job.slices),
        untouched=tuple(name for name in names if name not in job.slices),
        unknown=outcome.unknown,
        dropped=outcome.dropped,
        copied=others.copied,
        left_out=others.left_out,
        has_config=outcome.config is not None,
        model=outcome.report,
    )
