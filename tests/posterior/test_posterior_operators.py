"""Linear operators against their dense matrices, which NumPy inverts, and against other programs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import linalg, ndimage

from jaxdiff.posterior import operators
from jaxdiff.posterior.operators.hadamard import walsh_hadamard

KEY = jax.random.key(0)
EVENT = (4, 4, 3)
MASK = np.random.default_rng(3).uniform(size=EVENT) < 0.6


def _double_and_roll(x):
    return 2 * jnp.roll(x, 1, axis=1)[:, ::2]


def _of_params(weights, x):
    return jnp.einsum("ij,bjkc->bikc", weights, x)


# Constructors, so that their numbers are float64.
LINEAR = {
    "mask": lambda: operators.mask(MASK),
    "soft mask": lambda: operators.mask(np.linspace(0, 2, 4)[:, None, None]),
    "box": lambda: operators.box(2),
    "bicubic": lambda: operators.bicubic((4, 4), 2),
    "blur": lambda: operators.blur(np.arange(1.0, 7).reshape(3, 2) / 21),
    "gaussian blur": lambda: operators.blur(operators.gaussian_kernel(4, 1.2), cutoff=0.2),
    "grey": lambda: operators.grey(),
    "random_projection": lambda: operators.random_projection(KEY, EVENT, 7),
    "hadamard": lambda: operators.hadamard(KEY, EVENT, 20),
    "identity": lambda: operators.identity(),
    "scaling": lambda: operators.scaling(0.7),
    "linear": lambda: operators.linear(_double_and_roll, EVENT),
    "linear with params": lambda: operators.linear(_of_params, EVENT, np.arange(1.0, 9).reshape(2, 4) ** 2),
    "compose": lambda: operators.compose(operators.blur(np.arange(1.0, 7).reshape(3, 2) / 21), operators.box(2), iterations=60),
}  # fmt: skip


@jax.jit
def _everything(operator, x, y):
    found = {
        "y": operator(x), "adjoint": operator.adjoint(y),
        "inverse": operator.pseudo_inverse(y), "damped": operator.pseudo_inverse(y, jnp.linspace(0.1, 0.9, len(y))),
    }  # fmt: skip
    if hasattr(operator, "vt"):
        z, w = operator.vt(x), operator.ut(y)
        scale = lambda z: jax.tree.map(jnp.multiply, operator.singular_values(z), z)  # noqa: E731
        found |= {"back": operator.v(z), "again": operator.u(scale(z)), "transposed": operator.v(scale(w))}
        products = jax.tree.map(
            lambda z: jnp.real(jnp.tensordot(z.reshape(len(z), -1).conj(), z.reshape(len(z), -1).T, 1)), z
        )
        found["gram"] = sum(jax.tree.leaves(products))
        found["least"] = jnp.stack([jnp.min(s) for s in jax.tree.leaves(operator.singular_values(z))])
    return found


@pytest.mark.parametrize("name", LINEAR)
def test_everything_is_that_of_the_dense_matrix(name, x64):
    operator, rng, size = LINEAR[name](), np.random.default_rng(0), np.prod(EVENT)
    matrix = np.asarray(operator(jnp.eye(size).reshape(size, *EVENT))).reshape(size, -1).T
    shape = operator(jnp.zeros((1, *EVENT))).shape[1:]
    x, y = rng.normal(size=(3, size)), rng.normal(size=(3, len(matrix)))
    found = _everything(operator, x.reshape(3, *EVENT), jnp.asarray(y.reshape(3, *shape)))
    want = {"y": x @ matrix.T, "adjoint": y @ matrix, "inverse": y @ np.linalg.pinv(matrix, rcond=1e-7).T}
    gram = matrix @ matrix.T
    damped = [
        matrix.T @ np.linalg.solve(gram + d * np.eye(len(gram)), one) for d, one in zip((0.1, 0.5, 0.9), y, strict=True)
    ]
    want |= {"damped": np.stack(damped), "back": x, "again": want["y"], "transposed": want["adjoint"], "gram": x @ x.T}
    assert np.all(found.pop("least", 0) >= 0)
    for part, got in found.items():
        np.testing.assert_allclose(got.reshape(3, -1), want[part], rtol=1e-7, atol=1e-9, err_msg=part)
    np.testing.assert_allclose(matrix @ np.linalg.pinv(matrix, rcond=1e-7) @ matrix, matrix, atol=1e-9)
    assert ("back" in found) == (name not in ("compose", "linear", "linear with params"))


def _picture(height, width):
    return np.random.default_rng(1).normal(size=(1, height, width, 1)).astype(np.float32)


def test_means_of_blocks_and_of_channels():
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    blocks = np.stack([[x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)) for j in range(2)] for i in range(3)])
    np.testing.assert_allclose(operators.box(2)(x), blocks.transpose(2, 0, 1, 3), rtol=1e-5, atol=1e-6)
    grey = Image.fromarray(np.uint8(100 * np.abs(x[0]))).convert("L", None)
    ours = operators.grey()(jnp.floor(100 * np.abs(x[:1])))[0, ..., 0]
    np.testing.assert_allclose(ours, np.asarray(grey), atol=1)
    np.testing.assert_allclose(operators.grey(operators.MEAN)(x)[..., 0], x.mean(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "factor"), [(24, 16, 4), (9, 15, 3), (5, 7, 1)])
def test_bicubic_is_that_of_pillow(height, width, factor):
    x = _picture(height, width)
    small = (width // factor, height // factor)
    want = np.asarray(Image.fromarray(x[0, ..., 0], mode="F").resize(small, Image.Resampling.BICUBIC))
    got = operators.bicubic((height, width), factor)(x)[0, ..., 0]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


def test_blur_is_a_circular_convolution():
    x, kernel = _picture(9, 12), np.random.default_rng(2).uniform(size=(4, 3)).astype(np.float32)
    want = ndimage.convolve(x[0, ..., 0], kernel, mode="wrap")
    np.testing.assert_allclose(operators.blur(kernel, cutoff=0.0)(x)[0, ..., 0], want, rtol=1e-4, atol=1e-5)


def test_kernels():
    """Their sums, moments and directions; both are differentiable, and nothing is thrown away."""
    along = np.arange(41) - 20
    kernel = np.asarray(operators.gaussian_kernel(41, (2.0, 4.0)))
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose([kernel.sum(1) @ along**2, kernel.sum(0) @ along**2], [4, 16], rtol=1e-3)
    for angle in (0.0, 0.6, np.pi / 2):
        kernel = np.asarray(operators.motion_kernel(41, 25.0, angle))
        np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-5)
        covariance = [
            [np.sum(kernel * a * b) for a in (along[None], along[:, None])] for b in (along[None], along[:, None])
        ]
        values, vectors = np.linalg.eigh(covariance)
        np.testing.assert_allclose(values[1], 25**2 / 12, rtol=0.06)  # the variance of a uniform distribution
        assert values[0] < 0.4
        np.testing.assert_allclose(np.abs(vectors[:, 1] @ [np.cos(angle), np.sin(angle)]), 1, rtol=1e-4)
    np.testing.assert_allclose(operators.motion_kernel(5, 1.0)[2, 2], 1)


def test_walsh_hadamard_is_that_of_scipy():
    x = np.random.default_rng(0).normal(size=(2, 48)).astype(np.float32)
    want = np.einsum("ij,bjc->bic", linalg.hadamard(16) / 4, x.reshape(2, 16, 3)).reshape(2, 48)
    np.testing.assert_allclose(walsh_hadamard(jnp.asarray(x)), want, rtol=1e-4, atol=1e-6)


def test_pytrees():
    x = {"a": np.ones((2, 3), np.float32), "b": np.full((2, 2, 2), 2.0, np.float32)}
    hidden = operators.mask({"a": np.array([1, 0, 1]), "b": np.array([[[False]], [[True]]])})
    seen = hidden(x)
    np.testing.assert_array_equal(seen["a"], [[1, 0, 1]] * 2)
    np.testing.assert_array_equal(seen["b"], 2 * np.array([np.zeros((2, 2)), np.ones((2, 2))]))
    np.testing.assert_array_equal(operators.scaling(3.0).pseudo_inverse(x)["b"], np.full((2, 2, 2), 2 / 3, np.float32))
    total = operators.linear(
        lambda x: x["a"].sum(1) + x["b"].sum((1, 2)),
        {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in x.items()},
    )
    back = total.adjoint(np.array([1.0, 2.0], np.float32))
    np.testing.assert_array_equal(back["b"][1], np.full((2, 2), 2.0))
    np.testing.assert_allclose(total(total.pseudo_inverse(total(x))), total(x), rtol=1e-5)


def test_another_operator_compiles_nothing(x64):
    """Masks, kernels, weights, projections and coefficients are leaves."""
    traced = []

    @jax.jit
    def run(operator, x):
        traced.append(operator)
        return operator.pseudo_inverse(operator(x))

    x, other = jax.random.normal(KEY, (1, *EVENT)), jax.random.key(1)
    pairs = (
        (LINEAR["mask"](), operators.mask(~MASK)), (LINEAR["blur"](), operators.blur(np.ones((3, 2)), cutoff=0.1)),
        (LINEAR["grey"](), operators.grey(operators.MEAN)), (LINEAR["hadamard"](), operators.hadamard(other, EVENT, 20)),
        (LINEAR["random_projection"](), operators.random_projection(other, EVENT, 7)),
    )  # fmt: skip
    for number, (first, second) in enumerate(pairs, 1):
        assert np.abs(run(first, x) - run(second, x)).max() > 1e-3
        assert len(traced) == number


def test_jpeg_has_a_quality_per_picture_and_a_straight_derivative():
    """The pixels are those of a file: `test_augmentations_jpeg.py`. Qualities are leaves."""
    x = jnp.asarray(np.random.default_rng(0).uniform(-0.7, 0.7, size=(2, 16, 16, 3)), jnp.float32)
    run = jax.jit(chex.assert_max_traces(lambda operator, x: jax.vjp(operator, x)[1](x)[0] + operator(x), n=1))
    both = run(operators.jpeg(jnp.array([10, 95])), x)
    chosen = [run(operators.jpeg(jnp.array([quality] * 2)), x)[i] for i, quality in enumerate((10, 95))]
    np.testing.assert_array_equal(both, jnp.stack(chosen))
    plain = operators.jpeg(100, subsampled=False)
    # Colours there and back are the identity, and nothing is clipped.
    np.testing.assert_allclose(jax.jit(lambda x: jax.vjp(plain, x)[1](x)[0])(x), x, atol=1e-4)
    np.testing.assert_allclose(plain(x), x, atol=0.03)


def test_what_is_not_linear():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 6, 2)), jnp.float32)
    np.testing.assert_array_equal(operators.clip(3.0, -1.0, 2.0)(x), np.clip(3 * x, -1, 2))
    padded = np.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0)))
    want = np.abs(np.fft.fft2(padded, axes=(1, 2))) / np.sqrt(6 * 10)
    np.testing.assert_allclose(operators.phase_retrieval()(x), want, rtol=1e-4, atol=1e-5)
    zero = jax.grad(lambda x: operators.phase_retrieval()(x).sum())(jnp.zeros_like(x))
    np.testing.assert_array_equal(zero, 0)
    decoded = operators.function(lambda scale, x: scale * x**2, jnp.float32(2.0))
    np.testing.assert_array_equal(operators.compose(decoded, operators.grey([0.5, 0.5]))(x)[..., 0], (x**2).sum(-1))


X = np.zeros((1, 6, 6, 3), np.float32)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: operators.mask(np.array([-1.0])), ValueError, "mask = .*allowed are finite numbers of at least 0"),
        (lambda: operators.mask(np.ones((4, 4)))(X), ValueError, r"mask\.shape = \(4, 4\); .*\(1, 6, 6, 3\)"),
        (lambda: operators.mask(np.ones((2, 6, 6, 3)))(X), ValueError, r"mask\.shape = \(2, 6, 6, 3\)"),
        (lambda: operators.box(0), ValueError, "factor = 0"),
        (lambda: operators.box(4)(X), ValueError, r"x\.shape = \(1, 6, 6, 3\).*multiples of the factor, 4"),
        (lambda: operators.box(2)(X[0]), ValueError, r"x\.shape = \(6, 6, 3\); allowed are \[batch, height, width, channels\]"),
        (lambda: operators.bicubic((6, 6), 4), ValueError, r"size = \(6, 6\)"),
        (lambda: operators.bicubic((8, 8), 2)(X), ValueError, r"x\.shape = \(1, 6, 6, 3\); allowed are pictures of 8 by 8"),
        (lambda: operators.separable(np.ones((3, 2)), np.ones((1, 2))), ValueError, r"rows\.shape = \(3, 2\)"),
        (lambda: operators.blur(np.ones(3)), ValueError, r"kernel\.shape = \(3,\)"),
        (lambda: operators.blur(np.ones((7, 7)))(X), ValueError, r"x\.shape.*no smaller than the kernel, \(7, 7\)"),
        (lambda: operators.gaussian_kernel(3, 0.0), ValueError, "std = 0.0"),
        (lambda: operators.motion_kernel(3, -1.0), ValueError, "length = -1.0"),
        (lambda: operators.grey([0.0, 0.0]), ValueError, "weights"),
        (lambda: operators.grey()(X[..., :1]), ValueError, r"x\.shape = \(1, 6, 6, 1\); allowed are \[batch, height, width, 3\]"),
        (lambda: operators.random_projection(KEY, (2, 2), 5), ValueError, "count = 5; allowed are integers from 1 to 4"),
        (lambda: operators.hadamard(KEY, (2, 2), 4)(X), ValueError, r"x\.shape.*event \(2, 2\)"),
        (lambda: operators.scaling(0.0), ValueError, "scale = 0.0"),
        (lambda: operators.compose(), ValueError, "operators"),
        (lambda: operators.compose(3), TypeError, "operator = 3"),
        (lambda: operators.function(3), TypeError, "apply = 3"),
        (lambda: operators.linear(jnp.sum, (2,), iterations=0), ValueError, "iterations = 0"),
        (lambda: operators.clip(low=1.0), ValueError, "low = 1.0; allowed are numbers below high, 1.0"),
        (lambda: operators.phase_retrieval(-1.0), ValueError, "oversampling = -1.0"),
        (lambda: operators.jpeg(0), ValueError, "quality = 0; allowed are integers from 1 to 100"),
        (lambda: operators.jpeg(50)(X[..., :2]), ValueError, r"x\.shape = \(1, 6, 6, 2\)"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
