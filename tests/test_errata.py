"""Printed formulas that are wrong, measured against numerical derivatives; see docs/errata.md.

The printed forms live here alone. The derivative is that of a dense matrix product or solve, so the
reference shares nothing with the layers. Vectors of n = 8, notation of the supplement (no window,
lambda itself added).
"""

import re

import numpy as np
import pytest

from circulant import circulant, solve
from dagnet import Context
from dsiam_net.fidelity.original_formulas import sum_w_backward
from golden import ROOT
from layers import RLR, CirConv, Elefusion

N, SEED, LAMBDA = 8, 20171022, 0.5
fft, ifft = np.fft.fft, np.fft.ifft


def error(actual, expected):
    """Relative error in the Euclidean norm, which is the same for a vector and its transform."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def differentiate(function, point, der, step=1e-5):
    """Derivative of ``der . function`` by ``point``, by central differences."""
    result = np.zeros(point.shape)
    for place in np.ndindex(point.shape):
        moved = np.zeros(point.shape)
        moved[place] = step
        result[place] = np.vdot(der, function(point + moved) - function(point - moved)) / (2 * step)
    return result


@pytest.fixture
def data():
    """x, y, r and the derivative g by the layer's output, vectors of n."""
    return np.random.default_rng(SEED).standard_normal((4, N))


def as_tensor(*vectors):
    return [v.reshape(1, 1, N, 1) for v in vectors]


def cir_conv_exact(x, r, g):
    x, r, g = as_tensor(x, r, g)
    layer, lr = CirConv(window="none"), [np.array(1.0)]
    _, saved = layer.forward([x, r], lr, Context())
    return [d.ravel() for d in layer.backward([x, r], lr, [g], saved, Context())[0]]


def rlr_exact(x, y, g):
    x, y, g = as_tensor(x, y, g)
    layer, lam = RLR(window="none", lambda_scale="1"), [np.array(LAMBDA)]
    _, saved = layer.forward([x, y], lam, Context())
    ders, der_params = layer.backward([x, y], lam, [g], saved, Context())
    return [d.ravel() for d in (*ders, *der_params)]


def convolve(x, r):
    return circulant(r[:, None]) @ x


def dense_solve(x, y, lam=LAMBDA):
    return solve(x[:, None], y[:, None], lam)[:, 0]


def spectra(*vectors):
    return [fft(v) for v in vectors]


def check(name, printed, exact, numerical):
    """The exact form is the derivative, the printed one is not, and the page says by how much."""
    off = error(printed, numerical)
    assert error(exact, numerical) < 1e-8
    assert off > 0.1
    assert quoted(name) == pytest.approx(off, abs=0.006)


def quoted(name):
    """The number in the last column of the row of docs/errata.md that starts with ``name``."""
    page = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| {name}"))
    return float(re.search(r"([\d.e-]+) \|$", row).group(1))


def test_equation_12_lost_the_conjugate_of_r(data):
    x, _, r, g = data
    rh, gh = spectra(r, g)
    numerical = differentiate(lambda p: convolve(p, r), x, g)
    check("Eq. 12", ifft(rh * gh).real, cir_conv_exact(x, r, g)[0], numerical)


def test_equation_14_lost_the_conjugate_of_x(data):
    x, _, r, g = data
    xh, gh = spectra(x, g)
    numerical = differentiate(lambda p: convolve(x, p), r, g)
    check("Eq. 14", ifft(xh * gh).real, cir_conv_exact(x, r, g)[1], numerical)


def test_equations_20_and_21_double_one_of_two_wirtinger_derivatives(data):
    """Whichever of the two is kept and doubled, the distance to their sum is the same."""
    x, y, _, g = data
    xh, yh, gh = spectra(x, y, g)
    u = 1 / (np.abs(xh) ** 2 + LAMBDA)
    by_xh = -(u**2) * xh**2 * yh.conj() * gh
    by_conjugate = LAMBDA * u**2 * yh * gh.conj()
    exact = rlr_exact(x, y, g)[0]
    numerical = differentiate(lambda p: dense_solve(p, y), x, g)
    for kept in (by_xh, by_conjugate):
        check("Eq. 20, 21", ifft(2 * kept).real, exact, numerical)
    assert error(ifft(by_xh + by_conjugate).real, numerical) < 1e-8


def test_equation_23_has_a_conjugate_too_many(data):
    x, y, _, g = data
    xh, gh = spectra(x, g)
    u = 1 / (np.abs(xh) ** 2 + LAMBDA)
    numerical = differentiate(lambda p: dense_solve(x, p), y, g)
    check("Eq. 23", ifft(u * xh.conj() * gh).real, rlr_exact(x, y, g)[1], numerical)


def test_equation_26_is_right(data):
    x, y, _, g = data
    xh, yh, gh = spectra(x, y, g)
    u = 1 / (np.abs(xh) ** 2 + LAMBDA)
    printed = -(gh.conj() * u**2 * xh.conj() * yh).real.sum() / N
    exact = rlr_exact(x, y, g)[2]
    numerical = differentiate(lambda p: dense_solve(x, y, p[0]), np.array([LAMBDA]), g)
    assert error(exact, numerical) < 1e-8
    assert error(np.array([printed]), numerical) < quoted("Eq. 26") < 1e-8


def test_sum_w_hands_its_derivative_on_unweighted():
    rng = np.random.default_rng(SEED)
    maps, der = [*rng.standard_normal((2, 1, 1, N, N))], rng.standard_normal((1, 1, N, N))
    weight = rng.uniform(size=(N, N))
    layer = Elefusion()
    _, saved = layer.forward(maps, [weight], Context())
    exact, (exact_weight,) = layer.backward(maps, [weight], [der], saved, Context())
    original = sum_w_backward(*maps, der)

    def fuse(first, second, w):
        return w * first + (1 - w) * second

    numerical = [
        differentiate(lambda p: fuse(p, maps[1], weight), maps[0], der),
        differentiate(lambda p: fuse(maps[0], p, weight), maps[1], der),
        differentiate(lambda p: fuse(*maps, p), weight, der),
    ]
    check("`Sum_w.backward`, first map", original[0], exact[0], numerical[0])
    check("`Sum_w.backward`, second map", original[1], exact[1], numerical[1])
    # With one sample its derivative by the weights is right; with N it is N times too small.
    assert error(exact_weight, numerical[2]) < 1e-8
    assert error(original[2], numerical[2]) < 1e-8
