"""The cpp backend's compiler half: functors, spelled texts, tiles and schedules; pure functions, table-tested."""

from dataclasses import replace

import pytest
import torch

import anyconv
from anyconv import Formula
from anyconv.backends.cpp import kernel
from anyconv.backends.cpp.kernel import kernel_of
from anyconv.backends.cpp.render import render
from anyconv.backends.cpp.spell import CPP, RESERVED
from anyconv.backends.functor import functor
from anyconv.backends.spell import Speller, names
from anyconv.expr import parse
from anyconv.expr.expr import var
from anyconv.geometry import Geometry
from anyconv.mathematics import Mathematics
from anyconv.plan import Problem, schedule
from anyconv.plan.machine import Machine, machine_of
from anyconv.plan.schedule import Tile, Work, cost, multiplies, tile
from anyconv.reductions import BUILTIN
from anyconv.variables import Variable

AVX512 = Machine("x86_64", ("avx512f",), vector_bytes=64, registers=32)
AVX2 = Machine("x86_64", ("avx2", "fma"), vector_bytes=32, registers=16)


def made(text, reduce, operands=("w",)):
    seen = (Variable("x", "x", "nci"), *(Variable(name, name, "ock") for name in operands))
    return functor(
        Mathematics(
            variables=seen,
            outer=(),
            values=(parse(text),),
            reduction=BUILTIN[reduce],
            inner=None,
            finish=var("y"),
            accumulators=("y",),
            slopes=(),
            field=None,
        )
    )


def test_a_sums_functor():
    f = made("-abs(x - w)", "sum")
    assert (f.parts, f.result_parts, f.saved, f.counts) == (("s",), 1, (), False)
    assert [str(e) for e in f.contexts] == ["g"]
    assert {name: str(e) for name, e in f.gradients.items()} == {
        "x": "-sign_times(user_x - user_w, c0)", "w": "sign_times(user_x - user_w, c0)",
    }  # fmt: skip


def test_a_means_count_is_known_and_not_folded():
    f = made("x * w", "mean")
    assert (f.parts, f.counts) == (("s",), True)
    assert str(f.contexts[0]) == "g / count"


def test_only_training_counts_the_ties_of_a_maximum():
    f = made("x + w", "max")
    assert (f.parts, f.result_parts, f.saved) == (("m", "n"), 1, ("m", "n"))


def test_what_an_output_alone_decides_is_computed_once_for_it():
    """No division by the state is left for every evaluation."""
    for reduce in ("max", "min", "logsumexp", "mean"):
        assert "/" not in str(made("x + w", reduce).gradients["x"])


def test_a_product_in_a_sum_is_one_operation():
    assert str(made("w * x + 0.5", "max").step[0]) == "maximum(state_m, fma(user_w, user_x, 0.5))"
    assert str(made("tanh(w * x - 0.5)", "sum").gradients["w"]).startswith("t0 = tanh(fma(user_w, user_x, -0.5))")


def test_a_difference_of_products_in_a_value_is_rounded_as_written():
    """It is zero where both are equal, and its root a number."""
    assert "fma" not in str(made("sqrt(x * x - w * w)", "sum").step[0])
    assert "fma" not in str(
        made("(x * w) * (x * w + 1)", "sum").step[0]
    )  # a product that is used twice is there already


def test_a_maximum_is_compared_with_the_value_that_was_folded():
    f = made("w * x + 0.5", "max")
    assert "fma(user_w, user_x, 0.5) == c0" in str(f.gradients["x"])
    y, x = torch.nn.Parameter(torch.full((1, 1, 1), 0.1)), torch.full((1, 1, 5), 0.3, requires_grad=True)
    formula = Formula(lambda x, w: w * x + 0.7, "max")
    anyconv.conv1d(x, (y,), formula, backend="cpp").sum().backward()
    torch.testing.assert_close(
        x.grad, torch.full_like(x, 0.1)
    )  # a value that missed its own maximum would give nothing


def test_a_negative_product_of_a_difference_is_grouped():
    """Its first factor is negated as a whole."""
    text = Speller({"x": "x", "w": "w", "g": "g"}, CPP).add({"dx": parse("-((0.2 - w) * g)")})
    assert text == ["dx = fma(-(splat<F>(0.2) - w), g, dx);"]


def test_names_that_mean_something_in_cpp():
    assert names(["x", "exp", "class", "F", "t"], CPP) == {
        "x": "x",
        "exp": "exp_",
        "class": "class_",
        "F": "F_",
        "t": "t",
    }
    found = names(["größe", "_a", "b__c"], CPP)
    assert len(set(found.values())) == 3
    assert not set(found.values()) & RESERVED


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "name", ["exp", "double", "state", "t0", "c0", "F", "größe", "state_s", "g", "count", "user_x"]
)
def test_operands_of_any_name(name):
    """What the user calls a thing never changes what is computed."""
    scope = {}
    exec(f"import torch\nmapped = lambda x, {name}: torch.tanh(x * {name}) * {name} + torch.tanh(x * {name})", scope)
    x, w = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 2, 2)
    got = anyconv.conv2d(x, {name: w}, Formula(scope["mapped"]))
    torch.testing.assert_close(got, anyconv.conv2d(x, w, lambda x, w: torch.tanh(x * w) * w + torch.tanh(x * w)))


@pytest.mark.thorough
def test_a_deep_map():
    def mapped(x, w):
        for _ in range(600):  # deeper than Python's stack
            x = x * 0.999 + w * 0.001
        return torch.abs(x)

    x, w = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((1, 1, 3, 3), (2, 1, 2, 2)))
    got, want = (anyconv.conv2d(x, w, mapped, backend=b) for b in ("cpp", "reference"))
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got.sum(), (x, w)), torch.autograd.grad(want.sum(), (x, w)))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x * w", ["s = fma(x, w, s);"]),
        ("-(x * w)", ["s = fma(-x, w, s);"]),
        ("x - w", ["s = accumulate(s, x - w);"]),
        ("-(x - w)", ["s = deduct(s, x - w);"]),
        ("0", []),
        ("(x - w) * (x - w)", ["const auto t0 = x - w;", "s = fma(t0, t0, s);"]),
        ("where(x > w, x, -w)", ["s = accumulate(s, where(x > w, x, -w));"]),
        ("x ** w + nan", ['s = accumulate(s, pow(x, w) + splat<F>(__builtin_nan("")));']),
    ],
)
def test_sums_are_spelled(text, lines):
    speller = Speller({"x": "x", "w": "w", "s": "s"}, CPP)
    if text == "0":
        assert speller.add({"s": parse(text)}) == lines
    else:
        assert speller.update({"s": parse(f"s + ({text})")}) == lines


def test_sums_leave_the_multipliers_alone():
    """A sum goes to the adders in a map full of products, and to the multipliers in one of differences."""
    speller = Speller({"x": "x", "w": "w", "s": "s"}, CPP, adders_are_free=True)
    assert speller.update({"s": parse("s + exp(x * w)")}) == ["s = s + exp(x * w);"]
    assert speller.add({"s": parse("-sin(x)")}) == ["s = s - sin(x);"]
    assert multiplies(parse("exp(-(x - w) ** 2)"))
    assert multiplies(parse("(x + w) / (1 + x * x * w * w)"))
    assert not multiplies(parse("-abs(x - w)"))
    assert not multiplies(parse("maximum(x, w) - minimum(x, w) * w"))


def test_what_depends_on_the_pixel_alone_is_shared():
    """Where that is much, a tile has many filters to share it, though their operands then leave the registers."""
    spline = parse("a * abs(x - 1) + b * exp(x) + c * log(x) + a * b * x")
    assert (cost(spline, of="x"), cost(spline, of="a")) == (2 + 13 + 22, 0)
    alone = tile(cost=60, parts=1, operands=8, machine=AVX512)
    assert (alone.filters, alone.vectors) == (1, 2)
    assert tile(cost=60, parts=1, operands=8, machine=AVX512, shared=49) == Tile(4, 4, 4, 1)
    assert tile(cost=60, parts=1, operands=8, machine=AVX512, shared=24) == alone


@pytest.mark.parametrize(
    ("instructions", "parts", "operands", "machine", "want"),
    [
        (3, 1, 1, AVX512, Tile(4, 4, 4, 2)),
        (3, 1, 2, AVX512, Tile(4, 4, 4, 1)),
        (3, 2, 1, AVX512, Tile(4, 2, 4, 2)),
        (30, 1, 1, AVX512, Tile(4, 2, 4, 1)),
        (60, 3, 1, AVX512, Tile(2, 2, 4, 1)),
        (3, 1, 1, AVX2, Tile(4, 2, 4, 1)),
        (30, 3, 8, AVX2, Tile(2, 1, 1, 1)),
        (400, 1, 1, AVX512, Tile(2, 1, 1, 1)),
    ],
)
def test_tiles(instructions, parts, operands, machine, want):
    found = tile(cost=instructions, parts=parts, operands=operands, machine=machine)
    assert found == want
    assert found.sites * found.vectors * max(1, parts) <= machine.registers  # they are registers, after all


def work(channels, filters, size, kernel, batch=4, groups=1, **more):
    geometry = Geometry.of(len(size), kernel, padding=kernel // 2, groups=groups, **more)
    return Work(geometry, size, batch, channels // groups, filters // groups, 4)


@pytest.mark.parametrize(
    ("case", "forward", "backward"),
    [
        (work(64, 64, (32, 32), 3), "channels", "channels"),
        (work(3, 64, (112, 112), 7, stride=2), "channels", "sites"),
        (work(64, 1, (64, 64), 3), "sites", "channels"),
        (work(1, 4, (512, 512), 11), "sites", "sites"),
        (work(96, 96, (28, 28), 5, groups=96), "groups", "groups"),
        (work(8, 8, (28, 28), 5, groups=8), "sites", "sites"),
        (work(96, 192, (28, 28), 5, groups=96), "sites", "sites"),
        (work(96, 96, (112, 112), 3, groups=96), "sites", "sites"),
        (replace(work(96, 96, (112, 112), 3, groups=96), channels_last=True), "groups", "groups"),
        (work(256, 256, (2, 2), 3), "channels", "channels"),
    ],
)
def test_lanes(case, forward, backward):
    assert schedule.forward(case, AVX512, 2).lanes == forward
    assert schedule.backward(case, AVX512, 1).lanes == backward


def test_chunks_fit_the_cache():
    for case in (work(64, 64, (512, 512), 3), work(512, 64, (64, 64), 7), work(16, 16, (64, 64, 64), 3)):
        chunk = schedule.forward(case, AVX512, 2).chunk
        pixels = torch.tensor([c + case.geometry.kernel[0] - 1 for c in chunk]).prod()
        assert pixels * case.channels * 4 <= AVX512.cache_bytes


def test_few_images_are_shared_out_by_filters():
    case = work(256, 256, (8, 8), 3, batch=1)
    assert schedule.forward(case, AVX512, 1).parts <= schedule.forward(case, AVX512, 8).parts
    assert schedule.forward(case, AVX512, 8).parts == 16


def test_tasks_of_whole_images_where_these_are_many():
    """They lie in the caches of a task; few images are cut, so that every thread has work."""
    many, one = (work(3, 64, (112, 112), 7, stride=2, batch=batch) for batch in (8, 1))
    assert schedule.backward(many, AVX512, 1).parts == 8
    assert schedule.backward(one, AVX512, 1).parts == 3


def test_machines():
    assert machine_of("x86_64", ("sse2", "avx512f")).lanes(4) == 16
    assert machine_of("x86_64", ("sse2", "avx2", "fma")).lanes(8) == 4
    assert machine_of("x86_64", ("sse2",)) == Machine("x86_64", ("sse2",), 16, 16)
    assert machine_of("aarch64", ("asimd",)).registers == 32


def test_one_build_serves_every_shape():
    """The functions are the same for any geometry, size, batch and number of channels."""
    formula = Formula(lambda x, w: torch.abs(x - w) + 0.75)
    found = set()
    for dims, taps, channels in ((1, 5, 32), (2, 3, 64), (3, 2, 96)):
        geometry = Geometry.of(dims, taps, stride=2, dilation=2, padding=3)
        problem = Problem(formula, geometry, channels, 64, "float32", "cpu")
        made = kernel_of(problem, Work.of(problem, 1, (16,) * dims), trains=True, required=True)
        found.add((id(made.forward), id(made.backward)))
    assert len(found) == 1


def test_a_build_serves_the_calls_with_its_lanes():
    """Channels, groups of one, or sites; the last have code of their own for padding that is skipped."""
    formula = Formula(lambda x, w: torch.abs(x - w), "max")
    titles = []
    for channels, groups, mode in ((64, 1, "skip"), (64, 64, "zeros"), (2, 1, "zeros"), (2, 1, "skip")):
        geometry = Geometry.of(2, 3, groups=groups, padding=1, padding_mode=mode)
        problem = Problem(formula, geometry, channels, channels, "float32", "cpu")
        sources = kernel._sources(problem, Work.of(problem, 1, (16, 16)), trains=True)
        titles.append([str(source.variant) for source in sources])
    assert titles == [
        ["lanes of channels; saves states", "lanes of channels"],
        ["lanes of groups; saves states", "lanes of groups"],
        ["lanes of sites; saves states", "lanes of sites"],
        ["lanes of sites; saves states; skips padding", "lanes of sites; skips padding"],
    ]


def test_a_sum_saves_no_states_and_has_one_forward_pass():
    formula = Formula(lambda x, w: torch.abs(x - w))
    problem = Problem(formula, Geometry.of(2, 3), 64, 64, "float32", "cpu")
    work = Work.of(problem, 1, (16, 16))
    assert kernel._sources(problem, work, trains=True)[0] is kernel._sources(problem, work, trains=False)[0]


def test_layers_that_differ_in_name_only_share_a_source():
    one = render(Formula(lambda x, w: torch.exp(x - w), name="one"), "float32", AVX512)
    two = render(Formula(lambda x, w: torch.exp(x - w), name="two"), "float32", AVX512)
    assert one is two
