"""Circulant matrices, dense: what RLR and CirConv are without any Fourier transform."""

from __future__ import annotations

import numpy as np


def circulant(plane: np.ndarray) -> np.ndarray:
    """``C(x)`` with ``C(x) r`` = the circular convolution of ``x`` and ``r``, both as vectors.

    Of a plane (H, W) the block-circulant matrix (H W, H W) with circulant blocks,
    ``C[(i, j), (p, q)] = x[i - p mod H, j - q mod W]``; of H x 1 or 1 x W the circulant matrix.
    """
    height, width = plane.shape
    rows, columns = np.divmod(np.arange(plane.size), width)
    return plane[
        (rows[:, None] - rows[None, :]) % height, (columns[:, None] - columns[None, :]) % width
    ]


def circulant_adjoint(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Derivative by ``x`` from that by ``C(x)``: the sum over all places of each ``x[k]``."""
    height, width = shape
    rows, columns = np.divmod(np.arange(height * width), width)
    result = np.zeros(shape)
    places = (
        (rows[:, None] - rows[None, :]) % height,
        (columns[:, None] - columns[None, :]) % width,
    )
    np.add.at(result, places, matrix)
    return result


def dft_matrix(shape: tuple[int, int]) -> np.ndarray:
    """``F``: ``F x`` is the unnormalised 2-D DFT of a plane ``x``, as vectors; ``F F^H = n I``."""

    def one(size):
        k = np.arange(size)
        return np.exp(-2j * np.pi * np.outer(k, k) / size)

    return np.kron(one(shape[0]), one(shape[1]))


def solve(x: np.ndarray, y: np.ndarray, lam: float) -> np.ndarray:
    """``(C(x)' C(x) + lam I)^-1 C(x)' y`` for planes x, y (H, W): the linear solve of Eq. 15."""
    c = circulant(x)
    normal = c.T @ c + lam * np.eye(x.size)
    return np.linalg.solve(normal, c.T @ y.ravel()).reshape(x.shape)


def solve_backward(
    x: np.ndarray, y: np.ndarray, lam: float, der: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Derivatives of ``solve`` by x, y and lam, by matrices alone.

    With ``A = C'C + lam I``, ``r = A^-1 C'y``, ``v = A^-1 G``: ``dr = A^-1 (dC'(y - C r) + C'dy -
    C'dC r - dlam r)``, so ``G_C = (y - C r) v' - C v r'``, ``G_y = C v`` and ``G_lam = -v'r``.
    """
    c = circulant(x)
    normal = c.T @ c + lam * np.eye(x.size)
    r = np.linalg.solve(normal, c.T @ y.ravel())
    v = np.linalg.solve(normal, der.ravel())
    der_c = np.outer(y.ravel() - c @ r, v) - np.outer(c @ v, r)
    return circulant_adjoint(der_c, x.shape), (c @ v).reshape(x.shape), -v @ r
