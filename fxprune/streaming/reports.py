"""What `shrink_checkpoint` tells: while it works, and of what it made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fxprune.errors import first_of

if TYPE_CHECKING:
    from fxprune.comparison import Verification
    from fxprune.report import ShrinkReport


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Attributes:
        shards: how many files are finished.
        all_shards: how many there are.
        written: how many bytes of tensors are written, those of an earlier run too.
        all_written: how many there will be.
    """

    shards: int
    all_shards: int
    written: int
    all_written: int

    def __str__(self) -> str:
        of = f"{_gigabytes(self.written)} of {_gigabytes(self.all_written)}"
        return f"Writing shards: {self.shards} of {self.all_shards} finished, {of}"


@dataclass(frozen=True)
class WrittenShard:
    """A file of tensors that was written.

    Attributes:
        name: of the file, in the source and in the target.
        before: the bytes of the source's file.
        after: the bytes of what was written.
        sha256: of what was written, in hexadecimal.
        resumed: whether an earlier run had written it.
    """

    name: str
    before: int
    after: int
    sha256: str
    resumed: bool = False


@dataclass(frozen=True)
class CheckpointReport:
    """What `shrink_checkpoint` made, and what of it was checked.

    Attributes:
        source: the folder of the original.
        target: the folder that was written.
        shards: the files of tensors.
        sliced: the names of tensors that lost positions.
        untouched: the names of those that are as they were.
        unknown: those of these that the model does not have.
        dropped: the names of tensors of dropped blocks, which are left out.
        copied: other files that were copied.
        left_out: other files that were not.
        has_config: whether config.json tells the new widths, for `from_pretrained`.
        model: widths and cost of the model, as `shrink` tells them.
        verification: what `fxprune.verify` found, if it was asked for.
    """

    source: Path
    target: Path
    shards: tuple[WrittenShard, ...]
    sliced: tuple[str, ...]
    untouched: tuple[str, ...]
    unknown: tuple[str, ...]
    dropped: tuple[str, ...]
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    has_config: bool
    model: ShrinkReport
    verification: Verification | None = None

    @property
    def before(self) -> int:
        """The bytes of the original's files of tensors."""
        return sum(shard.before for shard in self.shards)

    @property
    def after(self) -> int:
        """The bytes of those that were written."""
        return sum(shard.after for shard in self.shards)

    def notes(self) -> Iterator[str]:
        """Sentences on what was done, and on what was checked and what was not."""
        resumed = sum(shard.resumed for shard in self.shards)
        if resumed:
            yield f"{resumed} of {len(self.shards)} shards were there from an earlier run"
        yield f"tensors: {len(self.sliced)} sliced, {len(self.untouched)} as they were"
        if self.unknown:
            yield f"copied, though the model has none of that name: {first_of(self.unknown)}"
        if self.dropped:
            yield f"left out with dropped blocks: {len(self.dropped)} tensors"
        if self.copied:
            yield f"files copied: {', '.join(self.copied)}"
        if self.left_out:
            yield f"files left out: {first_of(self.left_out)}"
        yield (
            "config.json tells the new widths, for from_pretrained"
            if self.has_config
            else "no config.json: the model is none of transformers; plan.json tells what went"
        )
        yield (
            "checked: names, shapes and types; that the files hold what was to be written"
            " (SHA-256); that tensors which are not sliced are the original's, byte by byte"
        )
        yield (
            "not checked: what the model computes (verify=True does)"
            if self.verification is None
            else str(self.verification)
        )

    def __str__(self) -> str:
        lines = [
            f"{self.source} -> {self.target}",
            f"shards: {len(self.shards)}, {_gigabytes(self.before)} -> {_gigabytes(self.after)}",
            f"parameters: {self.model.before.parameters:,} -> {self.model.after.parameters:,}",
            *(f"- {note}" for note in self.notes()),
        ]
        return "\n".join(lines)


def _gigabytes(count: int) -> str:
    """A number of bytes for people.

    >>> _gigabytes(2_500_000_000), _gigabytes(1_200)
    ('2.50 GB', '1.2 kB')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count / 1000:.1f} kB"
