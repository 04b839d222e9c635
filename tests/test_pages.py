"""The pages of the docs site: what they show is true, their links resolve, each is in the index."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from examples.concepts.pictures import PICTURES
from tests import pages
from tests.pages import CHECKOUT, DOCS, RUN, Shown

EVERY = sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md") if "_build" not in path.parts)
PUBLIC = sorted(
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
    for path in (CHECKOUT / "fxprune").rglob("*.py")
    if re.search(r"^__all__ = ", path.read_text(encoding="utf-8"), re.MULTILINE)
)
NEEDS = {
    "index": ("torchvision",),
    "quick_start": ("onnxscript", "onnxruntime", "onnx2torch", "safetensors"),
    "custom_passes": ("torchvision",),
    "from_torch_pruning": ("torch_pruning", "torchvision"),
    "command_line": ("torchvision",),
}
_TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_a_page_runs_and_shows_what_it_prints(name: str) -> None:
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    found = pages.shown(pages.page(name))
    assert found, "the page shows no output"
    assert [each for each in found if not each.is_true] == [], "python -m tests.pages --write"


def test_a_page_that_shows_something_else_is_found() -> None:
    page = "```python\nprint(1 + 1)\n```\n\n```text\n{}\n```\n"
    assert [each.is_true for each in pages.shown(page.format("2"))] == [True]
    assert [each.is_true for each in pages.shown(page.format("3"))] == [False]


def test_the_blocks_of_a_page_share_names_files_and_the_order() -> None:
    page = (
        "```python\n# net.py\nnumber = 2\n```\n```python\nimport net\nx = net.number\n```\n"
        "```python\nprint(x, 'a   b')\n```\n```text\n2 ...\n```\n"
        "```console\n$ pip install .\n$ fxprune --version\nfxprune, version ...\n```\n"
    )
    assert [each.is_true for each in pages.shown(page)] == [True, True]


def test_a_page_whose_code_fails_is_an_error() -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        pages.shown("```python\n1 / 0\n```\n")
    with pytest.raises(AssertionError, match="No such option"):
        pages.shown("```console\n$ fxprune plan --no-such-option\n```\n")


def test_dots_stand_for_anything_and_spaces_do_not_count() -> None:
    assert Shown(0, 0, "took ... s\n", "took  1.5 s\n").is_true
    assert not Shown(0, 0, "took ... s\n", "took 1.5 ms\n").is_true


def test_every_page_is_in_the_index() -> None:
    lines = "\n".join(_TOCTREE.findall(pages.page("index"))).splitlines()
    listed = [line for line in lines if line and not line.startswith(":")]
    names = [path.with_suffix("").as_posix() for path in EVERY if path != Path("index.md")]
    assert [name for name in names if name not in listed] == [], "add a line to docs/index.md"
    assert [name for name in listed if name not in names] == [], "docs/index.md lists no page"
    assert len(listed) == len(set(listed)), "docs/index.md lists a page twice"


@pytest.mark.parametrize("page", EVERY, ids=str)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = _CODE.sub("", (DOCS / page).read_text(encoding="utf-8"))
    local = [link for link in _LINK.findall(text) if not link.startswith("https://")]
    assert [link for link in local if not _resolves(page, link)] == []


def _resolves(page: Path, link: str) -> bool:
    """Whether the file of a link is there, and has the heading that it names."""
    file, _, heading = link.partition("#")
    target = (DOCS / page.parent / file).resolve() if file else DOCS / page
    if not target.exists() or not target.is_relative_to(CHECKOUT):
        return False
    return not heading or heading in _anchors(target.read_text(encoding="utf-8"))


def _anchors(text: str) -> set[str]:
    """The names that GitHub and the site give to headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def _documented() -> list[str]:
    """What the pages of docs/api take docstrings of."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((DOCS / "api").glob("*.md"))]
    return re.findall(r"^\.\. auto\w+:: ([\w.]+)$", "\n".join(texts), re.MULTILINE)


def _named(name: str) -> object:
    """What a dotted name means."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_documented(module: str) -> None:
    if module in {"fxprune.onnx", "fxprune.lightning"}:
        for package in ("onnxscript", "onnx2torch") if "onnx" in module else ("lightning",):
            pytest.importorskip(package)
    public = importlib.import_module(module)
    names = [n for n in public.__all__ if not isinstance(getattr(public, n), ModuleType)]
    missing = {name for name in names if f"{module}.{name}" not in _documented()}
    # An object that another name documents has an identity; a value such as a tuple has none.
    elsewhere = {
        id(_named(name))
        for name in _documented()
        if not name.startswith(("fxprune.onnx", "fxprune.lightning"))
    }
    missing -= {
        n for n in missing if _is_code(getattr(public, n)) and id(getattr(public, n)) in elsewhere
    }
    assert missing == set(), "add a directive to a page of docs/api"


def _is_code(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def test_no_object_is_documented_twice() -> None:
    assert len(_documented()) == len(set(_documented()))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_the_concepts_is_what_the_analysis_says(name: str) -> None:
    path = DOCS / "images" / "concepts" / f"{name}.svg"
    assert path.read_text(encoding="utf-8") == PICTURES[name](), "python -m examples.concepts"


def built(source: Path, folder: Path) -> None:
    """Build a site; a warning is an error."""
    options = ("--fail-on-warning", "--keep-going", "--nitpicky", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(source), str(folder)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_docstring_may_name_a_page_before_anything_else(tmp_path: Path) -> None:
    for package in ("sphinx", "myst_parser", "sphinx_click"):
        pytest.importorskip(package)
    lines = (
        f"import sys; sys.path.insert(0, {str(DOCS / '_extensions')!r})",
        "extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx_click', 'api_names']",
        "default_role = 'code_or_name'",
    )
    (tmp_path / "conf.py").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "index.rst").write_text("Index\n=====\n\nSee `docs/plans.md`.\n", encoding="utf-8")
    (tmp_path / "plans.md").write_text("---\norphan: true\n---\n# Plans\n", encoding="utf-8")
    built(tmp_path, tmp_path / "site")
    assert 'href="plans.html"' in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning is an error."""
    for package in ("sphinx", "furo", "myst_parser", "sphinx_click", "lightning", "onnx2torch"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    built(DOCS, folder)
    return folder


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(site: Path) -> None:
    missing = [page for page in EVERY if not (site / page).with_suffix(".html").exists()]
    assert missing == []
    texts = [path.read_text(encoding="utf-8") for path in site.rglob("*.html")]
    texts += [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    loads = re.compile(
        r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["'](?:https?:)?//"""
        r"""|@import|url\(["']?http"""
    )
    assert [found[0] for text in texts if (found := loads.search(text))] == []


@pytest.mark.slow
@pytest.mark.xdist_group("site")
@pytest.mark.parametrize(
    ("page", "what"),
    [
        ("api/shrinking", 'href="plans.html#fxprune.Plan"'),  # of a signature that says `Plan`
        ("api/shrinking", 'href="../correctness.html"'),  # of `docs/correctness.md`
        ("api/analysis", "How the graph was made: "),  # which napoleon takes for a type
        ("api/importance", "|w|"),  # which reStructuredText takes for a substitution
        ("command_line", ">--int8</span>"),  # which would be one dash
        ("changelog", 'href="checkpoints.html"'),  # of `docs/checkpoints.md`
        ("custom_rules", "custom_operator.py"),  # a file of the repository, to download
    ],
)
def test_the_site_shows_what_the_sources_mean(site: Path, page: str, what: str) -> None:
    assert what in (site / f"{page}.html").read_text(encoding="utf-8")
