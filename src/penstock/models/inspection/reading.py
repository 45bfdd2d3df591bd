"""Reads an ONNX file within limits, and refuses what a file of other origin must not do.

Refused are operators that are no part of ONNX Runtime, weights outside of the file's folder, and files that are larger
or deeper than any network. The runtime itself refuses some of this, in some of its versions.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import
from penstock.models.declared.document import InvalidModel, is_plain_name
from penstock.models.inspection.graph import Graph, GraphTensor, Node

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from onnx import numpy_helper
else:
    np = lazy_import("numpy")
    onnx = lazy_import("onnx")
    numpy_helper = lazy_import("onnx.numpy_helper")

LARGEST_BYTES = 2**31 - 1
"""No protobuf message is larger; larger networks keep their weights in files beside the graph."""
MOST_NODES = 200_000
DEEPEST = 16
"""Levels of subgraphs: bodies of `If` and `Loop` inside one another."""
MOST_METADATA_BYTES = 4 * 1024 * 1024
LARGEST_CONSTANT = 4
LARGEST_KERNEL_BYTES = 4 * 1024 * 1024

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"})
"""Domains whose operators are built into ONNX Runtime."""
REFUSED = frozenset({"EPContext", "ATen", "PyOp", "PythonOp"})
"""Built-in operators that load other files or run other code."""

DTYPES = {
    "FLOAT": "float32", "FLOAT16": "float16", "DOUBLE": "float64", "UINT8": "uint8", "INT8": "int8",
    "UINT16": "uint16", "INT16": "int16", "UINT32": "uint32", "INT32": "int32", "UINT64": "uint64",
    "INT64": "int64", "BOOL": "bool",
}  # fmt: skip


def read_graph(path: Path) -> Graph:
    """Read the graph of an ONNX file. Raises InvalidModel with one line."""
    proto = _parsed(path)
    graph = proto.graph
    if not graph.node or not graph.output:
        raise InvalidModel("it has no graph: it is no ONNX file, or an empty one")
    _refuse_foreign_code(proto)
    _refuse_endless_functions(proto)
    external = _external_files(proto, path.parent)
    constants = _constants(graph)
    return Graph(
        inputs=tuple(_port(value) for value in graph.input if value.name not in constants),
        outputs=tuple(_port(value) for value in graph.output),
        nodes=tuple(_node(node, constants) for node in graph.node),
        metadata=_metadata(proto),
        producer=_text(proto.producer_name)[:100],
        external=external,
    )


def _parsed(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InvalidModel("it is no file")
        if size > LARGEST_BYTES:
            raise InvalidModel("it has more than 2 GiB; keep the weights in a file beside the graph (external data)")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"it cannot be read: {error.strerror}") from error
    if data.startswith(b"version https://git-lfs"):
        raise InvalidModel("it is a pointer of Git LFS, not the file; fetch it with `git lfs pull`")
    parse = onnx.ModelProto.FromString  # outside of `try`: the package may not be there
    try:
        return parse(data)
    except Exception as error:  # protobuf's own class depends on its implementation
        raise InvalidModel("it is no ONNX file, or it is damaged") from error


def _refuse_foreign_code(proto: Any) -> None:
    local = {(function.domain, function.name) for function in proto.functions}
    for count, node in enumerate(_all_nodes(proto)):
        if count >= MOST_NODES:
            raise InvalidModel(f"it has more than {MOST_NODES} nodes")
        domain, operator = _text(node.domain), _text(node.op_type)
        if (domain, operator) in local:
            continue
        if domain not in DOMAINS or operator in REFUSED:
            where = f" of {domain[:60]!r}" if domain else ""
            raise InvalidModel(
                f"it uses the operator {operator[:60]!r}{where}, which is no part of ONNX Runtime: "
                "custom operators run code of their own and are refused"
            )


def _refuse_endless_functions(proto: Any) -> None:
    """The runtime writes each call of a function out: thirty that call the next one twice are a billion nodes."""
    bodies = {(function.domain, function.name): function.node for function in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def written_out(nodes: Any) -> int:
        return sum(size_of((node.domain, node.op_type)) for node in _nodes_in(nodes))

    def size_of(called: tuple[str, str]) -> int:
        if called not in bodies:
            return 1
        if called not in sizes:
            sizes[called] = MOST_NODES + 1  # as long as it is not known: one that calls itself has no end
            sizes[called] = written_out(bodies[called])
        return sizes[called]

    if bodies and written_out(proto.graph.node) > MOST_NODES:
        raise InvalidModel(f"it has more than {MOST_NODES} nodes when its functions are written out")


def _all_nodes(proto: Any) -> Iterator[Any]:
    """Every node, also of subgraphs and functions."""
    return _nodes_in(proto.graph.node, *(function.node for function in proto.functions))


def _nodes_in(*lists: Any) -> Iterator[Any]:
    stack = [(nodes, 1) for nodes in lists]
    while stack:
        nodes, depth = stack.pop()
        if depth > DEEPEST:
            raise InvalidModel(f"it has subgraphs more than {DEEPEST} levels deep")
        for node in nodes:
            yield node
            stack += [(graph.node, depth + 1) for graph in _subgraphs(node)]


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _external_files(proto: Any, folder: Path) -> tuple[str, ...]:
    """Names of the files with weights. Raises InvalidModel for any that is not a plain file in the same folder."""
    found: list[str] = []
    tensors = _external(_all_tensors(proto))
    for tensor in tensors:
        entries = {_text(entry.key): _text(entry.value) for entry in tensor.external_data}
        name = entries.get("location", "")
        if name not in found:
            _refuse_outside(name, folder)
            found.append(name)
        _refuse_beyond_end(entries, folder / name)
    if len(tensors) > len(_external(_tensors_of(proto.graph))):
        raise InvalidModel(
            "weights of a subgraph (the body of an If or a Loop) are in another file: keep them in this one"
        )
    return tuple(found)


def _external(tensors: Iterable[Any]) -> list[Any]:
    return [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]


def _all_tensors(proto: Any) -> Iterator[Any]:
    """Those of the graph, of its subgraphs, and of functions."""
    yield from _tensors_of(proto.graph)
    for node in chain.from_iterable(function.node for function in proto.functions):
        yield from _attributes_of(node)
    for node in _all_nodes(proto):
        for graph in _subgraphs(node):
            yield from _tensors_of(graph)


def _tensors_of(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    yield from _parts(graph.sparse_initializer)
    for node in graph.node:
        yield from _attributes_of(node)


def _attributes_of(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        yield from _parts((attribute.sparse_tensor, *attribute.sparse_tensors))


def _parts(sparse: Any) -> Iterator[Any]:
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _refuse_outside(name: str, folder: Path) -> None:
    if not is_plain_name(name):
        raise InvalidModel(f"its weights are in {name[:100]!r}: only a file beside it, in the same folder, is read")
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise InvalidModel(f"its weights are in {name!r}, which is no file beside it; links are not followed")


def _refuse_beyond_end(entries: dict[str, str], path: Path) -> None:
    numbers = [entries.get(key) or "0" for key in ("offset", "length")]
    if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
        raise InvalidModel(f"it reads {path.name!r} at a place that is no number")
    if sum(map(int, numbers)) > path.stat().st_size:
        raise InvalidModel(f"it reads beyond the end of {path.name!r}: the file is cut off, or another one")


def _metadata(proto: Any) -> dict[str, str]:
    found = {_text(entry.key): _text(entry.value) for entry in proto.metadata_props}
    if sum(len(key) + len(value) for key, value in found.items()) > MOST_METADATA_BYTES:
        raise InvalidModel(f"it has more than {MOST_METADATA_BYTES // 2**20} MiB of metadata")
    return found


def _port(value: Any) -> GraphTensor:
    if value.type.WhichOneof("value") != "tensor_type":
        return GraphTensor(name=_text(value.name), dtype="other", dims=None)
    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in _dtype_numbers() else ""
    dims = tuple(_dimension(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
    return GraphTensor(name=_text(value.name), dtype=DTYPES.get(name, "other"), dims=dims)


def _text(value: str | bytes) -> str:
    """A text of the file; protobuf gives bytes for one that is not UTF-8."""
    if isinstance(value, bytes):
        raise InvalidModel(f"a name in it is no text ({value[:40]!r}): it is damaged")
    return value


@cache
def _dtype_numbers() -> set[int]:
    return set(onnx.TensorProto.DataType.values())


def _dimension(dim: Any) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value > 0 else None  # some exporters write -1 or 0 for any length
    return _text(dim.dim_param) or None


def _constants(graph: Any) -> dict[str, Any]:
    """The tensors that are part of the file, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _node(node: Any, constants: dict[str, Any]) -> Node:
    known = {name: constants[name] for name in node.input if name in constants}
    small = {name: numbers for name, tensor in known.items() if (numbers := _numbers(tensor)) is not None}
    kernel = known.get(node.input[1]) if node.op_type == "Conv" and len(node.input) > 1 else None
    return Node(
        op=_text(node.op_type),
        inputs=tuple(map(_text, node.input)),
        outputs=tuple(map(_text, node.output)),
        constants=small,
        kernel_channels=kernel.dims[1] if kernel is not None and len(kernel.dims) == 4 else None,
        kernel_norm=None if kernel is None else _kernel_norm(kernel),
    )


def _numbers(tensor: Any) -> tuple[float, ...] | None:
    """The values of a tensor with few of them."""
    array = _array(tensor, LARGEST_CONSTANT * 8)
    if array is None or array.size > LARGEST_CONSTANT or array.dtype.kind not in "fiub":
        return None
    return tuple(map(float, array.ravel()))


def _kernel_norm(tensor: Any) -> float | None:
    array = _array(tensor, LARGEST_KERNEL_BYTES)
    if array is None or array.ndim != 4 or not array.size or array.dtype.kind != "f":
        return None
    if not np.isfinite(array).all():
        return None
    kernels = array.astype(np.float64).reshape(len(array), -1)
    return float(statistics.median(np.sqrt((kernels**2).sum(axis=1)).tolist()))


def _array(tensor: Any, most_bytes: int) -> Any:
    """A tensor as an array; None for one that is larger, that stands in another file, or is damaged."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.ByteSize() > most_bytes + 1024:
        return None
    if tensor.data_type not in _dtype_numbers() or any(d < 0 for d in tensor.dims):
        return None
    try:
        return numpy_helper.to_array(tensor)
    except Exception:  # noqa: BLE001 - whatever a damaged tensor raises; the runtime says it when it loads the file
        return None
