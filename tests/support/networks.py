"""The networks of the shipped files, without the nodes that turn pixels into planes and back."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def with_weights(path: Path) -> bytes:
    """A shipped file with the weights that it does not hold itself."""
    data: bytes = onnx.load(path).SerializeToString()
    return data


def network(model: bytes) -> onnx.ModelProto:
    """A file without its ends, between which it works on planes, (n, 3, height, width) of 0..1."""
    proto = onnx.load_from_string(model)
    *_, planes = first = proto.graph.node[:3]  # of tools.convert.pixels
    assert [node.op_type for node in first] == ["Transpose", "Cast", "Div"]
    last = proto.graph.node[-6:] if proto.graph.output[0].name == "upscaled" else []
    kept = list(proto.graph.node[3 : len(proto.graph.node) - len(last)])
    del proto.graph.node[:], proto.graph.input[:]
    proto.graph.input.append(helper.make_tensor_value_info(planes.output[0], TensorProto.FLOAT, ("n", 3, "y", "x")))
    if last:
        ends = [numpy_helper.from_array(np.float32(value), name) for name, value in (("black", 0), ("lit", 1))]
        proto.graph.initializer.extend(ends)
        kept.append(helper.make_node("Clip", [last[0].input[0], "black", "lit"], ["clipped"]))
        del proto.graph.output[:]
        proto.graph.output.append(helper.make_tensor_value_info("clipped", TensorProto.FLOAT, ("n", 3, "Y", "X")))
    proto.graph.node.extend(kept)
    return proto
