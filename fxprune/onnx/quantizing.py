"""`quantize`: ONNX files with weights, and activations, of 8 bits."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from fxprune.errors import FxPruneError, InputError, in_one_line
from fxprune.files import put_in_place
from fxprune.importance.processes import refuse_others
from fxprune.onnx.runtime import Array, Session, feed_of, quiet


def quantize(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str],
    calibration: Iterable[Any] | None = None,
) -> Path:
    """The same network with 8-bit integers, by ONNX Runtime's quantizer.

    With calibration inputs it is *static*: weights, for each channel, and activations are of 8
    bits, with ranges that were seen on these inputs (QDQ format). Without, it is *dynamic*: weights
    are of 8 bits, and the range of activations is measured at every call. Static is the one for
    convolutions, dynamic for transformers and recurrent networks. Activations are
    unsigned: for those ONNX Runtime has fast operators on x86. The file is written whole or not
    at all, once ONNX Runtime can load it.

    Args:
        path_in: an ONNX file of floats, such as `export` writes.
        path_out: the file to write.
        calibration: the inputs of some calls, some hundred that are like those in use: for each
            call a tensor or array, a tuple of them, or a dict by name.

    Returns:
        The path of the file.

    Raises:
        InputError: the file cannot be read or quantized; there are no calibration inputs in what
            was given, or they do not fit; or this process of `torch.distributed` is not the first.
        FxPruneError: the file cannot be written.
    """
    if calibration is not None:
        refuse_others(
            "calibration inputs are given",
            "the ranges of activations are those of the inputs that one process has",
            "gather the inputs (dist.gather_object), and quantize in the process of rank 0",
        )
    names = Session(path_in).inputs  # so a broken file is named as such
    target = Path(path_out)
    reader = None if calibration is None else _Calibration(calibration, names)
    with tempfile.TemporaryDirectory(prefix="fxprune-") as folder:
        ready, draft = Path(folder, "ready.onnx"), Path(folder, "int8.onnx")
        try:
            with quiet():
                quant_pre_process(path_in, ready)
                if reader is None:
                    quantize_dynamic(ready, draft, weight_type=QuantType.QUInt8)
                else:
                    quantize_static(
                        ready,
                        draft,
                        reader,
                        quant_format=QuantFormat.QDQ,
                        per_channel=True,
                        activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8,
                    )
        except FxPruneError:
            raise
        except Exception as error:
            raise InputError(
                f"ONNX Runtime cannot quantize {path_in}",
                why=in_one_line(error),
                hint="pass a network of floats that is not quantized yet",
            ) from error
        Session(draft)
        put_in_place(draft, target)
    return target


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # it has no annotations
    """Inputs of calls, one by one, as the quantizer asks for them."""

    def __init__(self, calls: Iterable[Any], names: tuple[str, ...]) -> None:
        self._feeds: Iterator[dict[str, Array]] = (feed_of(call, names) for call in calls)
        self._any = False

    def get_next(self) -> dict[str, Array] | None:
        """The next call, or None.

        Raises:
            InputError: there was none at all.
        """
        feed = next(self._feeds, None)
        if feed is None and not self._any:
            raise InputError("there are no calibration inputs", hint="pass some, or None")
        self._any = True
        return feed
