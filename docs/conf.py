"""The docs site: `make docs`. Nothing is loaded from the network, neither to build nor to read."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

import fxprune  # noqa: E402 - of this checkout

project = "fxprune"
author = "the authors of fxprune"
version = release = fxprune.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "api_names",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True
default_role = "code_or_name"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Types that signatures name and these pages do not have: first those of others, then of the inside.
types_elsewhere = frozenset(
    (
        *("ExportedProgram", "Figure", "LightningModule", "NDArray", "OpOverload", "Optimizer"),
        *("OpOverloadPacket", "Path", "Tensor", "Trainer", "int64"),
        *("Captured", "Compiled", "Convert", "Donation", "Drop", "Kind", "Loss", "M", "Multiple"),
        *(
            "Numbers",
            "Occurrence",
            "Positions",
            "Producer",
            "Recipe",
            "Scope",
            "Trace",
            "TracedTensor",
        ),
        *("fxprune.inputs.InputSpec", "fxprune.loading.ModelSource", "fxprune.sparsifying.M"),
    )
)

smartquotes_action = "D"  # dashes, but no quotes: many are of code
maximum_signature_line_length = 88
html_theme = "furo"
html_title = f"fxprune {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
