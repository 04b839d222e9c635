"""What functions of torch compute where removed elements do not count, family by family."""

from fuzz.meanings import (
    attention,
    convolution,
    movement,
    normalization,
    places,
    pointwise,
    products,
    reduction,
    windows,
)

__all__ = [
    "attention",
    "convolution",
    "movement",
    "normalization",
    "places",
    "pointwise",
    "products",
    "reduction",
    "windows",
]
