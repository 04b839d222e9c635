"""Mutants of source files: the operators of Cosmic Ray, and a sample of what they can do."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[1]
PACKAGES = ("labels", "rules", "passes")
TOOL = f"Cosmic Ray {version('cosmic_ray')}"
# These take arguments (names of variables), which only a person can choose.
_LEFT_OUT = ("VariableReplacer", "VariableInserter")


@dataclass(frozen=True)
class Mutant:
    """One change to one file.

    Attributes:
        file: path below the root of the checkout.
        operator: the operator's name, as Cosmic Ray has it.
        occurrence: which of the operator's places in the file.
        line: the line that changes.
        old: that line.
        new: what becomes of it.
    """

    file: str
    operator: str
    occurrence: int
    line: int
    old: str
    new: str

    @property
    def package(self) -> str:
        """The package of fxprune that the file is in."""
        return self.file.split("/")[1]

    @property
    def text(self) -> str:
        """The mutated source."""
        mutated = _mutated(self.file, self.operator, self.occurrence)
        assert mutated is not None
        return mutated

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.old} -> {self.new}"


@dataclass(frozen=True)
class _Site:
    """A place in a file that operators of one family can change, each in its way."""

    file: str
    place: tuple[tuple[int, int], tuple[int, int]]
    family: str
    choices: tuple[tuple[str, int], ...]


def sample(packages: Iterable[str], size: int, seed: int) -> list[Mutant]:
    """Random mutants: as many places of each package as its share, and one change at each.

    A place counts once, however many operators there are for it: `a + b` has eleven. A change that
    the compiled program does not show (of an annotation, of a docstring) is none.
    """
    generator = random.Random(seed)
    sites = [site for package in packages for site in _sites(package)]
    generator.shuffle(sites)
    found: list[Mutant] = []
    for site in sites:
        if len(found) == size:
            break
        mutant = _mutant(site.file, *generator.choice(site.choices))
        if mutant is not None:
            found.append(mutant)
    return sorted(found, key=lambda m: (m.file, m.line, m.operator))


@cache
def _operators() -> dict[str, Any]:
    names = sorted(plugins.operator_names())
    chosen = (name for name in names if not name.endswith(_LEFT_OUT))
    return {name: plugins.get_operator(name)() for name in chosen}


def _sites(package: str) -> Sequence[_Site]:
    files = sorted((ROOT / "fxprune" / package).glob("*.py"))
    return [site for file in files for site in _sites_of(str(file.relative_to(ROOT)))]


def _sites_of(file: str) -> Iterator[_Site]:
    """The sites of a file, in order."""
    choices: dict[Any, list[tuple[str, int]]] = {}
    nodes = list(ast_nodes(get_ast(_source(file))))
    for name, operator in _operators().items():
        family = name.split("/")[1].split("_")[0]
        occurrence = 0
        for node in nodes:
            for place in operator.mutation_positions(node):
                choices.setdefault((place, family), []).append((name, occurrence))
                occurrence += 1
    for (place, family), found in sorted(choices.items()):
        yield _Site(file, place, family, tuple(found))


@cache
def _source(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def _mutated(file: str, operator: str, occurrence: int) -> str | None:
    mutated: str | None = mutate_code(_source(file), _operators()[operator], occurrence)
    return mutated


def _mutant(file: str, operator: str, occurrence: int) -> Mutant | None:
    """The mutant, or None if it is none: it does not compile, or compiles to the same."""
    before, after = _source(file), _mutated(file, operator, occurrence)
    try:
        if after is None or _meaning(before) == _meaning(after):
            return None
    except SyntaxError:
        return None
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    line, (old, new) = next((k, pair) for k, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    return Mutant(file, operator, occurrence, line, old.strip(), new.strip())


def _meaning(source: str) -> str:
    """The program as text, without what does nothing when it runs."""
    return ast.dump(_Stripped().visit(ast.parse(source)))


class _Stripped(ast.NodeTransformer):
    """Takes away annotations, docstrings and imports for type checkers."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function without the annotation of what it returns."""
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """A parameter without its annotation."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """A variable without its annotation."""
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """No docstrings."""
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """No `if TYPE_CHECKING`."""
        is_for_types = "TYPE_CHECKING" in ast.dump(node.test)
        return None if is_for_types else self.generic_visit(node)
