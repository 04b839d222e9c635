"""Pictures of models: what is coupled to what, what must stay and why, what a plan removes."""

from fxprune.drawing.building import picture_of
from fxprune.drawing.dot_writing import dot_of
from fxprune.drawing.drawings import check_picture, draw
from fxprune.drawing.pictures import (
    Level,
    Picture,
    PictureEdge,
    PictureGroup,
    PictureNode,
    Value,
)

__all__ = [
    "Level",
    "Picture",
    "PictureEdge",
    "PictureGroup",
    "PictureNode",
    "Value",
    "check_picture",
    "dot_of",
    "draw",
    "picture_of",
]
