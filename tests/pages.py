"""Pages of docs/ whose code runs, block by block, and shows what it prints.

A block `python` is run, or written to a file if its first line is `# NAME.py`. A block `console`
has commands of fxprune, which are run, and others (`pip`), which are not. A block `text` after one
shows what that printed; `...` stands for anything. `python -m tests.pages --write` writes what is
printed now.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
RUN = (
    *("index", "quick_start", "concepts", "custom_passes"),
    *("from_torch_pruning", "from_nni", "command_line"),
)
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\w+\.py)\n")


@dataclass(frozen=True)
class Shown:
    """What a page shows of an output, and where; and what was printed."""

    start: int
    end: int
    text: str
    printed: str

    @property
    def is_true(self) -> bool:
        """Whether the page shows what was printed; the number of spaces does not count."""
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        return doctest.OutputChecker().check_output(self.text, self.printed, flags)


def page(name: str) -> str:
    """The text of a page."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def shown(text: str) -> list[Shown]:
    """Run a page in a process of its own, in an empty folder, with warnings as errors."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.pages", "--run"],
            cwd=folder,
            env={**os.environ, **environment},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise AssertionError(done.stderr)
    return [Shown(*each) for each in json.loads(done.stdout)]


def _run(text: str) -> list[tuple[int, int, str, str]]:
    """Run all blocks of a page in their order: where an output is shown, as what, what it is."""
    sys.path.insert(0, str(Path.cwd()))
    module = sys.modules["page"] = ModuleType("page")  # dataclasses look their module up
    printed, found = "", []
    for block in _FENCE.finditer(text):
        language, code = block[1], block[2]
        if language == "python" and (file := _FILE.match(code)):
            Path(file[1]).write_text(code, encoding="utf-8")
        elif language == "python":
            printed = _executed(code, vars(module))
        elif language == "console":
            found += _called(code, block.start(2))
        elif language == "text":
            found.append((block.start(2), block.end(2), code, printed))
    return found


def _executed(code: str, namespace: dict[str, object]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, namespace)  # the pages of this repository
    return out.getvalue()


def _called(code: str, start: int) -> list[tuple[int, int, str, str]]:
    """Run the commands of fxprune in a block: what is shown below each, and what it printed."""
    from click.testing import CliRunner  # noqa: PLC0415 - in the process of the page alone

    from fxprune.cli import main  # noqa: PLC0415

    found = []
    for part in re.finditer(r"^\$ (.*(?:\\\n.*)*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE):
        program, *arguments = shlex.split(part[1], comments=True)
        if program == "fxprune":
            done = CliRunner().invoke(main, arguments, catch_exceptions=False, prog_name="fxprune")
            if done.exit_code:
                raise AssertionError(f"{part[1]}: {done.output}")
            found.append((start + part.start(2), start + part.end(2), part[2], done.stdout))
    return found


def write(name: str) -> None:
    """Write what a page prints now where it shows something else; what has `...` stays."""
    text = page(name)
    for each in reversed(shown(text)):
        if not each.is_true and "..." not in each.text:
            text = text[: each.start] + each.printed.rstrip() + "\n" + text[each.end :]
        elif not each.is_true:
            print(f"{name}: mend by hand:\n{each.text}\nit printed\n{each.printed}")
    (DOCS / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if "--run" in sys.argv:
        print(json.dumps(_run(sys.stdin.read())))
    elif "--write" in sys.argv:
        for each in sys.argv[2:] or RUN:
            write(each)
