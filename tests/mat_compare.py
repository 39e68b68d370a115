"""Comparison of ``.mat`` files field by field, with SciPy's and h5py's own readings."""

from __future__ import annotations

import h5py
import numpy as np
import scipy.io


def assert_same_mat(path, expected):
    """Both files hold the same variables: classes, sizes, values, fields and their order."""
    if h5py.is_hdf5(path) or h5py.is_hdf5(expected):
        with h5py.File(path) as found, h5py.File(expected) as wanted:
            names = {n for n in wanted if n != "#refs#"}
            assert {n for n in found if n != "#refs#"} == names
            for name in names:
                _same_item(found[name], wanted[name], name)
        return
    found, wanted = (scipy.io.loadmat(p, mat_dtype=True) for p in (path, expected))
    names = [n for n in wanted if not n.startswith("__")]
    assert sorted(n for n in found if not n.startswith("__")) == sorted(names)
    for name in names:
        _same_value(found[name], wanted[name], name)


def _same_value(found, wanted, where):
    assert found.shape == wanted.shape, where
    if wanted.dtype.names is not None:
        assert found.dtype.names == wanted.dtype.names, where
        for i in np.ndindex(wanted.shape):
            for name in wanted.dtype.names:
                _same_value(found[i][name], wanted[i][name], f"{where}{list(i)}.{name}")
    elif wanted.dtype == object:
        assert found.dtype == object, where
        for i in np.ndindex(wanted.shape):
            if wanted[i] is not None:  # a struct without fields
                _same_value(found[i], wanted[i], f"{where}{list(i)}")
    else:
        assert found.dtype == wanted.dtype, where
        assert np.array_equal(found, wanted), where


def _attributes(item):
    return {
        name: value.tolist() if isinstance(value, np.ndarray) and value.dtype != object else value
        for name, value in item.attrs.items()
        if name not in ("MATLAB_fields", "H5PATH")
    }


def _fields(item):
    names = item.attrs.get("MATLAB_fields", ())
    return ["".join(c.decode() for c in name) for name in names]


def _same_item(found, wanted, where):
    assert type(found) is type(wanted), where
    assert _attributes(found) == _attributes(wanted), where
    if isinstance(wanted, h5py.Group):
        assert _fields(found) == _fields(wanted), where
        assert set(found) == set(wanted), where
        for name in wanted:
            _same_item(found[name], wanted[name], f"{where}.{name}")
        return
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), where
    if h5py.check_ref_dtype(wanted.dtype) is None:
        assert np.array_equal(found[()], wanted[()]), where
        return
    for i, (a, b) in enumerate(zip(found[()].ravel(), wanted[()].ravel(), strict=True)):
        _same_item(found.file[a], wanted.file[b], f"{where}{{{i}}}")
