"""Models, example inputs and weights by name, as the command line takes them."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from fxprune.errors import FxPruneError, InputError, in_one_line, shown
from fxprune.exporting import program_inputs, program_module
from fxprune.inputs import InputSpec, materialize
from fxprune.model_files import PROGRAM, load_program
from fxprune.model_libraries import LibraryModel
from fxprune.state_files import read_state
from fxprune.suggestions import nearest

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    )
}


@dataclass(frozen=True)
class ModelName:
    """A model by name: `package.module:callable`.

    Attributes:
        module: the Python module, which is imported.
        attribute: a callable without arguments in it that returns the model, or the model itself.
    """

    module: str
    attribute: str

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """The name in a text.

        Raises:
            InputError: the text is not of that form.

        >>> ModelName.parse("torchvision.models:resnet18")
        ModelName(module='torchvision.models', attribute='resnet18')
        """
        match = re.fullmatch(r"(\w+(?:\.\w+)*):(\w+(?:\.\w+)*)", text)
        if match is None or match[1].endswith(".py"):
            raise InputError(
                f"{text!r} is not of the form package.module:callable",
                hint="torchvision.models:resnet18 calls resnet18() of the module"
                " torchvision.models; a file net.py is the module net",
            )
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from and how it is set up.

    Attributes:
        name: the model, or the path of an ONNX file or of an exported program.
        app_dir: the folder that comes first when the model's Python module is looked for.
        seed: seed of torch's random numbers before the model is built.
        state: a file with the model's state dict, or None to keep the weights it is built with.
        train: keep the train / eval flags that the model is built with, instead of eval mode.
        inputs: descriptions of the example inputs, one for each argument; empty if not given.
        trust: whether files that can run any code may be read.
    """

    name: ModelName | LibraryModel | Path
    app_dir: Path = Path()
    seed: int = 0
    state: Path | None = None
    train: bool = False
    inputs: tuple[InputSpec, ...] = ()
    trust: bool = False

    @property
    def is_program(self) -> bool:
        """Whether the model is an exported program in a file."""
        return isinstance(self.name, Path) and self.name.suffix == PROGRAM

    def model(self) -> nn.Module | ExportedProgram:
        """Build the model, or read the program.

        Raises:
            InputError: it cannot be found, imported or built, is not a module, or the state dict
                does not fit.
        """
        if isinstance(self.name, Path):
            return self._program(self.name) if self.is_program else self._read(self.name)
        return self._built(self._find())

    def _built(self, found: Any) -> nn.Module:
        """The model that was found, or that a callable returns."""
        torch.manual_seed(self.seed)
        built = not isinstance(found, nn.Module) and callable(found)
        with self._user_code(f"calling {self.name}"):
            model = found() if built else found
        if not isinstance(model, nn.Module):
            what = "returned" if built else "is"
            raise InputError(
                f"{self.name} {what} an object of type {type(model).__name__}",
                why="a torch.nn.Module is needed",
                hint="name a callable without arguments that returns the model, or the model",
            )
        if self.state is not None:
            _load_state(model, self.state)
        return model if self.train else model.eval()

    def empty(self) -> nn.Module:
        """The model without data: built on the meta device, where it takes no memory.

        Raises:
            InputError: it is in a file with its weights; or see `model`.
        """
        if isinstance(self.name, Path) or self.state is not None:
            raise InputError(
                f"{self.state or self.name} has weights, and the model is to be built without",
                hint="name what builds the model: package.module:callable, or hf:PATH of a"
                " config.json",
            )
        found = self._find()  # what is imported is not on meta
        creating: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if isinstance(self.name, LibraryModel):
            creating = self.name.without_data()
        with torch.device("meta"), creating:
            return self._built(found)

    def module(self) -> nn.Module:
        """The model as a module; of a program its graph.

        Raises:
            InputError: see `model`.
        """
        model = self.model()
        return program_module(model) if isinstance(model, ExportedProgram) else model

    def function(self, name: ModelName) -> Callable[..., Any]:
        """A function by name, found as the model is.

        Raises:
            InputError: it cannot be found or imported, or cannot be called.
        """
        found = replace(self, name=name)._find()
        if not callable(found):
            raise InputError(
                f"{name} is an object of type {type(found).__name__}",
                hint="name a function, or another object that can be called",
            )
        return found  # type: ignore[no-any-return]  # a callable Any

    def example_inputs(self) -> Any:
        """Inputs as described, else those that `example_inputs()` beside the model makes, or None.

        Raises:
            InputError: `example_inputs()` fails.
        """
        if self.inputs:
            return materialize(self.inputs, seed=0)
        if isinstance(self.name, Path):
            if self.is_program:
                return program_inputs(self._program(self.name), None)
            return _onnx().declared_inputs(self.name)
        if isinstance(self.name, LibraryModel):
            with self._user_code(f"asking for the inputs of {self.name}"):
                return self.name.example_inputs()
        offered = getattr(self._import(), "example_inputs", None)
        torch.manual_seed(self.seed)
        with self._user_code(f"calling {self.name.module}:example_inputs"):
            return offered() if callable(offered) else offered

    def required_inputs(self) -> Any:
        """As `example_inputs`, but there must be some.

        Raises:
            InputError: there are none.
        """
        inputs = self.example_inputs()
        if inputs is None:
            if isinstance(self.name, LibraryModel):
                why = "its library does not tell which it is made for"
            elif isinstance(self.name, Path):
                why = "the file does not tell them"
            else:
                why = f"{self.name.module} has no example_inputs() beside it"
            raise InputError(
                f"there are no example inputs for {self.name}",
                why=why,
                hint="pass --input 1x3x224x224, once for each argument of the model",
            )
        return inputs

    def _program(self, path: Path) -> ExportedProgram:
        """The program in the file."""
        if not self.trust:
            raise InputError(
                f"reading the program {self.name} can run any code in it",
                hint="pass --trust if you made it, or trust whom you have it from",
            )
        if self.state is not None or self.train:
            raise InputError(
                "--state and --train are for models that are built",
                why=f"{self.name} has its weights, and the mode that it was exported in",
            )
        return load_program(path)

    def _read(self, path: Path) -> nn.Module:
        """The network of an ONNX file; `state` and `train` are as for others."""
        model: nn.Module = _onnx().load(path, self.example_inputs())
        if self.state is not None:
            _load_state(model, self.state)
        return model.train() if self.train else model

    def _find(self) -> Any:
        if isinstance(self.name, LibraryModel):
            return self.name.build
        value: Any = self._import()
        assert isinstance(self.name, ModelName)
        for part in self.name.attribute.split("."):
            if not hasattr(value, part):
                public = [name for name in dir(value) if not name.startswith("_")]
                owner = getattr(value, "__name__", type(value).__name__)
                raise InputError(f"{owner} has no attribute {part!r}", hint=nearest(part, public))
            value = getattr(value, part)
        return value

    def _import(self) -> ModuleType:
        folder = str(self.app_dir.resolve())
        if sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
        assert isinstance(self.name, ModelName)
        name = self.name.module
        torch.manual_seed(self.seed)
        with self._user_code(f"importing {name}"):
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                missing = error.name or ""
                if not missing or not f"{name}.".startswith(f"{missing}."):
                    raise  # The module is there, but it imports another one that is not.
                hint = nearest(missing, _modules_beside(missing))
                raise InputError(f"there is no Python module {missing}", hint=hint) from error

    @contextmanager
    def _user_code(self, what: str) -> Iterator[None]:
        """Turn whatever the user's code raises into an error that tells the line."""
        try:
            yield
        except FxPruneError:
            raise
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if Path(f.filename).is_relative_to(self.app_dir.resolve())]
            where = f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
            raise InputError(f"{what} failed: {in_one_line(error)}", where=where) from error


def parse_model(text: str) -> ModelName | LibraryModel | Path:
    """The name of a model, or the path of an ONNX file or of an exported program, in a text.

    Raises:
        InputError: the text has none of the forms of one, or there is no such file.
    """
    if not text.endswith((".onnx", PROGRAM)):
        return LibraryModel.parse(text) or ModelName.parse(text)
    if not Path(text).is_file():
        raise InputError(f"there is no file {text}")
    return Path(text)


def _onnx() -> Any:
    """`fxprune.onnx.loading`, which needs packages that may be missing."""
    return importlib.import_module("fxprune.onnx.loading")


def parse_input(text: str) -> InputSpec:
    """The description of an example input in a text: SHAPE[:DTYPE[:HIGH]].

    Floating-point values are normally distributed; integers are 0, or random below HIGH.

    Raises:
        InputError: the text is not of that form.

    >>> parse_input("2x16:int64:1000")
    InputSpec(shape=(2, 16), dtype='int64', low=0, high=1000)
    """
    number = r"[1-9]\d{0,17}"
    match = re.fullmatch(rf"({number}(?:x{number})*)(?::(\w+)(?::({number}))?)?", text, re.ASCII)
    if match is None:
        raise InputError(
            f"{shown(text)} does not describe an input", hint="write 1x3x224x224 or 2x16:int64:1000"
        )
    name, high = match[2] or "float32", int(match[3] or 1)
    if name not in _DTYPES:
        raise InputError(f"{text!r} has no known dtype", hint=nearest(name, _DTYPES))
    dtype = _DTYPES[name]
    if dtype.is_floating_point or dtype.is_complex:
        largest = 1
    else:
        largest = 2 if dtype == torch.bool else torch.iinfo(dtype).max
    if high > largest:
        raise InputError(
            f"the bound {high} in {text!r} is too large for {name}",
            why="SHAPE:DTYPE:HIGH makes random integers below HIGH",
        )
    return InputSpec(tuple(int(size) for size in match[1].split("x")), name, 0, high)


def _load_state(model: nn.Module, path: Path) -> None:
    state = read_state(path)
    try:
        model.load_state_dict(_with_tied(model, state))
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(
            f"the weights {path} do not fit {type(model).__name__}",
            why=textwrap.shorten(text, 800, placeholder=" ..."),
            hint="pass a file with the state dict of exactly this model",
        ) from error


def _with_tied(model: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """A state dict with all names of tied tensors, of which files of safetensors hold one."""
    own = model.state_dict(keep_vars=True)
    held = {id(tensor): name for name, tensor in own.items() if name in state}
    tied = {n: held[id(t)] for n, t in own.items() if n not in state and id(t) in held}
    return {**state, **{name: state[other] for name, other in tied.items()}}


def _modules_beside(name: str) -> Sequence[str]:
    """The modules in the package of a dotted name, or all that can be imported."""
    package = name.rpartition(".")[0]
    folders = getattr(sys.modules[package], "__path__", []) if package else None
    prefix = f"{package}." if package else ""
    return [module.name for module in pkgutil.iter_modules(folders, prefix)]
