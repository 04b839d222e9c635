"""Wrong arguments of analyze, plan, shrink and verify."""

import torch

import fxprune
from tests.wrong_uses import nets
from tests.wrong_uses.table import Wrong

MODELS = (
    Wrong("the class of a model instead of a model", lambda w: fxprune.analyze(nets.Pair, w.x)),
    Wrong("a state dict as the model", lambda w: fxprune.analyze(w.model.state_dict(), w.x)),
    Wrong("the path of a model as the model", lambda w: fxprune.plan("resnet.pt", w.x, 0.5)),
    Wrong("inputs and model in the wrong order", lambda w: fxprune.analyze(w.x, w.model)),
    Wrong("None as the model", lambda w: fxprune.verify(None, w.model, w.plan)),
)

PLAN = (
    Wrong("a ratio of 1", lambda w: fxprune.plan(w.model, w.x, 1)),
    Wrong("a ratio in percent", lambda w: fxprune.plan(w.model, w.x, 50)),
    Wrong("a negative ratio", lambda w: fxprune.plan(w.model, w.x, ratio=-0.1)),
    Wrong("a ratio of NaN", lambda w: fxprune.plan(w.model, w.x, float("nan"))),
    Wrong("a ratio as a text", lambda w: fxprune.plan(w.model, w.x, "0.5")),
    Wrong("a ratio before the inputs", lambda w: fxprune.plan(w.model, 0.5, w.x)),
    Wrong(
        "a ratio by position after an analysis",
        lambda w: fxprune.plan(fxprune.analyze(w.model, w.x), 0.5),
    ),
    Wrong("a dict as the ratio", lambda w: fxprune.plan(w.model, w.x, {"0": 0.5})),
    Wrong("one number as ratios", lambda w: fxprune.plan(w.model, w.x, ratios=0.5)),
    Wrong("ratios by number of layer", lambda w: fxprune.plan(w.model, w.x, ratios={0: 0.5})),
    Wrong(
        "a ratio for a pattern that matches nothing",
        lambda w: fxprune.plan(w.model, w.x, ratios={"layer1.*": 0.5}),
    ),
    Wrong("a ratio for a pinned group", lambda w: fxprune.plan(w.model, w.x, ratios={"4": 0.5})),
    Wrong("an unknown criterion", lambda w: fxprune.plan(w.model, w.x, 0.5, criterion="taylor")),
    Wrong("an unknown scope", lambda w: fxprune.plan(w.model, w.x, 0.5, scope="layer")),
    Wrong("a ratio and a threshold", lambda w: fxprune.plan(w.model, w.x, 0.5, threshold=0.1)),
    Wrong(
        "a strategy with a misspelt option",
        lambda w: fxprune.plan(w.model, w.x, strategies={"0": {"ration": 0.5}}),
    ),
    Wrong("a strategy as a number", lambda w: fxprune.plan(w.model, w.x, strategies={"0": 0.5})),
    Wrong("a ratio above the largest", lambda w: fxprune.plan(w.model, w.x, 0.5, max_ratio=0.25)),
    Wrong(
        "a global ratio that cannot be",
        lambda w: fxprune.plan(w.model, w.x, 0.9, scope="global", min_channels=4),
    ),
    Wrong(
        "channels to go and to stay",
        lambda w: fxprune.plan(w.model, w.x, channels={"0": [1]}, keep={"0": [1]}),
    ),
    Wrong(
        "channels that leave no multiple",
        lambda w: fxprune.plan(w.model, w.x, channels={"0": [1]}, round_to=4),
    ),
    Wrong("rounding to 0", lambda w: fxprune.plan(w.model, w.x, 0.5, round_to=0)),
    Wrong(
        "a seed of 5,000 digits",
        lambda w: fxprune.plan(w.model, w.x, 0.5, criterion="random", seed=10**5000),
    ),
    Wrong("a switch as a text", lambda w: fxprune.plan(w.model, w.x, 0.5, heads="yes")),
    Wrong("one name to ignore, not in a list", lambda w: fxprune.plan(w.model, w.x, ignore="0")),
    Wrong("a module to ignore", lambda w: fxprune.plan(w.model, w.x, ignore=[w.model[0]])),
    Wrong(
        "a misspelt module to ignore", lambda w: fxprune.plan(w.model, w.x, ignore=["backbone.*"])
    ),
)

CHANNELS = (
    Wrong("a channel out of range", lambda w: fxprune.plan(w.model, w.x, channels={"0": [8]})),
    Wrong("a negative channel", lambda w: fxprune.plan(w.model, w.x, channels={"0": [-1]})),
    Wrong(
        "a channel of 5,000 digits",
        lambda w: fxprune.plan(w.model, w.x, channels={"0": [10**5000]}),
    ),
    Wrong("all channels", lambda w: fxprune.plan(w.model, w.x, channels={"0": range(8)})),
    Wrong("one channel, not in a list", lambda w: fxprune.plan(w.model, w.x, channels={"0": 3})),
    Wrong("channels as floats", lambda w: fxprune.plan(w.model, w.x, channels={"0": [1.0, 2.0]})),
    Wrong("channels as a text", lambda w: fxprune.plan(w.model, w.x, channels={"0": "1,2"})),
    Wrong(
        "a mask of truth values as channels",
        lambda w: fxprune.plan(w.model, w.x, channels={"0": [True] * 4 + [False] * 4}),
    ),
    Wrong(
        "a boolean tensor as channels",
        lambda w: fxprune.plan(w.model, w.x, channels={"0": torch.arange(8) < 4}),
    ),
    Wrong("channels of an output", lambda w: fxprune.plan(w.model, w.x, channels={"4": [0]})),
    Wrong("channels of an activation", lambda w: fxprune.plan(w.model, w.x, channels={"1": [0]})),
    Wrong(
        "channels of a parameter",
        lambda w: fxprune.plan(w.model, w.x, channels={"0.weight": [0]}),
    ),
    Wrong(
        "channels that are ignored, too",
        lambda w: fxprune.plan(w.model, w.x, channels={"0": [0]}, ignore=["0"]),
    ),
)

SHRINK = (
    Wrong("a ratio as the plan", lambda w: fxprune.shrink(w.model, 0.5, w.x)),
    Wrong("plan and model in the wrong order", lambda w: fxprune.shrink(w.plan, w.model)),
    Wrong("a dict without inputs", lambda w: fxprune.shrink(w.model, {"0": 0.5})),
    Wrong("a dict by module", lambda w: fxprune.shrink(w.model, {w.model[0]: 0.5}, w.x)),
    Wrong("a dict with a text", lambda w: fxprune.shrink(w.model, {"0": "half"}, w.x)),
    Wrong("a misspelt name in a dict", lambda w: fxprune.shrink(w.model, {"O": 0.5}, w.x)),
    Wrong("an unknown kind of result", lambda w: fxprune.shrink(w.model, w.plan, emit="onnx")),
    Wrong(
        "a module of a GraphModule",
        lambda w: fxprune.shrink(torch.fx.symbolic_trace(w.model), {"0": 0.5}, w.x, emit="module"),
    ),
)

QUESTIONS = (
    Wrong("a group that is not there", lambda w: fxprune.analyze(w.model, w.x).group("zero")),
    Wrong("why about nothing", lambda w: fxprune.analyze(w.model, w.x).why("layer3.*")),
    Wrong("why by number", lambda w: fxprune.analyze(w.model, w.x).why(0)),
)

ROWS = {
    "The model": MODELS,
    "Making a plan": PLAN,
    "Naming channels": CHANNELS,
    "Shrinking": SHRINK,
    "Asking": QUESTIONS,
}
