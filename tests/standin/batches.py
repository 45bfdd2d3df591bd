"""Batches for the shipped files, for programs over the stand-ins."""

from importlib import resources
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from penstock.models.onnxruntime.session import ModelFile


def blank(file: ModelFile, tiles: int, height: int, width: int) -> NDArray[Any]:
    """A batch of black tiles in the type and the order of axes that the file takes."""
    contents = (resources.files("penstock.weights") / file.file).read_bytes()
    taken = onnx.load_from_string(contents).graph.input[0].type.tensor_type
    colours_last = taken.shape.dim[3].dim_value == 3
    shape = (tiles, height, width, 3) if colours_last else (tiles, 3, height, width)
    return np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(taken.elem_type))
