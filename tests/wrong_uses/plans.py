"""Plans that are for another model, edited by hand, cut short, or no plans at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import fxprune
from fxprune import Plan
from tests.wrong_uses import nets
from tests.wrong_uses.table import World, Wrong


def for_other(name: str, plan: Callable[[World], Plan]) -> Wrong:
    """Shrinks by the plan of another model."""
    return Wrong(name, lambda w: fxprune.shrink(w.model, w.prepared), before=plan)


def text_of(world: World, change: Callable[[Any], object]) -> str:
    """The plan's text after a change of its JSON."""
    document = json.loads(world.plan.to_json())
    change(document)
    return json.dumps(document)


def edited(change: Callable[[Any], object]) -> Callable[[World], object]:
    """Shrinks by a plan that was edited."""
    return lambda w: fxprune.shrink(w.model, Plan.from_json(text_of(w, change)))


def group(**entries: object) -> Callable[[World], object]:
    """Shrinks by a plan in which the group 0 says something else."""
    return edited(lambda d: d["groups"]["0"].update(entries))


def tensor(**entries: object) -> Callable[[World], object]:
    """Shrinks by a plan in which the input is another one."""
    return edited(lambda d: d["inputs"][0]["tensor"].update(entries))


def replaced(old: str, new: str) -> Callable[[World], object]:
    """Reads a plan's text in which something is replaced."""

    def act(world: World) -> object:
        text = world.plan.to_json()
        assert old in text
        return Plan.from_json(text.replace(old, new, 1))

    return act


def file(content: bytes) -> dict[str, Callable[[World], object]]:
    """Shrinks by a file of that content."""
    return {
        "before": lambda w: (w.folder / "plan.json").write_bytes(content),
        "act": lambda w: fxprune.shrink(w.model, w.folder / "plan.json"),
    }


def giant(world: World) -> None:
    with (world.folder / "plan.json").open("wb") as stream:
        stream.truncate(10 << 30)  # a hole, which takes no room on the disk


def conv_plan(world: World) -> Plan:
    return fxprune.plan(nets.images(), torch.zeros(1, 3, 8, 8), 0.5)


_JSON = r"(?<=a plan is not valid JSON: ).*"

OTHER_MODELS = (
    for_other("a plan for another width", lambda w: fxprune.plan(nets.chain(6, 9, 8, 3), w.x, 0.5)),
    for_other("a plan for fewer layers", lambda w: fxprune.plan(nets.chain(6, 8, 3), w.x, 0.5)),
    for_other("a plan for another kind of model", conv_plan),
    Wrong(
        "a plan for a model with other names",
        lambda w: fxprune.shrink(w.model, w.prepared),
        model=nets.Pair,
        before=conv_plan,
    ),
    for_other(
        "a plan for another type of numbers",
        lambda w: fxprune.plan(nets.chain().half(), w.x.half(), 0.5),
    ),
    Wrong("the shrunk model in place of the model", lambda w: fxprune.shrink(w.small, w.plan)),
    Wrong("another digest", edited(lambda d: d.update(digest="0" * 64))),
)

EDITED = (
    Wrong("an unknown group", edited(lambda d: d["groups"].update(six=d["groups"]["0"]))),
    Wrong("a pinned group", edited(lambda d: d["groups"].update({"4": {**d["groups"]["0"]}}))),
    Wrong("a group left out", edited(lambda d: d["groups"].pop("0"))),
    Wrong("a group of another size", group(size=80)),
    Wrong("a group of another kind", group(kind="heads")),
    Wrong("a channel beyond the last", group(removed=[1, 8])),
    Wrong("a channel below 0", group(removed=[-1, 2])),
    Wrong("a channel twice", group(removed=[1, 1])),
    Wrong("all channels of a group", group(removed=list(range(8)))),
    Wrong("other channels than in the slices", group(removed=[0, 1, 2, 3, 4])),
    Wrong("a truth value as a channel", group(removed=[True])),
    Wrong("a text as a channel", group(removed=["1"])),
    Wrong("a fraction as a channel", group(removed=[1.0])),
    Wrong("a channel of 70 bits", group(removed=[1 << 70])),
    Wrong("a text for all channels", group(removed="all")),
    Wrong("a misspelt key", edited(lambda d: d["groups"]["0"].update(remvoed=[1]))),
    Wrong("a missing key", edited(lambda d: d.pop("slices"))),
    Wrong("a slice of a dim that is none", edited(lambda d: d["slices"].update(a={" 1": [0]}))),
    Wrong("a slice of an unknown tensor", edited(lambda d: d["slices"].update(a={"0": [0]}))),
    Wrong("an unknown version", edited(lambda d: d.update(version=2))),
    Wrong("a version that is a truth value", edited(lambda d: d.update(version=True))),
    Wrong("an input of an unknown type", tensor(dtype="float31")),
    Wrong("an input whose type is the name of a function", tensor(dtype="load")),
    Wrong("an input of a negative size", tensor(shape=[-4, 6])),
    Wrong("an input of another width", tensor(shape=[4, 7]), foreign=(r"(?<=failed: ).*",)),
    Wrong("an input that fills the memory", tensor(shape=[1 << 40, 6])),
    Wrong("an input that is too large to be made", tensor(shape=[1 << 26, 6])),
    Wrong("a range of integers without one", tensor(low=3, high=3)),
    Wrong("an input of an unknown kind", edited(lambda d: d.update(inputs=[{"set": [1]}]))),
)

NO_JSON = (
    Wrong("a number of NaN", replaced('"ratio": 0.5', '"ratio": NaN')),
    Wrong("a number beyond all floats", replaced('"ratio": 0.5', '"ratio": 1e999')),
    Wrong(
        "a number of 5,000 digits",
        replaced('"size": 8', '"size": 8' + "0" * 5000),
        foreign=(_JSON,),
    ),
    Wrong("a key twice", replaced('"size": 8', '"size": 8, "size": 9')),
    Wrong("a comma too many", replaced('"size": 8,', '"size": 8,,'), foreign=(_JSON,)),
    Wrong(
        "lists in lists, 100 deep",
        replaced('"ratio": 0.5', '"ratio": ' + "[" * 100 + "]" * 100),
    ),
    Wrong(
        "lists in lists, 100,000 deep", lambda w: Plan.from_json("[" * 100_000), foreign=(_JSON,)
    ),
    Wrong("lists by the million", lambda w: Plan.from_json(f"[{'[],' * 1_100_000}[]]")),
    Wrong("an empty text", lambda w: Plan.from_json(""), foreign=(_JSON,)),
    Wrong("another JSON", lambda w: Plan.from_json('{"format": "ONNX"}')),
    Wrong("the repr of a dict", lambda w: Plan.from_json(str({"format": 1})), foreign=(_JSON,)),
)

FILES = (
    Wrong("a file that is not there", lambda w: fxprune.shrink(w.model, w.folder / "plan.json")),
    Wrong("a folder", lambda w: fxprune.shrink(w.model, w.folder)),
    Wrong("a device", lambda w: fxprune.shrink(w.model, Path("/dev/zero"))),
    Wrong("a path with a NUL", lambda w: fxprune.shrink(w.model, "plan\0.json")),
    Wrong("a binary file", **file(b"\x80\x02PK\x03\x04")),
    Wrong("a file in UTF-16", **file("{}".encode("utf-16"))),
    Wrong("a file cut short", **file(b'{"format": "fxprune plan", "ver'), foreign=(_JSON,)),
    Wrong(
        "a file of 10 GB",
        lambda w: fxprune.shrink(w.model, w.folder / "plan.json"),
        before=giant,
    ),
    Wrong("a folder to save in", lambda w: w.plan.save(w.folder), before=lambda w: w.plan),
    Wrong(
        "a folder that is not there to save in",
        lambda w: w.plan.save(w.folder / "plans" / "plan.json"),
        before=lambda w: w.plan,
    ),
    Wrong("a device to save in", lambda w: w.plan.save("/dev/null"), before=lambda w: w.plan),
    Wrong(
        "a plan for inputs that JSON cannot hold",
        lambda w: replace(w.plan, inputs=(b"fast",)).save(w.saved),
        before=lambda w: w.saved,
    ),
)


def by_hand(*removed: object) -> Wrong:
    """Shrinks by a plan that Python code made, with other removed channels of the group 0."""
    groups = {"0": fxprune.planning.plan_data.GroupPlan(8, "channels", removed)}
    return Wrong(
        f"a plan made in Python, with the channels {list(removed)}",
        lambda w: fxprune.shrink(w.model, replace(w.plan, groups=groups)),
        before=lambda w: w.plan,
    )


MADE = (by_hand("1", 2), by_hand(1.5), by_hand(True))

ROWS = {
    "Plans made in Python": MADE,
    "Plans for other models": OTHER_MODELS,
    "Plans edited by hand": EDITED,
    "Texts that are no plans": NO_JSON,
    "Files of plans": FILES,
}
