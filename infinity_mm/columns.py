"""Arrow columns of 16-byte ids as numpy arrays (N×16 uint8), without a copy where they lie in one piece."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.schema import ID, ID_BYTES


def one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def id_rows(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """An id column as N×16 uint8."""
    array = one_chunk(column)
    flat = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    return flat[array.offset * ID_BYTES : (array.offset + len(array)) * ID_BYTES].reshape(-1, ID_BYTES)


def id_array(rows: np.ndarray) -> pa.Array:
    """The inverse of `id_rows`."""
    return pa.FixedSizeBinaryArray.from_buffers(ID, len(rows), [None, pa.py_buffer(rows.tobytes())])


def media_of(table: pa.Table | pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """All media of a table's samples: the row each belongs to (int64), and the ids."""
    media = one_chunk(table.column("media"))
    lengths = np.asarray(pc.list_value_length(media)) if len(media) else np.zeros(0, np.int64)
    return np.repeat(np.arange(len(media)), lengths), id_rows(media.flatten())


def among(ids: np.ndarray, wanted: frozenset[bytes] | set[bytes]) -> np.ndarray:
    """Which ids are in a set (bool)."""
    named = np.array(sorted(wanted), f"S{ID_BYTES}")
    mask: np.ndarray = np.isin(np.ascontiguousarray(ids).view(f"S{ID_BYTES}").ravel(), named)
    return mask
