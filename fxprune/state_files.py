"""State dicts from files that may come from anyone.

Reading one runs no code of it (`torch.load(weights_only=True)`, or safetensors). But even so a
small file could ask for much memory: compressed parts, storages of a declared size, a `bytearray`
of any length. So a file of `torch.save` is surveyed first: its pickle is read with stubs for
everything that it names, and refused unless all that it asks for is in the file.
"""

from __future__ import annotations

import importlib
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from fxprune.errors import InputError, in_one_line, shown
from fxprune.files import regular_file

_ZIP = b"PK\x03\x04"
_REBUILD = frozenset({"_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"})
_SIZES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "UntypedStorage": 1,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}
"""Kinds of memory, and the bytes of an element of each."""
_LEGACY_PARTS = 5
"""Before its tensors, a file of torch before 1.6 has five pickles; the fourth is the object."""


class UnsafeFileError(Exception):
    """A file that asks for what no state dict needs."""


def read_state(path: Path) -> Any:
    """The object in a file of weights: of safetensors if so named, else of `torch.save`.

    Raises:
        InputError: it cannot be read, or reading it is not safe.
    """
    try:
        size = regular_file(path)
        if path.suffix == ".safetensors":
            return importlib.import_module("safetensors.torch").load_file(path)  # may be absent
        with path.open("rb") as stream:
            survey(stream, size)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise InputError(
            f"{path} needs safetensors, which is not installed",
            hint='pip install "fxprune[safetensors]"',
        ) from error
    except UnsafeFileError as error:
        raise InputError(
            f"the weights {path} cannot be read: {error}",
            why="a file from someone else must not run code or fill the memory",
            hint="pass a file that torch.save made of a state dict, or a .safetensors file",
        ) from error
    except Exception as error:
        raise InputError(f"the weights {path} cannot be read: {in_one_line(error)}") from error


def survey(stream: BinaryIO, size: int) -> None:
    """Read what a file of `torch.save` asks for, and do none of it.

    Raises:
        UnsafeFileError: it is compressed, names something else than tensors, or asks for more than
            its own `size` in bytes.
    """
    try:
        _survey(stream, size)
    except UnsafeFileError:
        raise
    except Exception as error:
        raise UnsafeFileError("it is no whole file of torch.save") from error


def _survey(stream: BinaryIO, size: int) -> None:
    is_zip = stream.read(len(_ZIP)) == _ZIP
    stream.seek(0)
    if not is_zip:
        reader = _Survey(stream, size)
        for _ in range(_LEGACY_PARTS):
            reader.load()
        return
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        roots = {name.partition("/")[0] for name in names}
        if len(set(names)) < len(names) or len(roots) != 1:
            raise UnsafeFileError("it has parts of the same name, or of several archives")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise UnsafeFileError("it is compressed")
        if sum(entry.file_size for entry in entries) > size:
            raise UnsafeFileError("its parts are larger than the file")
        with archive.open(f"{roots.pop()}/data.pkl") as part:
            _Survey(part, size).load()


class _Storage:
    """What a file says about the memory of a tensor."""

    def __init__(self, elements: int) -> None:
        self.elements = elements


class _Tensor:
    """Stands for a tensor."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None: ...


class _Rebuild:
    """Stands for the functions that make tensors and parameters."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None: ...

    def __call__(
        self, of: Any, offset: Any = 0, sizes: Any = (), strides: Any = (), *_: Any
    ) -> _Tensor:
        """Check that a tensor lies inside its memory: torch makes memory grow that is too small."""
        if isinstance(of, _Storage):
            if not all(isinstance(n, int) and n >= 0 for n in (offset, *sizes, *strides)):
                raise UnsafeFileError("a tensor has sizes that are none")
            last = sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
            if 0 not in sizes and offset + last >= of.elements:
                raise UnsafeFileError("a tensor is larger than its memory")
        elif not isinstance(of, _Tensor):  # a parameter is made of a tensor
            raise UnsafeFileError("a tensor is made of something else")
        return _Tensor()


_UNUSED = (
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX),
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.DICT),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)
"""What pickle can do, but `torch.save` does not do for state dicts."""


# The one in Python: that in C takes memory for as many objects as a file says it names.
_UNPICKLER: Any = pickle._Unpickler


class _Survey(_UNPICKLER):  # type: ignore[misc]  # its parts are not public
    """Reads a pickle with stubs, and adds up the memory that it asks for."""

    dispatch = {  # noqa: RUF012  # the name is that of the base class
        code: method for code, method in _UNPICKLER.dispatch.items() if bytes([code]) not in _UNUSED
    }

    def __init__(self, stream: Any, size: int) -> None:
        super().__init__(stream)
        self.room = size
        self.keys: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """A stub for one of the few names that the pickle of a state dict has."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in _REBUILD:
            return _Rebuild()
        kind = vars(torch).get(name) if module == "torch" else None
        if isinstance(kind, torch.dtype):
            return kind
        if module in ("torch", "torch.storage") and name in _SIZES:
            return name
        raise UnsafeFileError(f"it names {shown(f'{module}.{name}')}, which no state dict needs")

    def persistent_load(self, pid: Any) -> _Storage:
        """The memory of a tensor; its bytes have to be in the file."""
        kind, storage, key, _, elements, *_ = pid
        known = kind == "storage" and isinstance(key, str) and storage in _SIZES
        if not (known and isinstance(elements, int) and elements >= 0):
            raise UnsafeFileError("a tensor's memory is described wrongly")
        if key not in self.keys:
            self.keys.add(key)
            self.room -= elements * _SIZES[storage]
            if self.room < 0:
                raise UnsafeFileError("its tensors are larger than the file")
        return _Storage(elements)

    def load_setitem(self) -> None:
        """Put one entry into a dict."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Put all since the mark into a dict."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def _check_keys(keys: list[Any]) -> None:
    """Hashing a tuple of tuples of tuples ... takes all of the stack."""
    if not all(isinstance(key, (str, int)) for key in keys):
        raise UnsafeFileError("a dict has keys that are neither names nor numbers")
