"""What an HDF5 file may ask of the reader of version 7.3.

HDF5 is more than MATLAB uses of it: its objects may contain one another in circles, claim more
elements than are stored, lie in other files, or need a filter that the library would load as a
plugin. A damaged or made-up file may do each of it, and a reader that follows runs for hours, asks
for all memory, or reads and runs what is not in the file. So every object and every attribute is
looked at here before it is read. How the library itself finds its way through a damaged file
is left to it.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import h5py
import numpy as np

# What deflate makes of its input at most.
_DEFLATE_RATIO = 1032
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}

# Deeper nesting than any network has; what claims it is damage.
_MOST_LEVELS = 100
# More names of fields, the longest attribute, than a struct of a network has.
_MOST_IN_ATTRIBUTE = 1 << 16


class Item:
    """A group or dataset, by HDF5's own functions: h5py's objects take several times as long.

    Attributes
    ----------
    id : h5py.h5g.GroupID or h5py.h5d.DatasetID
    attributes : dict of str to value

    Raises
    ------
    ValueError
        If it is neither, or an attribute says that it has more elements than any has.
    """

    def __init__(self, id: Any):
        if not isinstance(id, (h5py.h5g.GroupID, h5py.h5d.DatasetID)):
            raise ValueError(f"a {type(id).__name__}, which MATLAB does not write")
        self.id = id
        self.attributes = dict(map(self._attribute, range(h5py.h5a.get_num_attrs(id))))

    def _attribute(self, index: int) -> tuple[str, Any]:
        attribute = h5py.h5a.open(self.id, index=index)
        name, shape, dtype = attribute.name.decode("ascii"), attribute.shape, attribute.dtype
        if math.prod(shape) > _MOST_IN_ATTRIBUTE:
            raise ValueError(f"the attribute {name} of {math.prod(shape)} elements")
        value = np.empty(shape, dtype)
        attribute.read(value)
        return name, value if shape else value[()]

    @property
    def is_group(self) -> bool:
        """Whether it is a group."""
        return isinstance(self.id, h5py.h5g.GroupID)

    @property
    def class_name(self) -> str:
        """The MATLAB class; empty if none is told."""
        value = self.attributes.get("MATLAB_class", b"")
        return value.decode("ascii") if isinstance(value, bytes) else str(value)

    @property
    def is_empty(self) -> bool:
        """Whether it is an empty array."""
        return not self.is_group and bool(self.attributes.get("MATLAB_empty", 0))

    @cached_property
    def holds_references(self) -> bool:
        """Whether it is a dataset of references."""
        return not self.is_group and h5py.check_ref_dtype(self.id.dtype) is not None

    def names(self) -> list[str]:
        """The names of the members of a group."""
        return [name.decode("utf-8") for name in self.id]

    def member(self, name: str) -> Item:
        """A member of a group.

        Raises
        ------
        ValueError
            If it is a link to another place or file.
        """
        key = name.encode("utf-8")
        if self.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{name!r} is a link, which MATLAB does not write")
        return Item(h5py.h5o.open(self.id, key))

    def referenced(self) -> list[Item]:
        """What the references of a dataset point at, in C order.

        Raises
        ------
        ValueError
            If one points nowhere, or is none.
        """
        references = self.content().ravel().tolist()
        if not all(isinstance(r, h5py.h5r.Reference) and r for r in references):
            raise ValueError("a reference that points nowhere")
        return [Item(h5py.h5r.dereference(reference, self.id)) for reference in references]

    def content(self) -> np.ndarray:
        """The array of a dataset.

        Raises
        ------
        ValueError
            If it says that it has more elements than are stored, they lie in another file, or
            they are of a type or behind a filter that MATLAB does not use.
        """
        if self.is_group:
            raise ValueError("a group where an array should be")
        shape, dtype = self.id.shape, self.id.dtype
        _check_type(dtype)
        stored = self.id.get_storage_size()
        properties = self.id.get_create_plist()
        layout = properties.get_layout()
        if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
            raise ValueError("a dataset whose elements lie in another file")
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if not filters <= _FILTERS:
            raise ValueError(f"a dataset behind the filters {sorted(filters)}, not MATLAB's")
        most = stored * (_DEFLATE_RATIO if h5py.h5z.FILTER_DEFLATE in filters else 1)
        count = math.prod(shape)
        if count and layout == h5py.h5d.CHUNKED:
            count = max(count, math.prod(properties.get_chunk()))
        if count * dtype.itemsize > most:
            raise ValueError(
                f"a dataset of {count} elements of {dtype}, of which {stored} bytes are stored"
            )
        array = np.empty(shape, dtype)
        if array.size:
            self.id.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return array


def _check_type(dtype: np.dtype) -> None:
    """Raise ValueError if MATLAB has no arrays of the type: it has numbers and references."""
    parts = [dtype[i] for i in range(len(dtype.names or ()))] or [dtype]
    if h5py.check_ref_dtype(dtype) is h5py.h5r.Reference:
        return
    if any(part.kind not in "biufS" or part.shape for part in parts):
        raise ValueError(f"a dataset of the type {dtype}, which MATLAB does not write")


class Tree:
    """The objects that were reached: in a file of MATLAB's each belongs to one place.

    An empty array alone may stand in many: MATLAB writes one for all.
    """

    def __init__(self):
        self._seen: set[int] = set()
        self._level = 0

    def enter(self, item: Item) -> None:
        """Note an object that is read now.

        Raises
        ------
        ValueError
            If it was read before, or lies too deep.
        """
        self._level += 1
        if self._level > _MOST_LEVELS:
            raise ValueError("structs and cells are nested without end")
        if item.is_empty:
            return
        address = h5py.h5o.get_info(item.id).addr
        if address in self._seen:
            raise ValueError(f"the object at byte {address} stands in two places, or in itself")
        self._seen.add(address)

    def leave(self) -> None:
        """Note that it was read."""
        self._level -= 1
