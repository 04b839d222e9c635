"""Docstrings of fxprune for Sphinx: their code, and the names in them and in signatures.

Docstrings write code in single backticks, as Markdown does: a name that is documented becomes a
link, all else is code. Signatures name types as their modules do (`Plan`, `fx.GraphModule`).
"""

from __future__ import annotations

import builtins
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.roles import XRefRole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

# What is in these is documented elsewhere.
_FOREIGN = {*sys.stdlib_module_names, *dir(builtins), "torch", "fx", "nn", "numpy", "np"}
_FOREIGN |= {"networkx", "nx", "rich", "lightning"}

_COLON = "\N{RATIO}"
_DEFAULT = re.compile(r"<(?:function (\w+)[^>]*|factory)>")
_PAGE = re.compile(r"docs/(\w+)\.md")
_EXAMPLE = re.compile(r"(\|\s+)(fxprune .*)")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*)")
_BARS = re.compile(r"\|([^|`]+)\|")  # |w| is no substitution


def setup(app: Sphinx) -> Mapping[str, Any]:
    """Register the role `code_or_name` and what completes docstrings and links."""
    app.add_config_value("types_elsewhere", frozenset(), "env", types=(frozenset,))
    app.add_role("code_or_name", CodeOrName(innernodeclass=nodes.literal))
    # Napoleon reads docstrings at priority 500.
    app.connect("autodoc-process-docstring", mend, priority=400)
    app.connect("autodoc-process-docstring", finish, priority=600)
    app.connect("autodoc-process-signature", name_functions)
    app.connect("missing-reference", resolve)
    for part in ("description", "epilog", "options", "arguments"):
        app.connect(f"sphinx-click-process-{part}", as_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class CodeOrName(XRefRole):
    """`Plan` and `deps.why` may be links, `ratio` may not: arguments have names of functions.

    `docs/plans.md` is a link to the page.
    """

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """A link to a page, a reference that may dangle, or a literal."""
        if page := _PAGE.fullmatch(self.text):
            self.target = f"/{page[1]}"
            return self._reference("std", "doc")
        is_name = self.text.replace(".", "").replace("_", "").isalnum()
        if not is_name or not ("." in self.text or self.text[0].isupper()):
            return [nodes.literal(self.rawtext, self.text)], []
        return self._reference("py", "obj")

    def _reference(
        self, domain: str, kind: str
    ) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        self.refdomain, self.reftype = domain, kind
        self.classes = ["xref", domain, f"{domain}-{kind}"]
        return self.create_xref_node()

    def process_link(
        self, env: BuildEnvironment, refnode: Element, has_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Note the module and class that the name stands in."""
        refnode["py:module"] = env.ref_context.get("py:module")
        refnode["py:class"] = env.ref_context.get("py:class")
        refnode["may_dangle"] = self.refdomain == "py"
        return title, target


def mend(app: Sphinx, what: str, name: str, obj: object, *options_and_lines: Any) -> None:
    """Make of a docstring what napoleon and reStructuredText take for the same."""
    lines: list[str] = options_and_lines[1]
    if what == "data" and "\n".join(lines).strip() == inspect.getdoc(obj):
        lines.clear()  # it is that of the type
    if what in {"property", "attribute", "data"} and lines:
        lines[0] = lines[0].replace(":", _COLON)  # else napoleon takes what is before for a type
    for k, (line, blank, code) in enumerate(zip(lines, lines[1:], lines[2:], strict=False)):
        indent = len(line) - len(line.lstrip())
        if line.endswith(":") and not blank.strip() and code.startswith(" " * (indent + 4)):
            lines[k] = f"{line}:"
    lines[:] = [_BARS.sub(r"\|\1\|", line) for line in lines]


def finish(app: Sphinx, what: str, name: str, obj: object, *options_and_lines: Any) -> None:
    """Take back what `mend` hid from napoleon, and tell types of attributes beside their names."""
    lines: list[str] = options_and_lines[1]
    done: list[str] = []
    start = 0
    for line in (line.replace(_COLON, ":") for line in lines):
        if line.startswith(".. attribute::"):
            start = len(done) + 1
        if start and line.startswith("   :type: "):
            done.insert(start, line)
        else:
            done.append(line)
    lines[:] = done


def name_functions(
    app: Sphinx, what: str, name: str, obj: object, *options_and_texts: Any
) -> tuple[str | None, str | None] | None:
    """Tell a default that is a function by its name: else the signature is no Python to Sphinx."""
    signature, returned = options_and_texts[1:]
    if signature is None:
        return None
    return _DEFAULT.sub(lambda default: default[1] or "...", signature), returned


def as_code(app: Sphinx, context: object, lines: list[str]) -> None:
    """Make code of the examples and options in help texts; stars of patterns are stars."""
    lines[:] = [_with_code(line) for line in lines]


def _with_code(line: str) -> str:
    if example := _EXAMPLE.fullmatch(line):
        return f"{example[1]}``{example[2]}``"
    line = line.replace("*", "\\*")
    return line if line.startswith("..") or "`" in line else _OPTION.sub(r"``\1``", line)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element
) -> Element | None:
    """A link by the last part of a name, text for what is documented elsewhere, else None."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    last = target.rpartition(".")[2]
    domain = env.domains.python_domain
    known = [name for name in domain.objects if name.rpartition(".")[2] == last]
    # A class is documented by its public name and known by that of its module, too.
    documented = [name for name in known if not domain.objects[name].aliased]
    if len(documented) == 1 and target not in known and last[0].isupper():
        return domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", documented[0], node, content
        )
    root = re.split(r"[.\[]", target)[0]
    is_foreign = root in _FOREIGN or target in app.config.types_elsewhere
    return content if node.get("may_dangle") or is_foreign else None
