"""Small ONNX graphs, written without the library: messages of protobuf, fields as onnx.proto numbers them."""

from collections.abc import Sequence

FLOAT, UINT8, FLOAT16 = 1, 2, 10


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        byte, value = value & 127, value >> 7
        out.append(byte | (128 if value else 0))
        if not value:
            return bytes(out)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto."""
    dims = b"".join(_field(1, _field(1, d) if isinstance(d, int) else _field(2, d)) for d in shape)
    tensor = _field(1, kind) + _field(2, dims)
    return _field(1, name) + _field(2, _field(1, tensor))


def _ints(name: str, values: Sequence[int]) -> bytes:
    return _field(1, name) + b"".join(_field(8, v) for v in values) + _field(20, 7)


def _int(name: str, value: int) -> bytes:
    return _field(1, name) + _field(3, value) + _field(20, 2)


def _node(op: str, source: str, target: str, *attributes: bytes) -> bytes:
    return _field(1, source) + _field(2, target) + _field(4, op) + b"".join(_field(5, a) for a in attributes)


def mean_of_rows(
    shape: Sequence[int | str],
    kind: int = FLOAT,
    axes: Sequence[int] = (2,),
    outputs: Sequence[str] = ("embedding",),
) -> bytes:
    """A graph that averages pictures over `axes` and lays the rest flat: [batch, the rest].

    The first of `outputs` is the picture as it came, where there are two; the last the average.
    """
    nodes = [
        _node("Cast", "picture", "numbers", _int("to", FLOAT)),
        _node("ReduceMean", "numbers", "means", _ints("axes", axes), _int("keepdims", 0)),
        _node("Flatten", "means", outputs[-1], _int("axis", 1)),
    ]
    given = [_value(outputs[-1], FLOAT, [shape[0], "dim"])]
    if len(outputs) > 1:
        nodes.append(_node("Identity", "numbers", outputs[0]))
        given.insert(0, _value(outputs[0], FLOAT, list(shape)))
    graph = b"".join(_field(1, n) for n in nodes) + _field(2, "g")
    graph += _field(11, _value("picture", kind, shape)) + b"".join(_field(12, g) for g in given)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
