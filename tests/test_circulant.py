"""The supplement's forms of RLR and CirConv against dense matrices, for vectors and planes.

``window='none', lambda_scale='1'`` is the supplement's notation. Nothing on the dense side uses a
fast Fourier transform; docs/derivations.md says which equation each test stands for.
"""

import numpy as np
import pytest

from circulant import circulant, circulant_adjoint, dft_matrix, solve, solve_backward
from dagnet import Context, relative_error
from errors import record_error
from layers import RLR, CirConv

LAYER = RLR(window="none", lambda_scale="1")
CONVOLVE = CirConv(window="none")
# Vectors standing and lying, odd and even; planes odd, even, square and not.
SHAPES = [(8, 1), (7, 1), (1, 8), (1, 5), (1, 1), (2, 2), (4, 4), (5, 5), (4, 6), (5, 4), (3, 7)]
TOLERANCE = 1e-11


def agree(what, actual, dense):
    error = relative_error(actual, dense)
    record_error("dense matrices", what, error, str(np.shape(dense)))
    assert error < TOLERANCE


def tensor(*planes):
    """Planes (H, W) as the channels of one sample."""
    return np.stack(planes)[None]


def learn(x, y, lam):
    (r,), saved = LAYER.forward([x, y], [np.array(lam)], Context())
    return r, saved


def learn_backward(saved, der, lam):
    ders, (der_lambda,) = LAYER.backward([None, None], [np.array(lam)], [der], saved, Context())
    return *ders, der_lambda


def convolve(x, r, lr=1.0):
    (y,), saved = CONVOLVE.forward([x, r], [np.array(lr)], Context())
    return y, saved


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_circular_convolution_is_a_product_with_a_circulant_matrix(rng, shape):
    """y = C(x) r = C(r) x."""
    x, r = rng.standard_normal((2, *shape))
    y, _ = convolve(tensor(x), tensor(r))
    agree("C(x) r", y[0, 0].ravel(), circulant(x) @ r.ravel())
    agree("C(r) x", y[0, 0].ravel(), circulant(r) @ x.ravel())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_dft_matrix_diagonalises_a_circulant_matrix(rng, shape):
    """C(x) = F^-1 diag(F x) F and C(x)' = F^-1 diag(conj(F x)) F, with F^-1 = F^H / n."""
    x = rng.standard_normal(shape)
    n, f = x.size, dft_matrix(shape)
    inverse = f.conj().T / n
    assert np.allclose(inverse @ f, np.eye(n), atol=1e-13)
    spectrum = f @ x.ravel()
    agree("F^-1 diag(F x) F", (inverse * spectrum) @ f, circulant(x).astype(complex))
    agree("F^-1 diag(conj F x) F", (inverse * spectrum.conj()) @ f, circulant(x).T.astype(complex))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_transform_of_a_convolution_is_the_product_of_the_transforms(rng, shape):
    x, r = rng.standard_normal((2, *shape))
    y, _ = convolve(tensor(x), tensor(r))
    f = dft_matrix(shape)
    agree("F y", f @ y.ravel(), (f @ x.ravel()) * (f @ r.ravel()))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_derivatives_of_the_convolution_are_products_with_the_transposed(rng, shape):
    """G_x = C(r)' G_y and G_r = C(x)' G_y: the transposed matrix is the conjugate spectrum."""
    x, r, der = rng.standard_normal((3, *shape))
    lr = [np.array(1.0)]
    _, saved = convolve(tensor(x), tensor(r))
    (der_x, der_r), _ = CONVOLVE.backward(
        [tensor(x), tensor(r)], lr, [tensor(der)], saved, Context()
    )
    agree("C(r)' G", der_x.ravel(), circulant(r).T @ der.ravel())
    agree("C(x)' G", der_r.ravel(), circulant(x).T @ der.ravel())


@pytest.mark.parametrize("lam", [1e-2, 1.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_filter_is_the_solution_of_the_linear_system(rng, shape, lam):
    """(C(X)' C(X) + lambda I) R = C(X)' Y, channel by channel."""
    planes = [rng.standard_normal((2, *shape)) for _ in range(3)]
    x, y = (tensor(*(p[i] for p in planes)) for i in (0, 1))
    r, _ = learn(x, y, lam)
    agree("linear solve", r, tensor(*(solve(*p, lam) for p in planes)))


@pytest.mark.parametrize("lam", [1e-2, 1.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_its_derivatives_are_those_of_the_linear_solve(rng, shape, lam):
    """By X, Y and lambda; lambda's adds up over samples and channels."""
    x, y, der = rng.standard_normal((3, 2, 3, *shape))
    _, saved = learn(x, y, lam)
    der_x, der_y, der_lambda = learn_backward(saved, der, lam)
    expected_x, expected_y, expected_lambda = np.zeros_like(x), np.zeros_like(y), 0.0
    for place in np.ndindex(x.shape[:2]):
        dense = solve_backward(x[place], y[place], lam, der[place])
        expected_x[place], expected_y[place] = dense[:2]
        expected_lambda += dense[2]
    agree("G_X", der_x, expected_x)
    agree("G_Y", der_y, expected_y)
    agree("G_lambda", der_lambda, np.array(expected_lambda))


def test_the_dense_derivatives_are_themselves_numerical_ones(rng):
    """The reference of the test above, against central differences of the dense solve."""
    x, y, der = rng.standard_normal((3, 3, 4))
    lam, step = 0.3, 1e-6
    exact_x, exact_y, exact_lambda = solve_backward(x, y, lam, der)

    def loss(x, y, lam):
        return np.vdot(der, solve(x, y, lam))

    for _ in range(5):
        dx, dy, dlam = *rng.standard_normal((2, 3, 4)), rng.standard_normal()
        ends = [loss(x + s * dx, y + s * dy, lam + s * dlam) for s in (step, -step)]
        exact = np.vdot(exact_x, dx) + np.vdot(exact_y, dy) + exact_lambda * dlam
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(exact, rel=1e-7)


def test_the_adjoint_of_making_a_circulant_matrix(rng):
    x, matrix = rng.standard_normal((3, 4)), rng.standard_normal((12, 12))
    left, right = np.vdot(matrix, circulant(x)), np.vdot(circulant_adjoint(matrix, (3, 4)), x)
    assert left == pytest.approx(right)


def test_circulant_worked_out_by_hand():
    column = circulant(np.array([[1.0], [2.0], [3.0]]))
    assert column.tolist() == [[1, 3, 2], [2, 1, 3], [3, 2, 1]]
    assert circulant(np.array([[1.0, 2.0, 3.0]])).tolist() == column.tolist()
