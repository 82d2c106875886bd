"""torch.func over pixels, weights and bias, and compositions of it, against a layer written with F.unfold."""

import functools

import pytest
import torch
import torch.nn.functional as F
from cells import cell
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import anyconv
from anyconv import Formula

MIXED = Formula(lambda x, w: torch.tanh(x * w) + 0.1 * x * x)
ARGUMENTS = {"pixels": 0, "weights": 1, "bias": 2, "all of them": (0, 1, 2)}
on_both = pytest.mark.parametrize("backend", ["cpp", "reference"])
of_each = pytest.mark.parametrize("argnums", ARGUMENTS.values(), ids=ARGUMENTS)


def usual(x, w, b):
    """Of unbatched pixels or batched ones, as users write it."""
    cols = F.unfold(x, 2, padding=1).unsqueeze(-3)
    weights = w.flatten(-3)[..., :, :, None]
    v = torch.tanh(cols * weights) + 0.1 * cols * cols
    return (v.sum(-2) + b[:, None]).unflatten(-1, (x.shape[-2] + 1, x.shape[-1] + 1))


def ours(x, w, b, backend="cpp"):
    return anyconv.conv2d(x, w, MIXED, b, padding=1, backend=backend)


def tensors(copies=None):
    shapes = (2, 2, 3, 2), (2, 2, 2, 2), (2,)
    return [torch.randn((*([copies] if copies else []), *s), dtype=torch.float64) for s in shapes]


def squares(run):
    return lambda *a: run(*a).square().sum()


def assert_equal(transform, backend):
    """What a transform makes of both."""
    found = [
        torch.utils._pytree.tree_leaves(transform(run)) for run in (functools.partial(ours, backend=backend), usual)
    ]
    assert len(found[0]) == len(found[1]) > 0
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def test_that_comparison_can_fail():
    x, w, b = tensors()
    with pytest.raises(AssertionError):
        assert_equal(lambda run: run(x, w, b) * (1.001 if run is usual else 1), "cpp")


FIRST = {
    "grad": lambda run, n: grad(squares(run), n), "jacrev": jacrev, "jacfwd": jacfwd,
}  # fmt: skip
SECOND = {
    "hessian": hessian,
    "jacrev of jacrev": lambda f, n: jacrev(jacrev(f, n), n),
    "jacrev of jacfwd": lambda f, n: jacrev(jacfwd(f, n), n),
    "jacfwd of jacfwd": lambda f, n: jacfwd(jacfwd(f, n), n),
}


@cell("torch.func", "grad, jacrev, jacfwd of pixels, weights and bias")
@on_both
@of_each
@pytest.mark.parametrize("name", FIRST)
def test_first_derivatives(name, argnums, backend):
    at = tensors()
    assert_equal(lambda run: FIRST[name](run, argnums)(*at), backend)


@pytest.mark.sample(5)
@cell("torch.func", "hessian and every order of jacrev and jacfwd")
@on_both
@of_each
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(name, argnums, backend):
    at = tensors()
    assert_equal(lambda run: SECOND[name](squares(run), argnums)(*at), backend)


@cell("torch.func", "jvp, vjp")
@on_both
def test_products_with_jacobians(backend):
    at, moves, back = tensors(), tensors(), torch.randn(2, 2, 4, 3, dtype=torch.float64)
    assert_equal(lambda run: jvp(run, tuple(at), tuple(moves)), backend)
    assert_equal(lambda run: vjp(run, *at)[1](back), backend)
    assert_equal(lambda run: jvp(lambda x: vjp(run, x, *at[1:])[1](back)[0], (at[0],), (moves[0],)), backend)


DIMS = [(0, None, None), (None, 0, None), (None, None, 0), (0, 0, None), (0, None, 0), (0, 0, 0)]


@cell("torch.func", "vmap, over pixels, weights, bias and all")
@on_both
@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_vmap(dims, backend):
    many, one = tensors(3), tensors()
    at = [a if d == 0 else b for a, b, d in zip(many, one, dims, strict=True)]
    over = functools.partial(vmap, in_dims=dims)
    assert_equal(lambda run: over(run)(*at), backend)
    assert_equal(lambda run: over(grad(squares(run), (0, 1, 2)))(*at), backend)  # gradients of each sample
    assert_equal(lambda run: grad(lambda *a: over(run)(*a).sin().sum(), (0, 1, 2))(*at), backend)


@cell("torch.func", "vmap of vmap, other axes than the first")
def test_vmap_of_vmap():
    many, one = tensors(3), tensors()
    twice = lambda run: vmap(vmap(run, in_dims=(None, 0, None)), in_dims=(0, None, None))
    assert_equal(lambda run: twice(run)(many[0], many[1], one[2]), "cpp")
    assert_equal(lambda run: vmap(run, in_dims=(1, None, None), out_dims=1)(many[0].movedim(0, 1), *one[1:]), "cpp")


SHARED = {"p": anyconv.shared(), "q": anyconv.per_channel(), "m": anyconv.guide(), "k": anyconv.per_offset()}


@pytest.mark.sample(4)
@cell("torch.func", "vmap over operands of every scope")
@pytest.mark.parametrize("name", ["x", "w", "p", "q", "m", "k"])
def test_vmap_over_any_operand(name):
    """One number for all filters has no place in a batch or a group; it is computed for one after the other."""
    formula = Formula(lambda x, w, p, q, m, k: torch.tanh(x * w * p + q * m) * k, "max", operands=SHARED)
    shapes = {"x": (2, 4, 3, 3), "w": (6, 2, 2, 2), "p": (), "q": (4,), "m": (2, 1, 3, 3), "k": (2, 2)}
    at = {n: torch.randn(s, dtype=torch.float64) for n, s in shapes.items()}
    many = torch.randn((3, *shapes[name]), dtype=torch.float64)

    def run(value):
        given = at | {name: value}
        return anyconv.conv2d(given.pop("x"), given, formula, padding=1, groups=2)

    torch.testing.assert_close(vmap(run)(many), torch.stack([run(one) for one in many]), rtol=1e-12, atol=1e-12)
    each = torch.stack([jacrev(run)(one) for one in many[:2]])
    torch.testing.assert_close(vmap(jacrev(run))(many[:2]), each, rtol=1e-12, atol=1e-12)


@cell("torch.func", "functional_call; gradients of each sample of a layer")
def test_a_layer_by_functional_call():
    layer = anyconv.Conv2d(2, 2, 2, MIXED, padding=1, dtype=torch.float64)
    params = {name: p.detach() for name, p in layer.named_parameters()}
    x = tensors()[0]
    loss = lambda params, image: functional_call(layer, params, (image[None],)).square().sum()
    each = vmap(grad(loss), in_dims=(None, 0))(params, x)
    for i, image in enumerate(x):
        layer.zero_grad()
        layer(image[None]).square().sum().backward()
        for name, p in layer.named_parameters():
            torch.testing.assert_close(each[name][i], p.grad, rtol=1e-11, atol=1e-11)


@cell("torch.func", "through `on_gradient`, forward and backward")
def test_a_hook_on_a_gradient():
    hooked = Formula(MIXED.map, operands={"w": anyconv.per_tap(on_gradient=lambda g: 3 * g)})
    x, w, b = tensors()
    run = lambda formula: lambda w: anyconv.conv2d(x, w, formula, b, padding=1).square().sum()
    torch.testing.assert_close(grad(run(hooked))(w), 3 * grad(run(MIXED))(w))
    torch.testing.assert_close(jvp(run(hooked), (w,), (w,)), jvp(run(MIXED), (w,), (w,)))
    torch.testing.assert_close(jacfwd(jacfwd(run(hooked)))(w), jacfwd(jacfwd(run(MIXED)))(w))


@cell("autograd", "`is_grads_batched=True`, `vectorize=True`: PyTorch's older batching", refuses=True)
def test_the_older_vmap_is_refused_aloud():
    x, w, b = tensors()
    y = ours(x.requires_grad_(), w, b)
    with pytest.raises(anyconv.AnyConvError, match=r"torch\.func\.jacrev"):
        torch.autograd.grad(y, x, torch.ones(2, *y.shape, dtype=y.dtype), is_grads_batched=True)
