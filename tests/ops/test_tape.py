"""The tape itself: the syntax that all arrays share, and the order in which gradients are sent."""

import numpy as np
import pytest
import torch
from arithmetic import seeds
from hypothesis import given
from hypothesis import strategies as st

from miniclip import InputError, params
from miniclip.ops import numpy_grad
from miniclip.ops.tape import Variable

# what the towers, the losses and a merged adapter do with arrays outside of `ops`
EXPRESSIONS = {
    "+": lambda x, y: x + y + 1,
    "-": lambda x, y: x - y - 2,
    "r-": lambda x, y: (3 - x) * y,
    "neg": lambda x, y: -x * y,
    "*": lambda x, y: x * y * 3,
    "/": lambda x, y: x / y / 3,
    "r/": lambda x, y: 2 / y + x,
    "used twice": lambda x, y: x * x + x * y + y,
    "mean": lambda x, y: x.mean() * y,
    "sum": lambda x, y: x.sum() * x - y.sum(),
    "T": lambda x, y: x.T * 2 + 0 * y.sum(),
    "reshape": lambda x, y: (x + y).reshape(-1, 2),
    "slices": lambda x, y: (x + y)[1:, None] * (x * y)[0] + x[:, :1].sum() + y[-1] * x[1],
}


def arrays_of(seed, shapes):
    return [np.random.default_rng(seed + i).standard_normal(shape) for i, shape in enumerate(shapes)]


def compare(function, arrays):
    ours, theirs = [Variable(x) for x in arrays], [torch.tensor(x, requires_grad=True) for x in arrays]
    y, want = function(*ours), function(*theirs)
    np.testing.assert_allclose(y.value, want.detach(), rtol=1e-12, atol=1e-13)
    assert (y.shape, y.ndim, len(y.shape)) == (want.shape, want.ndim, want.ndim)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(dy)
    want.backward(torch.from_numpy(dy))
    for x, tensor in zip(ours, theirs):
        assert x.gradient.shape == x.shape
        np.testing.assert_allclose(x.gradient, tensor.grad, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_float32_stays_float32(name):
    variables = [Variable(x.astype(np.float32)) for x in arrays_of(0, [(3, 4), (3, 4)])]
    y = EXPRESSIONS[name](*variables)
    y.backward()
    assert {x.dtype.name for x in [y, *(x.gradient for x in variables)]} == {"float32"}


@pytest.mark.parametrize("name", EXPRESSIONS)
@given(seed=seeds)
def test_expressions_have_torchs_gradients(name, seed):
    compare(EXPRESSIONS[name], arrays_of(seed, [(3, 4), (3, 4)]))


@pytest.mark.parametrize("name", ["+", "-", "*", "/", "used twice"])
@given(
    seed=seeds,
    shapes=st.sampled_from([[(3, 4), (4,)], [(4,), (2, 3, 4)], [(3, 1), (1, 4)], [(2, 1, 4), (3, 1)], [(), (2, 3)]]),
)
def test_broadcasting_is_undone_by_sums(name, seed, shapes):
    compare(EXPRESSIONS[name], arrays_of(seed, shapes))


@given(seed=seeds, shapes=st.sampled_from([[(3, 4), (4, 2)], [(5, 3, 4), (4, 2)], [(5, 3, 4), (5, 4, 1)]]))
def test_products_of_matrices(seed, shapes):
    compare(lambda x, y: x @ y, arrays_of(seed, shapes))


def test_constants_beside_variables_are_constants():
    x, constant = Variable(np.ones((2, 3))), np.arange(6.0).reshape(2, 3)
    for function in (lambda: constant + x, lambda: constant - x, lambda: constant * x, lambda: constant / x):
        assert isinstance(function(), Variable)
    assert isinstance(constant.T @ x, Variable) and isinstance(x @ constant.T, Variable)
    (np.float32(2) * (constant * x)).backward()
    np.testing.assert_array_equal(x.gradient, 2 * constant)
    with pytest.raises(TypeError):
        np.exp(x)  # no operation of the tape: it would lose the gradient


def test_a_value_gets_all_gradients_before_it_sends_its_own():
    """A diamond: x -> a -> b, c = a + b. If a sent when c is done, but before b is, one path would be missing."""
    x = Variable(np.array(2.0))
    a = x * 3
    b = a * a
    (a + b * a).backward()
    assert x.gradient == 3 + 3 * 27 * 4  # 3x + 27x³


def test_a_long_chain_is_no_deep_recursion():
    x = y = Variable(np.ones(2))
    for _ in range(5000):
        y = y + 1
    y.backward()
    np.testing.assert_array_equal(x.gradient, [1, 1])


def test_gradients_that_are_shared_are_not_changed():
    """x + y sends the same array to both, and x gets more from elsewhere."""
    x, y = Variable(np.ones(3)), Variable(np.ones(3))
    dy = np.arange(3.0)
    (x + y + x[:] + x).backward(dy)
    np.testing.assert_array_equal(x.gradient, 3 * dy)
    np.testing.assert_array_equal(y.gradient, dy)
    np.testing.assert_array_equal(dy, np.arange(3.0))


def test_a_tape_is_read_once():
    x = Variable(np.ones(3))
    features = x * 2
    features.sum().backward()
    with pytest.raises(InputError, match="compute it again, or add the losses first"):
        (features * features).sum().backward()


def test_what_would_be_silently_wrong_is_refused():
    x = Variable(np.ones((2, 3)))
    with pytest.raises(InputError, match=r"shape \(3,\) is not one of a value of shape \(2, 3\)"):
        (x + 1).backward(np.ones(3))
    for place in (np.array([0, 0]), [0, 0], (slice(None), np.array([1, 1]))):
        with pytest.raises(InputError, match="use `gather` or `embed`"):
            x[place]


def test_leaves_add_up_and_results_keep_no_gradient():
    x = Variable(np.array([1.0, 2.0]))
    for _ in range(2):
        y = x * x
        y.sum().backward()
    np.testing.assert_array_equal(x.gradient, 2 * 2 * x.value)
    assert y.gradient is None


def test_an_adapter_is_differentiated_through_its_merged_weight():
    """W + scale · B @ A, with W frozen: the tower sees one weight, and A and B get gradients."""
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((4, 6)), rng.standard_normal((5, 6))

    def function(A, B):
        merged = W + 2.0 * (B @ A) if isinstance(A, Variable) else torch.from_numpy(W) + 2.0 * (B @ A)
        return numpy_grad.linear(x, merged) if isinstance(A, Variable) else torch.from_numpy(x) @ merged.T

    compare(function, arrays_of(1, [(2, 6), (4, 2)]))


def test_a_merged_weight_in_a_tree_gets_the_gradient_of_all_chunks():
    A, x = Variable(np.ones((3, 3))), np.random.default_rng(0).standard_normal((7, 3))
    tree = params.tree_map(lambda leaf: A * leaf, {"weight": np.full((3, 3), 2.0)})
    numpy_grad.capture(lambda batch, weight, trace=None: numpy_grad.linear(batch, weight), tree)(x).backward()
    np.testing.assert_allclose(A.gradient, 2 * np.ones((3, 7)) @ x)
