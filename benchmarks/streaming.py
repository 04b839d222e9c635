"""How long checkpoints take that are larger than memory, and how much memory that needs.

    python -m benchmarks.streaming

Every measurement is a process of its own. A model of 8 billion parameters is analyzed and planned
without weights. A checkpoint of 2 GB with random weights is made, shrunk file by file, loaded by
`from_pretrained`, and compared with what `shrink` makes of the same weights in memory. The table is
written to docs/streaming.md. Needs transformers, and 4 GB on the disk for a while.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

import fxprune
from fxprune.shards import INDEX, SINGLE, Planned, write_in_parts

DOCS = Path(__file__).parents[1] / "docs" / "streaming.md"
TITLE = "## Measured"
BILLIONS = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}
GIGABYTES = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 32000,
}
SHARD = 500_000_000
"""About how many bytes of tensors are in a file of the checkpoint that is made."""
INPUTS = {"input_ids": torch.arange(3, 19).reshape(1, 16), "use_cache": False}


def empty(sizes: dict[str, int]) -> Any:
    """A Llama without weights, in bfloat16."""
    config = transformers.LlamaConfig(**sizes, dtype="bfloat16")
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def memory(what: str) -> int:
    """A line of the process's status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Seconds, and the peak of anonymous memory beyond what there was (a sample every 2 ms).

    Beside wall-clock time, that of all threads on a processor: it tells more on a busy machine.
    """
    found: dict[str, float] = {}
    done, peak, before = threading.Event(), [0], memory("RssAnon")

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, busy = time.perf_counter(), time.process_time()
    try:
        yield found
    finally:
        found["seconds"] = time.perf_counter() - start
        found["busy"] = time.process_time() - busy
        done.set()
        watcher.join()
        found["anonymous"] = max(peak[0] - before, 0)
        found["process"] = memory("VmHWM")


def meta(folder: Path) -> dict[str, Any]:
    """Analysis, plan and outcome of 8 billion parameters."""
    with measured() as total:
        with measured() as building:
            model = empty(BILLIONS)
        with measured() as analysis:
            deps = fxprune.analyze(model, INPUTS)
        with measured() as planning:
            # Llama wants the hidden width to be a multiple of its heads.
            stay = {group.name: 0.0 for group in deps.groups if group.name.endswith("[heads]#1")}
            options = {"criterion": "random", "uniform": True, "ratios": stay}
            plan = fxprune.plan(deps, ratio=0.25, **options)
        with measured() as shrinking:
            small: Any = fxprune.shrink(deps, plan, emit="module", verify=False)
    report = small.meta["fxprune"]
    return {
        "building": building,
        "analysis": analysis,
        "plan": planning,
        "smaller model without data": shrinking,
        "all": total,
        "before": report.before.parameters,
        "after": report.after.parameters,
        "config": not report.unsavable,
    }


def make(folder: Path) -> dict[str, Any]:
    """Write the checkpoint, one tensor in memory at a time."""
    model = empty(GIGABYTES)
    source = folder / "source"
    source.mkdir()
    (source / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")
    files: list[list[Planned]] = [[]]
    for name, tensor in model.state_dict().items():
        if sum(each.size for each in files[-1]) > SHARD:
            files.append([])
        files[-1].append(Planned(name, "BF16", tuple(tensor.shape), 2))
    where = {}
    generator = torch.Generator().manual_seed(0)
    shapes = {each.name: each.shape for file in files for each in file}

    def values(name: str) -> list[torch.Tensor]:
        scale = 1.0 if len(shapes[name]) == 1 else 0.02
        made = torch.randn(shapes[name], generator=generator) * scale
        return [(made.abs() if scale == 1.0 else made).to(torch.bfloat16)]

    for number, tensors in enumerate(files, 1):
        file = f"model-{number:05}-of-{len(files):05}.safetensors"
        with (source / file).open("wb") as stream:
            write_in_parts(stream, tensors, {"format": "pt"}, values)
        where |= {each.name: file for each in tensors}
    size = sum(each.size for file in files for each in file)
    document = {"metadata": {"total_size": size}, "weight_map": where}
    (source / f"{SINGLE}{INDEX}").write_text(json.dumps(document), encoding="utf-8")
    largest = max(each.size for file in files for each in file)
    return {"bytes": size, "files": len(files), "largest": largest}


def planned(folder: Path) -> dict[str, Any]:
    """Choose channels by l2, from the files."""
    model = empty(GIGABYTES)
    deps = fxprune.analyze(model, INPUTS)
    with measured() as found:
        plan = fxprune.plan(deps, ratio=0.25, uniform=True, weights=folder / "source")
    plan.save(folder / "plan.json")
    return dict(found)


def shrunk(folder: Path, workers: int) -> dict[str, Any]:
    """Shrink the checkpoint, analysis and checks included."""
    model = empty(GIGABYTES)
    plan = fxprune.Plan.load(folder / "plan.json")
    with measured() as found:
        report = fxprune.shrink_checkpoint(
            model, folder / "source", folder / f"target{workers}", plan, workers=workers
        )
    return {**found, "before": report.before, "after": report.after}


def compared(folder: Path) -> dict[str, Any]:
    """Shrink the model in memory, and compare outputs and plans."""
    plan = fxprune.Plan.load(folder / "plan.json")
    kind = transformers.LlamaForCausalLM
    with measured() as found:
        model = kind.from_pretrained(folder / "source").eval()
        small: Any = fxprune.shrink(model, plan, INPUTS, emit="module", verify=False)
    same_plan = fxprune.plan(model, INPUTS, ratio=0.25, uniform=True).groups == plan.groups
    del model
    again = kind.from_pretrained(folder / "target1").eval()
    with torch.no_grad():
        mine, theirs = again(**INPUTS).logits, small(**INPUTS).logits
    state = again.state_dict()
    same_state = all(torch.equal(state[n], t) for n, t in small.state_dict().items())
    return {
        **found,
        "plan": same_plan,
        "tensors": same_state and state.keys() == small.state_dict().keys(),
        "logits": torch.equal(mine, theirs) and bool(mine.isfinite().all()),
    }


STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "meta": meta,
    "make": make,
    "plan": planned,
    "one": lambda folder: shrunk(folder, 1),
    "two": lambda folder: shrunk(folder, 2),
    "compare": compared,
}


def step(name: str, folder: Path) -> dict[str, Any]:
    """Run a step in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.streaming", name, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(name, found, flush=True)
    return found


def row(*cells: object) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def megabytes(count: float) -> str:
    """Bytes, for a table."""
    return f"{math.ceil(count / 1e6):,} MB"


def tables(folder: Path) -> list[str]:
    """Measure everything."""
    big, made = step("meta", folder), step("make", folder)
    plan, one, two = (step(name, folder) for name in ("plan", "one", "two"))
    other = step("compare", folder)
    largest = made["largest"]
    names = ("building", "analysis", "plan", "smaller model without data", "all")

    def line(what: str, found: dict[str, Any]) -> str:
        return row(what, *times(found), f"{found['anonymous'] / largest:.2f}")

    told = (
        f"A Llama of {big['before'] / 1e9:.2f} billion parameters on the meta device, criterion"
        f" random, ratio 0.25; {big['after'] / 1e9:.2f} billion are left,"
        f" {'and' if big['config'] else 'but no'} config.json tells the widths. Peak of the whole"
        f" process: {big['all']['process'] / 2**30:.2f} GiB."
    )
    of_files = (
        f"A checkpoint of {made['bytes'] / 1e9:.2f} GB (bfloat16, random weights) in"
        f" {made['files']} files; the largest tensor has {megabytes(largest)}. Criterion l2, ratio"
        f" 0.25, to {one['after'] / 1e9:.2f} GB. `shrink_checkpoint` includes analysis, reading"
        " back and all its checks; the plan is of an analysis that was there."
    )
    equal = (
        f"Against the model that is shrunk in memory: the plan is {same(other['plan'])}, all"
        f" tensors are {same(other['tensors'])}, and the logits of what `from_pretrained` loads"
        f" are {same(other['logits'])}, bit by bit."
    )
    return [
        told,
        "",
        row("step", "time", "processor time", "anonymous memory more"),
        row("---", "--:", "--:", "--:"),
        *(row(name, *times(big[name])) for name in names),
        "",
        of_files,
        "",
        row("step", "time", "processor time", "anonymous memory more", "in largest tensors"),
        row("---", "--:", "--:", "--:", "--:"),
        line("plan from the files", plan),
        line("`shrink_checkpoint`, 1 worker", one),
        line("`shrink_checkpoint`, 2 workers", two),
        line("in memory: `from_pretrained` and `shrink`", other),
        "",
        equal,
    ]


def times(found: dict[str, Any]) -> list[str]:
    """The cells for one measurement."""
    seconds = [f"{found[name]:.1f} s" for name in ("seconds", "busy")]
    return [*seconds, megabytes(found["anonymous"])]


def same(is_same: bool) -> str:
    """In words."""
    return "the same" if is_same else "NOT the same"


def main(arguments: list[str]) -> None:
    """Run one step, or all of them and write the tables."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if arguments:
        print(json.dumps(STEPS[arguments[0]](Path(arguments[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="fxprune-") as folder:
        lines = tables(Path(folder))
    versions = f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}"
    threads = torch.get_num_threads()
    made = (
        f"{versions}, {threads} threads, on a machine that did other work, too. Anonymous memory is"
        " RssAnon of the process, sampled every 2 ms, beyond what it was before the step. Written"
        " by `python -m benchmarks.streaming`."
    )
    lines += ["", made]
    before = DOCS.read_text(encoding="utf-8").partition(f"\n{TITLE}\n")[0].rstrip()
    text = "\n".join(lines)
    DOCS.write_text(f"{before}\n\n{TITLE}\n\n{text}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
