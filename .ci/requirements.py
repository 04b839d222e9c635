"""Print what `pyproject.toml` requires for development, one requirement a line.

With `--lowest`: the lowest allowed version of every run-time dependency, and no model libraries,
for the one supported release of torchvision needs a newer torch, and timm needs torchvision.
"""

import re
import sys
import tomllib
from pathlib import Path

LOWER_BOUND = re.compile(r"(?P<name>[\w-]+)>=(?P<version>[\d.]+)(,<[\d.]+)?")


def lowest(requirement: str) -> str:
    """Turn `name>=1.2,<2` into `name==1.2`."""
    match = LOWER_BOUND.fullmatch(requirement)
    if match is None:
        raise SystemExit(f"{requirement!r}: a run-time dependency must read 'name>=version'")
    return f"{match['name']}=={match['version']}"


def main(arguments: list[str]) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    runtime = project["dependencies"]
    extras = project["optional-dependencies"]
    libraries = ("sweep", "training", "onnx", "lightning", "pt2e")
    chosen = ("dev", *libraries, "mutation", "examples", "notebook", "docs", "scores")
    development = [line for extra in chosen for line in extras[extra]]
    if "--lowest" in arguments:
        runtime = [lowest(requirement) for requirement in runtime]
        development = [line for line in extras["dev"] if not line.startswith("torchvision")]
    print(*dict.fromkeys([*runtime, *development]), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
