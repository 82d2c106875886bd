"""The seed's algorithm, written out: the answer to "custom (non-linear) convolution in Torch7" that began this library.

It looks at the input through receptive-field views, walks over the positions inside the kernel, and computes each
position's contribution to all outputs at once. Its example is a product of tangents, with the gradient by hand.
"""

import pytest
import torch
from checks import assert_near

import anyconv


def receptive_fields(x, kh, kw, sh, sw):
    """The input seen through views: no copies."""
    return x.unfold(2, kh, sh).unfold(3, kw, sw)  # (N, C, H_out, W_out, kh, kw)


def forward(x, w, sh, sw):
    fields = receptive_fields(x, *w.shape[2:], sh, sw)
    y = x.new_ones(x.shape[0], w.shape[0], *fields.shape[2:4])
    for c in range(w.shape[1]):
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                y *= torch.tan(fields[:, c, None, :, :, i, j] + w[:, c, i, j, None, None])
    return y


def backward(x, w, y, g, sh, sw):
    """dy/dv of one factor v = tan(a) is y / v, and dv/da is 1 + v**2."""
    gx, gw = torch.zeros_like(x), torch.zeros_like(w)
    fields, overlapping = receptive_fields(x, *w.shape[2:], sh, sw), receptive_fields(gx, *w.shape[2:], sh, sw)
    for c in range(w.shape[1]):
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                v = torch.tan(fields[:, c, None, :, :, i, j] + w[:, c, i, j, None, None])
                contribution = g * y / v * (1 + v * v)
                overlapping[:, c, :, :, i, j] += contribution.sum(1)  # sums the overlapping fields
                gw[:, c, i, j] = contribution.sum((0, 2, 3))  # sums over all outputs
    return gx, gw


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)])
def test_product_of_tangents(stride, kernel):
    x = torch.rand(2, 3, 8, 9, dtype=torch.float64) + 0.1
    layer = anyconv.Conv2d(
        3, 4, kernel, anyconv.Formula(lambda x, w: torch.tan(x + w), reduce="prod"), stride=stride, bias=False,
        dtype=torch.float64,
    )  # fmt: skip
    torch.nn.init.uniform_(layer.w, 0.0, 0.3)
    want = forward(x, layer.w.detach(), *stride)
    g = torch.randn_like(want)
    x.requires_grad_()
    y = layer(x)
    assert_near(y.detach(), want, terms=36)
    y.backward(g)
    gx, gw = backward(x.detach(), layer.w.detach(), want, g, *stride)
    assert_near(x.grad, gx, terms=gx.numel())
    assert_near(layer.w.grad, gw, terms=gx.numel())


def test_with_sum_and_product_it_is_the_ordinary_convolution():
    theirs = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, dtype=torch.float64)
    ours = anyconv.Conv2d(3, 4, 3, lambda x, weight: x * weight, stride=2, padding=1, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    assert torch.equal(ours(x), theirs(x))


def test_the_style_the_question_asked_for():
    class Tangent(anyconv.Conv2d):
        reduce = "prod"

        def map(self, x, w):
            return torch.tan(x + w)

    layer = Tangent(2, 3, 2, bias=False, dtype=torch.float64)
    x = torch.rand(1, 2, 4, 4, dtype=torch.float64)
    assert_near(layer(x).detach(), forward(x, layer.w.detach(), 1, 1), terms=8)
