"""The steps that programs are made of, family by family; importing them registers them."""

from fuzz.steps import (
    attention,
    channels,
    gates,
    joins,
    layers,
    movement,
    places,
    rare,
    recurrent,
    reductions,
    shapes,
    tokens,
    weights,
)

__all__ = [
    "attention",
    "channels",
    "gates",
    "joins",
    "layers",
    "movement",
    "places",
    "rare",
    "recurrent",
    "reductions",
    "shapes",
    "tokens",
    "weights",
]
