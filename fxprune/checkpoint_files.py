"""Files of checkpoints: what is in them, and how they are read from anyone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from fxprune.documents import DocumentKind
from fxprune.errors import FxPruneError, InputError
from fxprune.meaning import Meaning
from fxprune.planning import Plan
from fxprune.recipes import Outline
from fxprune.tensor_files import SUFFIX, library, read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

ORIGINAL = "original:"
"""What the names of the original's tensors begin with, among those of the result."""
_FILE = f"model{SUFFIX}"
"""The file in a folder."""
_PLAN, _REST = "fxprune.plan", "fxprune.checkpoint"
"""The texts in a file."""


@dataclass(frozen=True)
class Document:
    """What a file says beside the plan.

    Attributes:
        torch: the version that it was written with.
        emit: the kind of the result (see `shrink`).
        norm: its meaning.
        constants: its meaning.
        captured_by: how the original was captured.
        original_training: the modules of the original that were in training mode.
        training: the modules of the result that are.
        frozen: its parameters that are not trained.
        order: its parameters in their order.
        complex: its complex tensors, which are in the file as pairs of numbers.
        tied: further names of its tensors -> the name in the file.
        modules: see `Outline`.
        repaired: its tensors that were repaired (see `reconstruct` and `fold`).
    """

    torch: str
    emit: Literal["graph", "module"]
    norm: Literal["kept", "exact"]
    constants: Literal["drop", "fold"]
    captured_by: str
    original_training: Sequence[str]
    training: Sequence[str]
    frozen: Sequence[str]
    order: Sequence[str]
    complex: Sequence[str]
    tied: Mapping[str, str]
    modules: Mapping[str, str]
    repaired: Sequence[str] = ()

    def to_json(self) -> str:
        """The text that is written."""
        return json.dumps({"format": _KIND.format, "version": _KIND.version, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Document:
        """Read a text from anyone.

        Raises:
            InputError: it is no such document.
        """
        document = {"repaired": [], **_KIND.document(text)}
        for name in ("original_training", "training", "frozen", "order", "complex", "repaired"):
            list(map(_KIND.text_in, _KIND.sequence(document[name])))
        for name in ("tied", "modules"):
            list(map(_KIND.text_in, _KIND.mapping(document[name]).values()))
        for name in ("torch", "captured_by"):
            _KIND.text_in(document[name])
        if document["emit"] not in ("graph", "module"):
            raise _KIND.malformed(document["emit"], "a kind of result")
        Meaning(document["norm"], document["constants"])
        return cls(**{name: document[name] for name in _NAMES})


_NAMES = tuple(field.name for field in fields(Document))
_OPTIONAL = ("repaired",)
"""What files have that were written since there are repairs."""
_KIND = DocumentKind(
    name="checkpoint",
    version=1,
    keys=("format", "version", *(name for name in _NAMES if name not in _OPTIONAL)),
    optional=_OPTIONAL,
    error=InputError,
    again="write it again with fxprune.save",
    largest=64 << 20,
)


@dataclass(frozen=True)
class Saved:
    """What is in a file.

    Attributes:
        plan: what was removed.
        document: all else that it says.
        tensors: those of the result, under the names that they are stored under.
        integers: those of the original.
    """

    plan: Plan
    document: Document
    tensors: Mapping[str, Tensor]
    integers: Mapping[str, Tensor]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, or to one in a folder; no two tensors share memory."""
        library()  # before a folder is made
        integers = {f"{ORIGINAL}{name}": tensor for name, tensor in self.integers.items()}
        paired = set(self.document.complex)
        values = {n: torch.view_as_real(t) if n in paired else t for n, t in self.tensors.items()}
        texts = {"format": "pt", _PLAN: self.plan.to_json(), _REST: self.document.to_json()}
        write_tensors(_file_to_write(path), {**values, **integers}, texts)

    @classmethod
    def read(cls, given: str | os.PathLike[str]) -> Saved:
        """Read a file from anyone; nothing of it is run.

        Raises:
            InputError: it cannot be read, or is not what `save` wrote.
        """
        path = Path(given)
        path = path / _FILE if path.is_dir() else path
        found, texts = read_tensors(path)
        hint = "pass a file that fxprune.save wrote"
        if _PLAN not in texts or _REST not in texts:
            raise InputError(f"{path} holds tensors, but no plan", hint=hint)
        try:
            plan, document = Plan.from_json(texts[_PLAN]), Document.from_json(texts[_REST])
        except FxPruneError as error:
            why = error.why or "the file was changed, or comes from another version of fxprune"
            raise InputError(error.what, where=str(path), why=why, hint=hint) from error
        integers = {
            name.removeprefix(ORIGINAL): found.pop(name)
            for name in list(found)
            if name.startswith(ORIGINAL)
        }
        for name in document.complex:
            pairs = found.get(name)
            if pairs is None or not pairs.is_floating_point() or pairs.shape[-1:] != (2,):
                raise InputError(f"{path} has no complex tensor {name}", hint=hint)
            found[name] = torch.view_as_complex(pairs)
        if lost := [n for n in document.tied.values() if n not in found or n in document.tied]:
            raise InputError(f"{path} has no tensor {lost[0]}", hint=hint)
        return cls(plan, document, found, integers)

    @property
    def outline(self) -> Outline:
        """The saved model but for its values."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        shapes |= {name: shapes[first] for name, first in self.document.tied.items()}
        return Outline(shapes, self.document.tied, self.document.modules)


def _file_to_write(path: str | os.PathLike[str]) -> Path:
    """The file that a path means; a folder is made."""
    target = Path(path)
    if target.suffix == SUFFIX and not target.is_dir():
        return target
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise FxPruneError(
            f"the folder {path} cannot be made: {error.strerror}",
            hint=f"pass a name that ends in {SUFFIX}, or a folder in one that is there",
        ) from error
    return target / _FILE
