"""Writing of golden files, for tests of what reads them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import scipy.io

CLASSES = {"float32": "single", "float64": "double", "bool": "logical"}


def matlab(array: Any) -> np.ndarray:
    """(N, C, H, W) as MATLAB's (H, W, C, N); filters likewise."""
    return np.asarray(array).transpose(2, 3, 1, 0)


def content(cases: dict[str, tuple[str, dict, dict]], note: str = "") -> dict[str, Any]:
    """Variables of a golden file.

    Parameters
    ----------
    cases : dict of (function, options, arrays)
        Arrays in MATLAB's axes, by field name; complex ones are stored in two variables.
    """
    variables, meta = {}, []
    for name, (function, options, arrays) in cases.items():
        entry = {"name": name, "func": function, "note": note, "opts": options}
        entry["fields"] = list(arrays)
        for field, array in arrays.items():
            array = np.asarray(array)
            entry[f"{field}_size"] = [*array.shape, 1, 1, 1, 1][: max(4, array.ndim)]
            entry[f"{field}_class"] = CLASSES.get(array.dtype.name, array.dtype.name)
            # MATLAB keeps no trailing axes of length 1, and two axes at least.
            shape = list(array.shape)
            while len(shape) > 2 and shape[-1] == 1:
                shape.pop()
            shape += [1] * (2 - len(shape))
            array = array.reshape(shape, order="F")
            if np.iscomplexobj(array):
                variables[f"{name}__{field}_re"] = array.real
                variables[f"{name}__{field}_im"] = array.imag
            else:
                variables[f"{name}__{field}"] = array
        meta.append(entry)
    return {**variables, "meta_json": json.dumps(meta)}


def write_golden(path: Any, cases: dict[str, tuple[str, dict, dict]], note: str = "") -> None:
    """Write a golden file of version 5."""
    scipy.io.savemat(path, content(cases, note))


def read_variables(path: Any) -> dict[str, Any]:
    """A file's variables, to be changed and saved again."""
    return {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}


def rename_cases(source: Any, target: Any, rename: Any) -> None:
    """Copy a golden file with other names for its cases."""
    variables = read_variables(source)
    meta = json.loads(str(variables.pop("meta_json")[0]))
    renamed = {}
    for entry in meta:
        old, entry["name"] = entry["name"], rename(entry["name"])
        for field in entry["fields"]:
            for end in ("", "_re", "_im"):
                if f"{old}__{field}{end}" in variables:
                    value = variables[f"{old}__{field}{end}"]
                    renamed[f"{entry['name']}__{field}{end}"] = value
    scipy.io.savemat(target, {**renamed, "meta_json": json.dumps(meta)}, do_compression=True)
