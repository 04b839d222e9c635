"""Models of libraries by name, with random weights: nothing is ever downloaded."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fxprune.errors import InputError, in_one_line
from fxprune.files import regular_file
from fxprune.inputs import InputSpec, materialize
from fxprune.suggestions import nearest

PREFIXES = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers"}
"""What stands before the colon, and the package that is needed."""


@dataclass(frozen=True)
class LibraryModel:
    """A model of a library: `torchvision:NAME`, `timm:NAME` or `hf:CONFIG_JSON`.

    Attributes:
        prefix: which library.
        name: of the model there; for "hf" the path of a configuration, or of a folder with one.
    """

    prefix: str
    name: str

    @classmethod
    def parse(cls, text: str) -> LibraryModel | None:
        """The model in a text; None if the text does not begin with the name of a library.

        >>> LibraryModel.parse("timm:resnet18")
        LibraryModel(prefix='timm', name='resnet18')
        """
        prefix, colon, name = text.partition(":")
        return cls(prefix, name) if colon and name and prefix in PREFIXES else None

    def __str__(self) -> str:
        return f"{self.prefix}:{self.name}"

    def build(self) -> nn.Module:
        """The model.

        Raises:
            InputError: there is none of that name, or its library is not installed.
        """
        model: nn.Module = {"torchvision": _torchvision, "timm": _timm, "hf": _transformers}[
            self.prefix
        ](self.name)
        return model

    def without_data(self) -> AbstractContextManager[Any]:
        """What has to be on while the model is built on the meta device."""
        if self.prefix != "hf":
            return nullcontext()
        _library("hf")
        module = importlib.import_module("transformers.initialization")
        found: AbstractContextManager[Any] = module.meta_device_safe_creation_ops()
        return found

    def example_inputs(self) -> Any:
        """Random inputs of the size that the model is made for; None if it does not tell any.

        Raises:
            InputError: there is no such model, or its library is not installed.
        """
        if self.prefix == "hf":
            return _inputs_of_transformers(self.name)
        shape = (_shape_of_torchvision if self.prefix == "torchvision" else _shape_of_timm)(
            self.name
        )
        return materialize([InputSpec(shape, "float32")], seed=0) if shape else None


def names(prefix: str) -> list[str]:
    """The names of the models of torchvision or timm.

    Raises:
        InputError: the library is not installed.
    """
    library = _library(prefix)
    found: list[str] = (library.models if prefix == "torchvision" else library).list_models()
    return found


def _library(prefix: str) -> Any:
    """A package that may be missing.

    Raises:
        InputError: it is.
    """
    package = PREFIXES[prefix]
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # It is there, but it imports another one that is not.
        raise InputError(
            f"models of {prefix}: need the package {package}", hint=f"pip install {package}"
        ) from error


def _check_known(prefix: str, name: str) -> None:
    """Refuse other names: timm would take some of them for what is to be downloaded.

    Raises:
        InputError: there is no such model.
    """
    known = names(prefix)
    if name not in known:
        raise InputError(f"{PREFIXES[prefix]} has no model {name!r}", hint=nearest(name, known))


def _torchvision(name: str) -> nn.Module:
    _check_known("torchvision", name)
    models = _library("torchvision").models
    takes = inspect.signature(models.get_model_builder(name)).parameters
    none = {option: None for option in ("weights", "weights_backbone") if option in takes}
    model: nn.Module = models.get_model(name, **none)
    return model


def _shape_of_torchvision(name: str) -> tuple[int, ...] | None:
    """The size of images that weights of a classifier were made for, the smallest of several."""
    _check_known("torchvision", name)
    found = [
        getattr(weights.transforms, "keywords", {}).get("crop_size")
        for weights in _library("torchvision").models.get_model_weights(name)
    ]
    sizes = [size for size in found if isinstance(size, int)]
    return (1, 3, min(sizes), min(sizes)) if sizes else None


def _timm(name: str) -> nn.Module:
    _check_known("timm", name.partition(".")[0])  # what follows the point names weights
    model: nn.Module = _library("timm").create_model(name, pretrained=False)
    return model


def _shape_of_timm(name: str) -> tuple[int, ...] | None:
    """The size of images that the configuration of the weights tells."""
    _check_known("timm", name.partition(".")[0])
    config = _library("timm").get_pretrained_cfg(name)
    return (1, *config.input_size) if config is not None else None


def _transformers(name: str) -> nn.Module:
    kind, config = _class_and_config(name)
    model: nn.Module = kind._from_config(config)
    return model


def _class_and_config(name: str) -> tuple[Any, Any]:
    """The class of a model and its configuration.

    Raises:
        InputError: the file is none of a configuration, or transformers does not know it.
    """
    library = _library("hf")
    path = Path(name) / "config.json" if Path(name).is_dir() else Path(name)
    try:
        regular_file(path)
        data = json.loads(path.read_text(encoding="utf-8"))
        kind = data.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"the configuration {path} cannot be read: {in_one_line(error)}",
            hint="pass a config.json of transformers, or the folder that has it",
        ) from error
    known = library.CONFIG_MAPPING
    if kind not in known:
        raise InputError(
            f"transformers has no models of the type {kind!r}",
            where=str(path),
            hint=nearest(str(kind), known),
        )
    config = known[kind].from_dict(data)
    return _class_of(library, config, path), config


def _class_of(library: Any, config: Any, path: Path) -> Any:
    """The class that a configuration names, or that without a head of its type."""
    if not config.architectures:
        return library.AutoModel._model_mapping[type(config)]
    name = config.architectures[0]
    kind = getattr(library, name, None)
    if not (isinstance(kind, type) and issubclass(kind, library.PreTrainedModel)):
        models = [each for each in dir(library) if re.search(r"Model$|For[A-Z]", each)]
        raise InputError(
            f"transformers has no model {name!r}", where=str(path), hint=nearest(name, models)
        )
    return kind


def _inputs_of_transformers(name: str) -> dict[str, Any] | None:
    """Tokens or images, as the configuration tells; the cache of a decoder is left out."""
    kind, config = _class_and_config(name)
    takes = inspect.signature(kind.forward).parameters
    text = getattr(config, "vocab_size", None)
    size = getattr(config, "image_size", None)
    if kind.main_input_name == "input_ids" and isinstance(text, int):
        specs = {"input_ids": InputSpec((1, 16), "int64", min(10, text - 1), text)}
        if config.is_encoder_decoder:
            specs["decoder_input_ids"] = InputSpec((1, 8), "int64", min(10, text - 1), text)
    elif kind.main_input_name == "pixel_values" and size is not None:
        sides = (size, size) if isinstance(size, int) else tuple(size)
        channels = getattr(config, "num_channels", 3)
        specs = {"pixel_values": InputSpec((1, channels, *sides), "float32")}
    else:
        return None
    inputs = dict(zip(specs, materialize(list(specs.values()), seed=0), strict=True))
    return {**inputs, "use_cache": False} if "use_cache" in takes else inputs
