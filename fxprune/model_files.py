"""Files of shrunk models."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from fxprune.errors import InputError, in_one_line
from fxprune.exporting import quiet
from fxprune.files import regular_file, write_atomically
from fxprune.pretrained import without_refusals
from fxprune.reconstruction.noted import note_of_text, note_repaired, note_text, repaired_of

PROGRAM = ".pt2"
"""How the names of files of exported programs end."""
_NOTE = "fxprune_repaired.json"
"""The extra file of a program that tells which of its tensors were repaired."""


def save_model(small: nn.Module, path: Path) -> None:
    """Write a shrunk model with `torch.save`: of its report the names of repaired tensors only.

    `torch.load(path, weights_only=False)` needs torch and the Python modules whose classes and
    functions the graph calls, or of the class that was kept, but not fxprune.

    Raises:
        FxPruneError: the model cannot be pickled, or the file cannot be written.
    """
    plain = copy.copy(small) if isinstance(small, fx.GraphModule) else without_refusals(small)
    kept = {} if isinstance(small, fx.GraphModule) else vars(small)["meta"]
    vars(plain)["meta"] = {name: value for name, value in kept.items() if name != "fxprune"}
    note_repaired(plain, repaired_of(small))
    write_atomically(path, lambda stream: torch.save(plain, stream))


def load_model(path: Path) -> nn.Module:
    """Read a model that `save_model` or `torch.save` wrote. This can run any code in the file.

    Raises:
        InputError: the file cannot be read or holds no module.
    """
    try:
        regular_file(path)
        small: object = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise InputError(
            f"the model {path} cannot be read: {in_one_line(error)}",
            hint="pass a file that fxprune shrink wrote",
        ) from error
    if not isinstance(small, nn.Module):
        raise InputError(
            f"{path} holds an object of type {type(small).__name__}, not a torch.nn.Module",
            hint="pass a file that fxprune shrink wrote",
        )
    return small


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write an exported program with `torch.export.save`, with the names of repaired tensors.

    Raises:
        FxPruneError: it cannot be written.
    """
    text = note_text(program.graph_module)
    extra = {_NOTE: text} if text else None
    write_atomically(path, lambda stream: torch.export.save(program, stream, extra_files=extra))


def load_program(path: Path) -> ExportedProgram:
    """Read a program that `torch.export.save` wrote. This can run any code in the file.

    torch reads tensors without pickle where it wrote them so, but the file says which it unpickles,
    and its graph may name any function of torch.

    Raises:
        InputError: the file cannot be read or holds no program.
    """
    try:
        regular_file(path)
        with quiet():
            extra = {_NOTE: ""}
            program = torch.export.load(path, extra_files=extra)
    except Exception as error:
        raise InputError(
            f"the program {path} cannot be read: {in_one_line(error)}",
            hint="pass a file that torch.export.save or fxprune shrink wrote, with this version of"
            " torch",
        ) from error
    if extra[_NOTE]:
        note_of_text(program.graph_module, extra[_NOTE])
    return program
