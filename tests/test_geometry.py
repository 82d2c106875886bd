"""Geometry against brute force, and against what it must refuse."""

import itertools

import oracle
import pytest
import strategies
import torch
from hypothesis import given

import anyconv
from anyconv.errors import GeometryError, ShapeError
from anyconv.geometry import Geometry


def make(arguments):
    return Geometry.of(**arguments)


@given(strategies.geometries())
def test_sites_and_ranges_by_counting(drawn):
    arguments, size = drawn
    g = make(arguments)
    sites = g.sites(size)
    assert sites == oracle.out_size(size, g.kernel, g.stride, g.before, g.after, g.dilation)
    assert g.taps == len(list(itertools.product(*map(range, g.kernel))))
    for k in g.offsets():
        for axis in range(g.dims):

            def seen(s, axis=axis, k=k):
                return s * g.stride[axis] + k[axis] * g.dilation[axis] - g.before[axis]

            inside = [s for s in range(sites[axis]) if 0 <= seen(s) < size[axis]]
            box = range(sites[axis])[g.valid(k, size)[axis]]
            assert list(box) == inside
            assert list(range(size[axis])[g.pixels(k, size)[axis]]) == [seen(s) for s in inside]


@given(strategies.geometries())
def test_receptive_fields_are_unfolds(drawn):
    arguments, size = drawn
    g = make({**arguments, "groups": 1, "padding_mode": "zeros"})
    x = torch.randn(2, 3, *size)
    fields = anyconv.receptive_fields(x, g.kernel, g.stride, arguments["padding"], g.dilation)
    assert fields.shape == (2, 3, *g.sites(size), *g.kernel)
    site = tuple(s - 1 for s in g.sites(size))
    for k in g.offsets():
        where = [s * st + j * d - b for s, st, j, d, b in zip(site, g.stride, k, g.dilation, g.before, strict=True)]
        inside = all(0 <= i < n for i, n in zip(where, size, strict=True))
        want = x[(0, 0, *where)] if inside else torch.tensor(0.0)
        assert fields[(0, 0, *site, *k)] == want


def test_receptive_fields_copy_nothing():
    x = torch.randn(2, 3, 8, 9)
    assert anyconv.receptive_fields(x, 3, stride=2).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel_size": 0}, "`kernel_size` must be at least 1, got 0"),
        ({"kernel_size": (3, 3, 3)}, "`kernel_size` must have 2 ints or one, got (3, 3, 3)"),
        ({"kernel_size": 2.5}, "`kernel_size` must be made of ints, got 2.5"),
        ({"stride": 0}, "`stride` must be at least 1, got 0"),
        ({"stride": True}, "`stride` must have 2 ints or one, got True"),
        ({"stride": "2"}, "`stride` must be made of ints, got '2'"),
        ({"padding": -1}, "`padding` must be at least 0, got -1"),
        ({"padding": "full"}, "`padding` must be 'same', 'valid' or numbers, got 'full'"),
        ({"padding": "same", "stride": 2}, "padding='same' needs stride 1, got (2, 2)"),
        ({"dilation": (1, 0)}, "`dilation` must be at least 1, got (1, 0)"),
        ({"groups": 0}, "`groups` must be a positive int, got 0"),
        ({"groups": 1.0}, "`groups` must be a positive int, got 1.0"),
        (
            {"padding_mode": "mirror"},
            "`padding_mode` must be one of zeros, skip, reflect, replicate, circular or a number, got 'mirror'",
        ),
        (
            {"padding_mode": None},
            "`padding_mode` must be one of zeros, skip, reflect, replicate, circular or a number, got None",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(GeometryError) as error:
        Geometry.of(2, **{"kernel_size": 3, **wrong})
    assert str(error.value).splitlines()[0] == message


def test_a_kernel_larger_than_the_input():
    with pytest.raises(ShapeError, match=r"the kernel covers \(5,\) pixels, more than the padded input's \(4,\)"):
        Geometry.of(1, 3, dilation=2, padding=1).sites((2,))
