"""The command line: what it writes, what it prints, and how it fails."""

import contextlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import fxprune
from fxprune import cli_output
from fxprune.cli import main
from fxprune.loading import parse_input

CHECKOUT = Path(__file__).parents[1]
# Until click 8.2, a runner mixed stderr into stdout unless it was asked not to.
RUNNER = CliRunner(
    **({"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {})
)

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.body(self.norm(self.stem(x)).relu()).mean((2, 3)))


class Masked(Net):
    def __init__(self):
        super().__init__()
        self.stem.weight.data[[1, 4]] = 0
        self.body.weight.data[:, 2] = 0


class Other(Net):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(8, 10, 3)
        self.head = nn.Linear(10, 4)


class Shuffled(Net):
    # Unpickling traces the graph again, and numbers nodes such as these in another way.
    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.arange(7, -1, -1))

    def forward(self, x):
        x = self.stem(x)[:, self.order]
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        shape = x.shape
        x = (x * 8**-0.5).flatten(2).softmax(2).view(shape)
        return self.head(self.body(x).mean((2, 3)))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.hidden = nn.Linear(8, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, words):
        return self.head(self.hidden(self.embedding(words)).relu())


class Deciding(Net):
    # No tracer takes it.
    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        return self.head(self.body(x if x.sum().item() > 0 else -x).mean((2, 3)))


def example_inputs():
    return torch.randn(1, 3, 8, 8)


def local():
    class Local(Net):
        pass

    return Local()


def noisy():
    print("this is a noisy model", flush=True)
    return Net()


def branching():
    class Branching(Net):
        def forward(self, x):
            if x.sum() < float("inf"):
                raise ValueError("a finite sum")
            return x

    return Branching()


def broken():
    raise ValueError("no weights today")


def exiting():
    raise SystemExit(5)


def number():
    return 3


def wants(width):
    return Net()


instance = Net()
constant = 3
"""


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module `nets`, which is the working directory."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "bare.py").write_text("from nets import Net, Words")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run(*arguments: object, code: int = 0) -> Result:
    """Run a command in this process; it must exit with `code`."""
    result = RUNNER.invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output + result.stderr
    return result


def fail(*arguments: object, code: int = 1) -> str:
    """The message of a command that fails and prints nothing else."""
    result = run(*arguments, code=code)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def document(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def process(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "fxprune", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"nets.py", "bare.py"}


# Help


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"fxprune, version {fxprune.__version__}\n"


def test_the_help_documents_every_exit_code() -> None:
    text = run("--help").stdout
    assert all(f"    {code}  " in text for code in (0, 1, 2, 3))


@pytest.mark.parametrize("command", ["analyze", "plan", "shrink", "verify"])
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    assert f"    fxprune {command} torchvision.models:resnet18" in run(command, "--help").stdout


def test_the_help_says_to_load_only_trusted_files() -> None:
    for command in ("shrink", "verify"):
        assert "load only files you trust" in " ".join(run(command, "--help").stdout.split())


# analyze


def test_analyze_shows_every_group_and_why_it_is_pinned() -> None:
    lines = run("analyze", "nets:Net").stdout.splitlines()
    stem = next(line for line in lines if " stem " in line)
    head = next(line for line in lines if line.endswith(" head"))
    assert "channels" in stem
    assert " 8 " in stem
    assert "output of the model" in head
    assert "2 groups can be pruned, 2 are pinned" in lines


def test_analyze_full_shows_the_members_of_groups() -> None:
    assert "norm.running_var[0]" not in run("analyze", "nets:Net").stdout
    assert "norm.running_var[0]" in run("analyze", "nets:Net", "--full").stdout


def test_analyze_prints_json() -> None:
    groups = {group["name"]: group for group in document("analyze", "nets:Net")["groups"]}
    assert groups["stem"]["size"] == 8
    assert groups["stem"]["prunable"]
    assert {"parameter": "body.weight", "dim": 1} in groups["stem"]["members"]
    assert groups["head"]["pinned"]["what"] == "output of the model"


def test_analyze_tells_the_prunable_share_of_every_module() -> None:
    lines = run("analyze", "nets:Net").stdout.splitlines()
    body = next(line for line in lines if "body" in line and "%" in line)
    assert body.split() == ["body", "438", "438", "100.0%"]
    assert "prunable share of the parameters: 99.4% (694 of 698)" in lines


def test_analyze_prints_the_prunable_share_as_json() -> None:
    found = document("analyze", "nets:Net")
    assert found["prunable_share"] == 694 / 698
    assert found["shares"][-1] == {
        "module": "head",
        "parameters": 28,
        "prunable": 24,
        "share": 24 / 28,
    }


def test_analyze_why_tells_what_stops_an_axis() -> None:
    lines = run("analyze", "nets:Net", "--why", "head", "--why", "stem*").stdout.splitlines()
    assert lines[0] == (
        "head.weight[0], head.bias[0]: must stay, group head, because these are channels of an"
        " output of the model, and outputs keep their shape"
    )
    assert "head.weight[1]: can be pruned, group body" in lines
    assert "stem.weight[0]: can be pruned, group stem" in lines
    assert not any("body.weight" in line for line in lines)


def test_analyze_why_prints_json() -> None:
    (found,) = document("analyze", "nets:Net", "--why", "head.bias")["why"]
    assert found["pattern"] == "head.bias"
    (axis,) = found["axes"]
    assert (axis["parameter"], axis["dim"], axis["prunable"]) == ("head.bias", 0, False)
    assert axis["reason"]["what"] == "output of the model"
    assert [place["node"] for place in axis["way"]] == ["head", "output"]


def test_analyze_why_answers_an_unknown_name_with_the_nearest_ones() -> None:
    assert "the nearest names are: head" in fail("analyze", "nets:Net", "--why", "heat")


def test_what_a_model_prints_does_not_get_into_the_json() -> None:
    result = run("analyze", "nets:noisy", "--json")
    assert json.loads(result.stdout)
    assert "this is a noisy model" in result.stderr


def test_output_that_is_no_terminal_has_no_colours() -> None:
    output = process("analyze", "nets:Net").stdout
    assert "are pinned" in output
    assert "\x1b" not in output


def test_a_terminal_gets_colours() -> None:
    reader, writer = pytest.importorskip("pty").openpty()
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "fxprune", "analyze", "nets:Net"]
    with subprocess.Popen(
        command, env=environment, stdout=writer, stderr=subprocess.DEVNULL
    ) as running:
        os.close(writer)
        output = b""
        with contextlib.suppress(OSError):  # which is how the end of a terminal reads on Linux
            while piece := os.read(reader, 1 << 16):
                output += piece
    os.close(reader)
    assert running.returncode == 0
    assert b"are pinned" in output
    assert b"\x1b[2m" in output


def test_group_names_with_brackets_are_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    groups = {"attn.qkv[heads]": fxprune.planning.GroupPlan(4, "heads", (1,))}
    cli_output.show(fxprune.Plan(groups, {}, {}, (), ""))
    assert "attn.qkv[heads]" in capsys.readouterr().out


# plan, shrink, verify


def test_plan_shrink_and_verify_see_the_same_weights_in_separate_processes() -> None:
    process("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json")
    process("shrink", "nets:Net", "--plan", "plan.json", "-o", "small.pt")
    done = process("verify", "--trust", "nets:Net", "small.pt", "--plan", "plan.json", "--json")
    verification = json.loads(done.stdout)
    assert verification["relative"] < 1e-9
    assert verification["nodes"] == len(verification["inputs"])


def test_another_model_seed_makes_other_weights() -> None:
    run("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json")
    run("shrink", "nets:Net", "--plan", "plan.json", "-o", "small.pt")
    command = ("verify", "--trust", "nets:Net", "small.pt", "--plan", "plan.json", "--model-seed")
    run(*command, 0)
    assert "node output differs" in fail(*command, 1, code=3)


@pytest.mark.parametrize("model", ["Net", "Shuffled", "noisy", "instance"])
def test_a_model_is_compared_by_its_outputs_after_it_was_read_again(model: str) -> None:
    run("plan", f"nets:{model}", "--ratio", 0.5, "-o", "plan.json")
    written = document("shrink", f"nets:{model}", "--plan", "plan.json", "-o", "small.pt")
    read = document("verify", "--trust", f"nets:{model}", "small.pt", "--plan", "plan.json")
    assert written["verification"]["compared"] == "every node"
    assert read["compared"] == "outputs"
    assert read["relative"] < 1e-9


def test_the_shrunk_model_can_be_loaded_without_fxprune() -> None:
    run("shrink", "nets:Net", "--ratio", 0.5, "-o", "small.pt")
    code = (
        "import sys, torch; sys.modules['fxprune'] = None\n"
        "small = torch.load('small.pt', weights_only=False)\n"
        "print(type(small.stem).__name__, small(torch.zeros(2, 3, 8, 8)).shape, small.training)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "Conv2d torch.Size([2, 4]) False\n", done.stderr


@pytest.mark.parametrize("model", ["Net", "Deciding"])
def test_the_users_own_class_is_written_read_back_and_verified(model: str) -> None:
    process("plan", f"nets:{model}", "--ratio", 0.5, "-o", "plan.json")
    command = ("shrink", f"nets:{model}", "--plan", "plan.json", "--emit", "module")
    assert f"wrote small.pt, a {model}" in process(*command, "-o", "small.pt").stdout
    done = process(
        "verify", "--trust", f"nets:{model}", "small.pt", "--plan", "plan.json", "--json"
    )
    verification = json.loads(done.stdout)
    assert verification["compared"] == "outputs"
    assert verification["relative"] < 1e-9


def test_a_module_that_was_tampered_with_is_refuted() -> None:
    run("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json")
    command = ("nets:Net", "--plan", "plan.json")
    run("shrink", *command, "--emit", "module", "-o", "small.pt")
    small = torch.load("small.pt", weights_only=False)
    assert small.body.out_channels == 3
    assert small.meta == {}
    with torch.no_grad():
        small.body.bias[0] += 0.1
    torch.save(small, "small.pt")
    assert "output differs" in fail(
        "verify", "--trust", "nets:Net", "small.pt", *command[1:], code=3
    )


@pytest.mark.parametrize(("model", "kind"), [("Net", "graph"), ("Deciding", "module")])
def test_emit_auto_tells_what_it_took(model: str, kind: str) -> None:
    command = ("shrink", f"nets:{model}", "--ratio", 0.5, "--emit", "auto", "-o", "small.pt")
    assert document(*command)["emit"] == kind


def test_a_graph_of_one_decision_is_refused_with_the_option_that_helps() -> None:
    message = fail("shrink", "nets:Deciding", "--ratio", 0.5, "-o", "small.pt")
    assert "the graph holds for these example inputs only" in message
    assert 'pass emit="module"' in message


def test_a_class_that_no_file_can_name_is_refused(app: Path) -> None:
    command = ("shrink", "nets:local", "--ratio", 0.5, "-o", "small.pt")
    assert "small.pt cannot be written" in fail(*command, "--emit", "module")
    assert files(app) == set()
    run(*command)


def test_shrink_shows_widths_cost_and_proof() -> None:
    text = run("shrink", "nets:Net", "--ratio", 0.5, "-o", "small.pt").stdout
    assert all(word in text for word in ("stem", "MACs", "verified: ", "wrote small.pt"))


def test_shrink_prints_json() -> None:
    report = document("shrink", "nets:Net", "--ratio", 0.5, "-o", "small.pt")
    assert report["output"] == "small.pt"
    assert report["groups"]["stem"] == {"kind": "channels", "before": 8, "after": 4}
    assert report["after"]["parameters"] < report["before"]["parameters"]
    assert report["verification"]["dtype"] == "float64"


def test_shrink_says_when_the_result_is_not_verified() -> None:
    command = ("shrink", "nets:Net", "--ratio", 0.5, "-o", "small.pt", "--no-verify")
    assert "NOT verified" in run(*command).stdout
    assert document(*command)["verification"] is None


def test_the_removal_options_reach_the_plan() -> None:
    run(
        *("plan", "nets:Net", "--ratio", 0.5, "--ratios", "body=0.0", "--channels", "body=0,3"),
        *("--ignore", "stem", "--criterion", "random", "--round-to", 2, "--seed", 7),
        *("--no-heads", "--head-dims", "--groups", "-o", "plan.json"),
    )
    plan = fxprune.Plan.load("plan.json")
    assert plan.groups["stem"].removed == ()
    assert plan.groups["body"].removed == (0, 3)
    assert plan.made["ignore"] == ["stem"]
    assert plan.made["criterion"] == "random"
    assert plan.made["round_to"] == 2
    assert plan.made["seed"] == 7
    assert [plan.made[kind] for kind in ("heads", "head_dims", "groups")] == [False, True, True]


def test_the_options_that_choose_channels_reach_the_plan() -> None:
    run(
        *("plan", "nets:Net", "--ratio", 0.5, "--scope", "global", "--normalize", "max"),
        *("--strategy", "body:ratio=0.25,criterion=l1,round_to=2", "--keep", "stem=0,1"),
        *("--min-channels", 2, "--max-ratio", 0.75, "--uniform", "-o", "plan.json"),
    )
    made = fxprune.Plan.load("plan.json").made
    assert made["strategies"] == {"body": {"ratio": 0.25, "criterion": "l1", "round_to": 2}}
    assert made["keep"] == {"stem": [0, 1]}
    assert (made["scope"], made["normalize"]) == ("global", "max")
    assert (made["min_channels"], made["max_ratio"], made["uniform"]) == (2, 0.75, True)
    run("plan", "nets:Net", "--threshold", 0.1, "-o", "plan.json")
    assert fxprune.Plan.load("plan.json").made["threshold"] == 0.1


def test_of_repeated_options_the_last_of_a_name_wins_and_lists_add_up() -> None:
    run(
        *("plan", "nets:Net", "--ratios", "body=0.1", "--ratios", "*=0.25"),
        *("--ratios", "body=0.5", "--channels", "stem=0", "--channels", "stem=3"),
        *("--strategy", "stem:criterion=l1", "--strategy", "stem:round_to=2", "-o", "plan.json"),
    )
    plan = fxprune.Plan.load("plan.json")
    assert plan.groups["body"].width == 3
    assert plan.made["channels"] == {"stem": [0, 3]}
    assert plan.made["strategies"] == {"stem": {"criterion": "l1", "round_to": 2}}


@pytest.mark.parametrize(("given", "made"), [("host", "host"), ("auto", 1)])
def test_a_multiple_that_suits_the_host_can_be_asked_for(given: str, made: object) -> None:
    run("plan", "nets:Net", "--ratio", 0.5, "--round-to", given, "-o", "plan.json")
    plan = fxprune.Plan.load("plan.json")
    assert plan.made["round_to"] == made
    assert ("multiples" in plan.made) == (made == "host")


def test_a_target_reaches_the_plan() -> None:
    run("plan", "nets:Net", "--target", "params=0.6", "--target", "macs=0.9", "-o", "plan.json")
    made = fxprune.Plan.load("plan.json").made
    assert made["target"] == {"params": 0.6, "macs": 0.9}
    assert made["reached"]["params"] <= 0.6


@pytest.mark.parametrize("value", ["body", "body:", ":ratio=0.5", "body:ratio"])
def test_a_strategy_that_says_nothing_is_refused(value: str) -> None:
    assert "NAME=VALUE" in fail(
        "plan", "nets:Net", "--strategy", value, "-o", "plan.json", code=2
    ).replace("PATTERN:OPTION=VALUE", "NAME=VALUE")


def test_plan_prints_the_widths_and_the_cost_that_shrink_leads_to() -> None:
    lines = run("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json").stdout.splitlines()
    assert lines[-1] == "wrote plan.json"
    assert [line for line in lines if line.split()[:5] == ["body", "channels", "6", "->", "3"]]
    shrunk = run("shrink", "nets:Net", "--plan", "plan.json", "-o", "small.pt").stdout.splitlines()
    for cost in ("parameters", "MACs"):
        predicted, reached = (
            [line.split() for line in told if line.split()[:1] == [cost]]
            for told in (lines, shrunk)
        )
        assert predicted == reached != []


def test_plan_prints_widths_and_costs_as_json() -> None:
    found = document("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json")
    assert found["groups"]["body"] == {"kind": "channels", "before": 6, "after": 3}
    report = document("shrink", "nets:Net", "--plan", "plan.json", "-o", "small.pt")
    for when in ("before", "after"):
        assert found[when] == {name: report[when][name] for name in ("parameters", "macs")}


def test_full_tells_every_layer_and_every_reason() -> None:
    command = ("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json")
    assert "BatchNorm2d" not in run(*command).stdout
    assert " norm " in run(*command, "--full").stdout
    shrink = ("shrink", "nets:Net", "--plan", "plan.json", "-o", "small.pt")
    assert " norm " not in run(*shrink).stdout
    assert " norm " in run(*shrink, "--full").stdout
    verify = ("verify", "--trust", "nets:Net", "small.pt", "--plan", "plan.json")
    assert "  tolerance  " not in run(*verify).stdout
    assert "  tolerance  " in run(*verify, "--full").stdout


def test_plan_takes_what_is_zero() -> None:
    command = ("plan", "nets:Masked", "--from-masks", "-o", "plan.json")
    assert document(*command)["groups"]["stem"] == {"kind": "channels", "before": 8, "after": 5}
    assert fxprune.Plan.load("plan.json").groups["stem"].removed == (1, 2, 4)
    run(*command, "--ignore", "stem")
    assert fxprune.Plan.load("plan.json").groups["stem"].removed == ()
    exact = ("--norm", "exact", "--constants", "fold")
    run("shrink", "nets:Masked", "--plan", "plan.json", "-o", "small.pt", *exact)


def test_other_options_do_not_go_with_masks() -> None:
    message = fail("plan", "nets:Net", "--from-masks", "--ratio", 0.5, "-o", "out", code=2)
    assert "--from-masks says what to remove" in message


def test_a_model_is_in_eval_mode_unless_train_is_given() -> None:
    for option, training in (((), False), (("--train",), True)):
        run("shrink", "nets:Net", "--ratio", 0.5, "-o", "small.pt", *option)
        assert torch.load("small.pt", weights_only=False).norm.training is training


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_weights_can_come_from_a_file(suffix: str, app: Path) -> None:
    sys.path.insert(0, str(app))
    import nets  # noqa: PLC0415 (the fixture writes it)

    state = nets.Net().state_dict()
    if suffix == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, "weights.safetensors")
    else:
        torch.save(state, "weights.pt")
    command = ("nets:Net", "--state", f"weights.{suffix}", "-o", "small.pt")
    run("shrink", *command, "--channels", "stem=0")
    small = torch.load("small.pt", weights_only=False)
    assert torch.equal(small.stem.weight, state["stem.weight"][1:])


# Inputs


def test_integer_inputs_can_be_described() -> None:
    for text in ("2x5:int64", "2x5:int64:10"):
        run("shrink", "nets:Words", "--input", text, "--ratio", 0.5, "-o", "small.pt")


def test_integers_are_zero_or_below_the_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    assert not parse_input("100:int32").sample(generator).any()
    sample = parse_input("100:int32:3").sample(generator)
    assert sample.dtype == torch.int32
    assert set(sample.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    "text", ["1,3,8,8", "1x3x", "x", "0x3", "", "1x3:int64:", "1x3:int64:0", "1x3:float32:5:6"]
)
def test_an_input_of_another_form_is_a_usage_error(text: str) -> None:
    message = fail("analyze", "nets:Net", "--input", text, code=2)
    assert "does not describe an input" in message
    assert "1x3x224x224" in message


def test_an_unknown_dtype_is_a_usage_error_that_tells_the_nearest() -> None:
    message = fail("analyze", "nets:Net", "--input", "1x3:flot32", code=2)
    assert "float32" in message


@pytest.mark.parametrize("text", ["4:uint8:1000", "4:float32:2", "4:bool:3"])
def test_a_bound_that_a_dtype_cannot_have_is_a_usage_error(text: str) -> None:
    assert "is too large" in fail("analyze", "nets:Net", "--input", text, code=2)


def test_missing_inputs_are_an_error_that_says_how_to_pass_them() -> None:
    message = fail("analyze", "bare:Net")
    assert "there are no example inputs for bare:Net" in message
    assert "--input 1x3x224x224" in message


def test_shrink_and_verify_take_the_shapes_of_the_plan() -> None:
    run("plan", "bare:Net", "--input", "1x3x8x8", "--ratio", 0.5, "-o", "plan.json")
    run("shrink", "bare:Net", "--plan", "plan.json", "-o", "small.pt")
    run("verify", "--trust", "bare:Net", "small.pt", "--plan", "plan.json")


def test_inputs_that_do_not_fit_the_model_are_an_error() -> None:
    assert "2 example inputs for a model of 1 argument" in fail(
        "analyze", "nets:Net", "--input", "1x3x8x8", "--input", "1x3x8x8"
    )


# Models that are not there, or not models


@pytest.mark.parametrize("model", ["nets", "nets:", ":Net", "nets.py:Net", "./nets:Net", "a b:c"])
def test_a_model_of_another_form_is_a_usage_error(model: str) -> None:
    assert "is not of the form package.module:callable" in fail("analyze", model, code=2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nett:Net", "there is no Python module nett what to do: the nearest names are: nets"),
        ("torchvision.modls:resnet18", "no Python module torchvision.modls"),
        ("nets.deep:Net", "there is no Python module nets.deep"),
        ("nets:Nett", "nets has no attribute 'Nett' what to do: the nearest names are: Net"),
        ("nets:Net.build", "Net has no attribute 'build'"),
        ("nets:number", "nets:number returned an object of type int"),
        ("nets:constant", "nets:constant is an object of type int"),
        ("nets:broken", "calling nets:broken failed: ValueError: no weights today"),
        ("nets:exiting", "calling nets:exiting failed: SystemExit: 5"),
        ("nets:wants", "missing 1 required positional argument: 'width'"),
        ("nets:branching", "Branching cannot be traced symbolically"),
    ],
)
def test_a_model_that_cannot_be_had_is_an_error(model: str, message: str) -> None:
    if model.startswith("torchvision"):
        pytest.importorskip("torchvision")
    assert message in fail("analyze", model)


def test_an_error_in_the_model_names_the_line() -> None:
    line = NETS.splitlines().index('    raise ValueError("no weights today")') + 1
    assert f"nets.py:{line}: raise ValueError" in fail("analyze", "nets:broken")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import missing_library", "No module named 'missing_library'"),
        ("raise OSError('no disk')", "OSError: no disk"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error(app: Path, source: str, message: str) -> None:
    (app / "faulty.py").write_text(source)
    text = fail("analyze", "faulty:Net")
    assert "importing faulty failed" in text
    assert message in text


def test_models_are_found_in_the_app_dir(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = app / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    fail("analyze", "nets:Net")
    run("analyze", "nets:Net", "--app-dir", app)
    fail("analyze", "nets:Net", "--app-dir", app / "nowhere", code=2)


def test_weights_that_do_not_fit_are_an_error(app: Path) -> None:
    torch.save({"stem.weight": torch.zeros(8, 3, 3, 3), "extra": torch.zeros(1)}, "weights.pt")
    message = fail("analyze", "nets:Net", "--state", "weights.pt")
    assert "the weights weights.pt do not fit Net" in message
    assert "body.weight" in message
    assert "extra" in message


def test_a_file_without_a_state_dict_is_an_error(app: Path) -> None:
    torch.save([1, 2], "weights.pt")
    assert "do not fit Net" in fail("analyze", "nets:Net", "--state", "weights.pt")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_weights_that_cannot_be_read_are_an_error(app: Path, name: str) -> None:
    (app / name).write_text("not weights")
    pytest.importorskip("safetensors")
    assert f"the weights {name} cannot be read" in fail("analyze", "nets:Net", "--state", name)
    fail("analyze", "nets:Net", "--state", "nowhere.pt", code=2)


# Plans


def test_a_plan_for_another_model_is_refused(app: Path) -> None:
    run("plan", "nets:Other", "--ratio", 0.5, "-o", "plan.json")
    run("shrink", "nets:Other", "--plan", "plan.json", "-o", "other.pt")
    for command in (
        ("shrink", "nets:Net", "-o", "small.pt"),
        ("verify", "--trust", "nets:Net", "other.pt"),
    ):
        message = fail(*command, "--plan", "plan.json")
        assert "the plan belongs to another model" in message
        assert "body.weight: shape [6, 8, 3, 3] here, [10, 8, 3, 3] in the plan" in message
    assert files(app) == {"plan.json", "other.pt"}


@pytest.mark.parametrize(
    "command", [("shrink", "nets:Net", "-o", "out"), ("verify", "--trust", "nets:Net")]
)
def test_a_plan_that_is_missing_or_none_is_an_error(command: tuple[str, ...]) -> None:
    Path("small.pt").touch()
    command = (*command, *(["small.pt"] if command[0] == "verify" else []), "--plan")
    assert "'nowhere.json' does not exist" in fail(*command, "nowhere.json", code=2)
    assert "not valid JSON" in fail(*command, "nets.py")


def test_a_multiple_that_is_none_tells_the_words_that_are_some() -> None:
    told = fail("plan", "nets:Net", "--ratio", 0.5, "-o", "out", "--round-to", "hosts", code=2)
    assert 'neither a number, nor "host", nor "auto"' in told


@pytest.mark.parametrize("command", ["plan", "shrink"])
def test_a_command_line_that_removes_nothing_is_a_usage_error(command: str) -> None:
    assert "say what to remove" in fail(command, "nets:Net", "-o", "out", "--seed", 3, code=2)


def test_a_plan_and_options_of_another_are_a_usage_error() -> None:
    run("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json")
    command = ("shrink", "nets:Net", "--plan", "plan.json", "-o", "small.pt")
    assert "leave out" in fail(*command, "--round-to", 8, code=2)


@pytest.mark.parametrize(
    "option",
    [
        ("--ratio", "1"),
        ("--ratio", "half"),
        ("--ratios", "stem"),
        ("--ratios", "=0.5"),
        ("--ratios", "stem=half"),
        ("--channels", "stem=1,x"),
        ("--channels", "stem="),
        ("--criterion", "size"),
        ("--round-to", "0"),
        ("--round-to", "hosts"),
    ],
)
def test_an_option_of_another_form_is_a_usage_error(option: tuple[str, str]) -> None:
    assert option[0] in fail("plan", "nets:Net", "-o", "plan.json", *option, code=2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--ratios", "sten=0.5"), "the nearest names are: stem"),
        (("--ratios", "stem=1.5"), "a ratio is the fraction of channels"),
        (("--channels", "stem=8"), "channel 8 of stem is out of range"),
        (("--channels", "head=0"), "channel 0 of head cannot be removed"),
    ],
)
def test_a_plan_that_cannot_be_made_is_an_error_and_writes_nothing(
    app: Path, option: tuple[str, str], message: str
) -> None:
    for command in ("plan", "shrink"):
        assert message in fail(command, "nets:Net", "-o", "out", *option)
    assert files(app) == set()


# Files


@pytest.mark.parametrize("command", ["plan", "shrink"])
@pytest.mark.parametrize("path", ["missing/out", ".", "/dev/null"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    command: str, path: str
) -> None:
    message = fail(command, "nets:broken", "--ratio", 0.5, "-o", path, code=2)
    assert "'--output'" in message


@pytest.mark.parametrize("command", ["plan", "shrink"])
def test_a_failed_command_leaves_an_existing_file_as_it_was(app: Path, command: str) -> None:
    (app / "out").write_text("precious")
    fail(command, "nets:broken", "--ratio", 0.5, "-o", "out")
    fail(command, "nets:Net", "--channels", "stem=99", "-o", "out")
    assert (app / "out").read_text() == "precious"
    assert files(app) == {"out"}


def test_a_refuted_result_is_not_written(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise fxprune.VerificationError("node stem differs")

    monkeypatch.setattr(fxprune, "shrink", refuse)
    assert "node stem differs" in fail(
        "shrink", "nets:Net", "--ratio", 0.5, "-o", "small.pt", code=3
    )
    assert files(app) == set()


def test_a_write_that_fails_halfway_leaves_the_old_file_and_no_other(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(model: object, stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError("No space left on device")

    (app / "small.pt").write_text("precious")
    monkeypatch.setattr(torch, "save", fill)
    message = fail("shrink", "nets:Net", "--ratio", 0.5, "-o", "small.pt")
    assert "small.pt cannot be written: OSError: No space left on device" in message
    assert (app / "small.pt").read_text() == "precious"
    assert files(app) == {"small.pt"}


def test_a_link_stays_and_its_target_is_replaced(app: Path) -> None:
    (app / "target.json").write_text("old")
    (app / "link.json").symlink_to("target.json")
    run("plan", "nets:Net", "--ratio", 0.5, "-o", "link.json")
    assert (app / "link.json").is_symlink()
    assert fxprune.Plan.load(app / "target.json").groups


# Shrunk models that are not what they should be


@pytest.fixture
def shrunk(app: Path) -> tuple[str, ...]:
    """The command that verifies `small.pt`, which was just written."""
    run("plan", "nets:Net", "--ratio", 0.5, "-o", "plan.json")
    run("shrink", "nets:Net", "--plan", "plan.json", "-o", "small.pt")
    return ("verify", "--trust", "nets:Net", "small.pt", "--plan", "plan.json")


def test_a_tampered_model_is_refuted(shrunk: tuple[str, ...]) -> None:
    assert "verified: " in run(*shrunk).stdout
    small = torch.load("small.pt", weights_only=False)
    with torch.no_grad():
        small.body.bias[0] += 0.1
    torch.save(small, "small.pt")
    assert "node output differs from the original" in fail(*shrunk, code=3)


def test_a_model_that_does_not_run_is_refuted(shrunk: tuple[str, ...]) -> None:
    for model in (torch.nn.Linear(7, 4), torch.fx.symbolic_trace(torch.nn.Linear(7, 4))):
        torch.save(model, "small.pt")
        fail(*shrunk, code=3)


def test_a_file_that_holds_no_model_is_an_error(shrunk: tuple[str, ...]) -> None:
    torch.save({"a": torch.zeros(1)}, "small.pt")
    assert "small.pt holds an object of type dict" in fail(*shrunk)
    Path("small.pt").write_text("nothing")
    assert "the model small.pt cannot be read" in fail(*shrunk)
    Path("small.pt").unlink()
    assert "'small.pt' does not exist" in fail(*shrunk, code=2)


# Progress and defects


def test_a_stage_that_takes_long_says_so_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_output, "_PATIENCE", 60)
    assert run("analyze", "nets:Net").stderr == ""
    monkeypatch.setattr(cli_output, "_PATIENCE", 0)
    result = run("analyze", "nets:Net", "--json")
    assert "Analyzing ...\n" in result.stderr
    assert json.loads(result.stdout)


def test_a_defect_of_fxprune_is_not_taken_for_an_error_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def defect(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fxprune, "analyze", defect)
    with pytest.raises(ZeroDivisionError):
        run("analyze", "nets:Net")


def test_channels_are_folded_without_data(app: Path) -> None:
    """The result says so, and is proved to be the folded original."""
    shrink = ("shrink", "nets:Net", "--input", "1x3x8x8", "--ratio", 0.5, "--fold")
    told = run(*shrink, "-o", "small.safetensors").stdout
    assert "layers that read removed channels were repaired" in told
    assert "verified" in run("verify", "nets:Net", "small.safetensors").stdout
    samples = ("--calibrate", "nets.py")
    assert "cannot be read" in fail(*shrink, *samples, "-o", "small.pt")


def test_layers_are_repaired_by_samples_of_a_file(app: Path) -> None:
    """The result says so, and is proved to be the repaired original."""
    shrink = ("shrink", "nets:Net", "--input", "1x3x8x8", "--ratio", 0.5, "--calibrate")
    images = np.random.default_rng(0).normal(size=(90, 3, 8, 8)).astype("f4")
    np.savez(app / "samples.npz", images)
    told = run(*shrink, "samples.npz", "-o", "small.safetensors").stdout
    assert "2 of 2 layers that read removed channels were repaired from data" in told
    assert "verified" in run("verify", "nets:Net", "small.safetensors").stdout
    assert "the inputs nets.py cannot be read" in fail(*shrink, "nets.py", "-o", "small.pt")
    np.savez(app / "wrong.npz", images[:0])
    told = fail(*shrink, "wrong.npz", "-o", "small.pt")
    assert "the first dim of all of them counts the samples" in told
