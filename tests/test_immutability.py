"""What labels, rules and passes are made of is never changed once it is made."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import is_dataclass

import pytest

from fxprune import labels, passes, rules

MODULES = [
    f"{package.__name__}.{info.name}"
    for package in (labels, rules, passes)
    for info in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_every_dataclass_is_frozen(name: str) -> None:
    module = importlib.import_module(name)
    classes = [kind for kind in vars(module).values() if is_dataclass(kind)]
    own = [kind for kind in classes if kind.__module__ == name]
    assert [kind for kind in own if not kind.__dataclass_params__.frozen] == []
