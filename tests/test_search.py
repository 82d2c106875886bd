"""The random search: its grammar, its oracle, its checker, its shrinker; that it finds planted bugs; and a minute of it."""

import copy
import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import oracle as naive
import pytest
import torch
import torch.nn.functional as F
from checks import assert_near
from search import block, check, draw, maps, oracle, planted, report, spellings
from search.case import Case, Operand, Own, Place, Source
from search.formulas import formula_of
from search.known import known
from search.numbers import LAYOUTS, RANGES, tensors_of
from search.rounding import Rounding
from search.shrink import shrink
from search.tally import Tally, record

import anyconv
from anyconv.backends import reference
from anyconv.expr.ops import TABLE

ROOT = Path(__file__).parents[1]
PLAIN = Source("lambda x, w: x * w", (Operand("w"),))
PLACE = Place(
    size=(4, 5), kernel=(2, 3), stride=(1, 2), padding=(1, 1), dilation=(2, 1), channels=2, filters=3, more=(0, 0)
)


# --- the grammar


def test_every_operation_has_a_spelling():
    """Each template is traced alone; together they make every row of the table."""
    found = set()
    for op, (templates, _) in spellings.REAL.items():
        for template in templates:
            text = template.format("x", "w", "b", c="(x > w)")
            found |= {
                node.op for node in anyconv.Formula(eval(f"lambda x, w, b: {text} + 0 * w * b", globals())).expr.nodes()
            }
        assert op in found or op not in TABLE, op
    for templates in spellings.CONDITIONS.values():
        for template in templates:
            text = template.format("x", "w", c="(x > w)", d="(x < 1)")
            found |= {node.op for node in anyconv.Formula(eval(f"lambda x, w: {text} * w", globals())).expr.nodes()}
    assert set(TABLE) - found == set()


@pytest.mark.parametrize("shape", maps.SHAPES)
def test_maps_of_each_shape_are_traced(shape):
    atoms = maps.Atoms(("x", "m"), ("w", "v[0]", "v[1]"))
    for seed in range(10):
        text = maps.expression(random.Random(seed), shape, atoms)
        operands = {"m": anyconv.guide(), "v": anyconv.per_tap(size=2)}
        anyconv.Formula(eval(f"lambda x, m, w, v: {text}", globals()), operands=operands)


def test_a_case_follows_from_its_seed_and_index():
    draw.formula.cache_clear()
    first = [draw.case(3, index) for index in range(0, 900, 7)]
    draw.formula.cache_clear()
    assert first == [draw.case(3, index) for index in range(0, 900, 7)]
    assert len({case.source for case in first}) > 25


def test_nearly_all_cases_are_computed():
    refused = 0
    for number in range(60):
        try:
            formula_of(draw.formula(2, number).source)
        except anyconv.AnyConvError:
            refused += 1
    assert refused <= 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_hold_the_numbers_that_were_drawn(layout):
    t = torch.randn(2, 3, 4, 5)
    laid = LAYOUTS[layout](t)
    assert laid.shape == t.shape
    if layout != "expanded":
        assert torch.equal(laid, t)
    if layout != "contiguous":
        assert laid.stride() != t.stride() or laid.storage_offset() > 0


@pytest.mark.parametrize("numbers", RANGES)
def test_ranges_are_reproducible(numbers):
    case = Case(PLAIN, PLACE, numbers=numbers)
    one, two = tensors_of(case), tensors_of(case)
    assert all(torch.equal(one[0][n], two[0][n]) or one[0][n].isnan().any() for n in one[0])


# --- the oracle


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", 0.5])
def test_oracle_is_torchs_convolution(mode):
    tensors, _ = tensors_of(Case(PLAIN, replace(PLACE, mode=mode, bias=True)))
    pads, value = (1, 1, 1, 1), 0.5 if mode == 0.5 else 0.0
    padded = F.pad(tensors["x"], pads, value=value) if mode in ("zeros", 0.5) else F.pad(tensors["x"], pads, mode=mode)
    want = F.conv2d(padded, tensors["w"], tensors["bias"], stride=(1, 2), dilation=(2, 1))
    assert_near(oracle.evaluate(PLAIN, replace(PLACE, mode=mode, bias=True), tensors), want, terms=12)


def test_oracle_is_torchs_transposed_convolution():
    place = replace(PLACE, kind="transposed", mode="skip", groups=2, stride=(2, 3), more=(1, 2), bias=True)
    tensors, _ = tensors_of(Case(PLAIN, place))
    want = F.conv_transpose2d(
        tensors["x"],
        tensors["w"],
        tensors["bias"],
        stride=(2, 3),
        padding=1,
        output_padding=(1, 2),
        groups=2,
        dilation=(2, 1),
    )
    assert_near(oracle.evaluate(PLAIN, place, tensors), want, terms=12)


@pytest.mark.parametrize("ceil", [False, True])
def test_oracle_is_torchs_pooling(ceil):
    source = Source("lambda x: x", (), ("max",))
    place = Place(
        size=(5, 6),
        kernel=(2, 3),
        stride=(2, 3),
        padding=(1, 1),
        dilation=(1, 2),
        groups=3,
        mode="skip",
        kind="pool",
        ceil=ceil,
    )
    tensors, _ = tensors_of(Case(source, place))
    want = F.max_pool2d(tensors["x"], (2, 3), (2, 3), 1, (1, 2), ceil_mode=ceil)
    assert torch.equal(oracle.evaluate(source, place, tensors), want)


@pytest.mark.parametrize(
    "operand",
    [
        Operand("v", scope) for scope in ("per_filter", "per_channel", "per_pair", "per_offset", "shared", "center", "guide")
    ] + [Operand("v", "guide", mask=True)] + [Operand("v", "per_site", along=a) for a in ("nock", "ock", "nk", "nc", "o", "")],
    ids=lambda o: o.kind,
)  # fmt: skip
@pytest.mark.parametrize("mode", ["zeros", "skip", "replicate"])
def test_oracle_is_the_naive_oracle(operand, mode):
    """Two oracles that share no code, one site at a time and all at once."""
    source = Source("lambda x, w, v: torch.tanh(x * w + 0.3 * v) * torch.cos(v)", (Operand("w"), operand))
    place = replace(PLACE, groups=2, filters=1, mode=mode, batch=2)
    tensors, _ = tensors_of(Case(source, place))
    kinds = {"center": ("center", None), "guide": ("guide",), "per_site": ("per_site", operand.along)}
    scene = naive.Scene(
        tensors["x"], {n: t for n, t in tensors.items() if n != "x"}, {"v": kinds.get(operand.scope, operand.scope)},
        kernel=place.kernel, stride=place.stride, before=(1, 1), dilation=place.dilation, groups=2, mode=mode, out_channels=2,
        sites=place.sites,
    )  # fmt: skip
    want = scene.run(oracle.compiled(source.map), ["w", "v"], "sum")
    assert_near(oracle.evaluate(source, place, tensors), want, terms=12)


def test_where_is_differentiated_where_it_is_taken():
    x = torch.tensor([0.0, 2.0], dtype=torch.float64, requires_grad=True)
    y = oracle.selecting("lambda x: torch.where(x == 0, 1, torch.sin(x) / x)")(x)
    (g,) = torch.autograd.grad(y.sum(), x)
    assert g[0] == 0
    assert_near(g[1:].detach(), (x.cos() / x - x.sin() / x**2)[1:].detach())


def test_given_gradients_replace_the_maps():
    source = replace(PLAIN, gradient=(("x", "lambda x, w: w * 0 + 2"),))
    tensors = {n: t.requires_grad_() for n, t in tensors_of(Case(source, PLACE))[0].items()}
    y = oracle.evaluate(source, PLACE, tensors)
    twice = oracle.evaluate(PLAIN, PLACE, tensors | {"w": torch.full_like(tensors["w"], 2.0)})
    found, want = (torch.autograd.grad(v.sum(), tensors["x"])[0] for v in (y, twice))
    assert_near(found, want, terms=12)


# --- the checker


def found_by(case, change):
    """The failures that the checker sees when numbers of ours are changed."""
    numbers = {n: t.clone() for n, t in check._run(case).items()}
    change(numbers)
    return check.Comparison(case).outcome(numbers, "reference").failures


WRONG = {
    "value": lambda numbers: numbers["y"].view(-1)[3].mul_(1 + 1e-4),
    "gradient": lambda numbers: numbers["gradient of w"].view(-1)[2].add_(1e-3),
    "sign": lambda numbers: numbers["gradient of x"].neg_(),
    "NaN": lambda numbers: numbers["gradient of w"].view(-1)[0].fill_(float("nan")),
    "infinity": lambda numbers: numbers["y"].view(-1)[0].fill_(float("inf")),
    "dtype": lambda numbers: numbers.update(
        y=numbers["y"].double() if numbers["y"].dtype != torch.float64 else numbers["y"].float()
    ),
    "shape": lambda numbers: numbers.update({"gradient of w": numbers["gradient of w"][:1]}),
    "missing term": lambda numbers: numbers["y"].view(-1)[0].sub_(1e-2),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_checker_rejects_a_wrong_answer(wrong, dtype):
    case = Case(replace(PLAIN, map="lambda x, w: torch.tanh(x * w)"), PLACE, dtype, backend="reference")
    assert not check.run(case).failures
    assert found_by(case, WRONG[wrong])


def test_checker_rejects_a_half_that_was_summed_in_halves():
    case = Case(PLAIN, replace(PLACE, channels=60, mode="skip"), "float16", backend="reference")
    assert not check.run(case).failures

    def in_halves(numbers):
        tensors, _ = tensors_of(case)
        numbers["y"] = oracle.evaluate(PLAIN, case.place, tensors)

    assert found_by(case, in_halves)


def test_checker_rejects_a_cancellation_of_our_own_making():
    """``(x - 100) * w`` computed as ``x * w - 100 * w``; as it is written, it is right."""
    source = replace(PLAIN, map="lambda x, w: (x - 100) * w")
    case = Case(source, PLACE, "float32", numbers="offset", backend="reference")
    assert not check.run(case).failures

    def expanded(numbers):
        tensors, _ = tensors_of(case)
        numbers["y"] = oracle.evaluate(replace(PLAIN, map="lambda x, w: x * w - 100 * w"), PLACE, tensors)

    assert found_by(case, expanded)


def test_checker_decides_ties():
    """Two equal pixels share the gradient of a maximum."""
    source, place = Source("lambda x: x", (), ("max",)), Place(size=(4,), kernel=(4,))
    case = Case(source, place, "float32", numbers="grid", backend="reference", seed=6)
    assert len(tensors_of(case)[0]["x"].unique()) < 4
    assert not check.run(case).failures
    assert found_by(case, lambda numbers: numbers["gradient of x"].copy_(numbers["gradient of x"].sign()))


def test_checker_leaves_what_rounding_flips():
    """``x * 0.1 * 10`` is ``x`` or beside it, so its floor is ``x`` or ``x - 1``; what is no neighbor is refused."""
    source, place = (
        Source("lambda x, w: torch.floor(x * 0.1 * 10 * w / w)", (Operand("w"),)),
        Place(size=(30,), kernel=(1,)),
    )
    case = Case(source, place, "float32", numbers="grid", backend="reference", seed=3)
    tensors, _ = tensors_of(case)
    comparison = check.Comparison(case)
    comparison.sharpen(60)
    whole = (tensors["x"] == tensors["x"].round()) & (tensors["x"] != 0)
    assert (comparison.moved["y"][whole] == 1).any()
    half = tensors["x"] != tensors["x"].round()
    assert comparison.wrong("y", comparison.gold["y"] + 1)[half & ~comparison.gold["y"].isnan()].all()


def test_checker_rejects_a_kind_of_infinity_that_is_decided():
    """A gradient that is infinite is no NaN; where an infinity meets a zero, either will do."""
    case = Case(PLAIN, Place(size=(2,), kernel=(1,)), "float32", numbers="special gradient", backend="reference")
    comparison = check.Comparison(case)
    comparison.tensors |= {"x": torch.tensor([[[2.0, 0.0]]]).double(), "w": torch.ones(1, 1, 1).double()}
    comparison.grad = torch.tensor([[[math.inf, math.inf]]]).double()
    comparison.gold = comparison.evaluate()
    name = "gradient of x"
    assert comparison.wrong(name, torch.full((1, 1, 2), math.nan).double()).all()
    comparison.tensors["w"] = torch.zeros(1, 1, 1).double()
    comparison.gold = comparison.evaluate()
    assert comparison.gold[name].isnan().all()
    del comparison._large
    assert not comparison.wrong(name, torch.full((1, 1, 2), math.inf).double()).any()
    assert comparison.wrong(name, torch.zeros(1, 1, 2).double()).all()


def test_a_sum_that_ends_exactly_was_rounded_on_its_way():
    """Three numbers with a sum that float32 holds, two of which it does not; halves are exact on all ways."""
    terms = torch.tensor([1 + 2.0**-23, 2.0**-24, -1.0], dtype=torch.float64)
    with Rounding(2.0**-23, 1):
        moved, exact = terms.sum(), torch.tensor([0.5, 1.5, -1.0], dtype=torch.float64).sum()
    assert moved != terms.sum()
    assert exact == 1


def test_checker_tells_what_halves_explain():
    """Sums in half precision are explained by it; a term that is missing is not."""
    case = Case(PLAIN, replace(PLACE, channels=60, mode="skip"), "float16", backend="reference")
    tensors, _ = tensors_of(case)
    in_halves = oracle.evaluate(PLAIN, case.place, tensors)
    (sums,) = found_by(case, lambda numbers: numbers.update(y=in_halves))
    (missing,) = found_by(case, lambda numbers: numbers["y"].mul_(0.5))
    assert sums.in_half
    assert not missing.in_half


def test_backends_and_layouts_share_the_oracles_numbers():
    case = Case(PLAIN, PLACE, "float32", layout="sliced", backend="cpp")
    assert check.comparison_of(case) is check.comparison_of(
        replace(case, layout="offset", backend="reference", threads=2)
    )
    assert check.comparison_of(case) is not check.comparison_of(replace(case, layout="expanded"))
    assert check.comparison_of(case) is not check.comparison_of(replace(case, dtype="float64"))


# --- shrinking and printing


def test_shrinker_makes_a_case_small():
    case = Case(
        Source(
            "lambda x, w, m: torch.tanh(x * w) * torch.sin(m) + w * m", (Operand("w"), Operand("m", "guide")), ("max",),
            epilogue="lambda y, gain: y * gain", gradient=(("w", "lambda w: w"),),
        ),
        replace(PLACE, groups=2, bias=True, batch=3), "float16", "special", "sliced", threads=3,
    )  # fmt: skip
    small = shrink(case, lambda one: "torch.sin" in one.source.map, seconds=20)
    assert small.source.map in ("lambda x: torch.sin(x)", "lambda x, w: torch.sin(x)", "lambda x, w: torch.sin(w)")
    assert (small.layout, small.threads, small.dtype) == ("contiguous", 1, "float64")
    assert max(small.place.size) <= 2
    assert small.place.dims == small.place.batch == small.place.groups == 1
    assert small.source.gradient == ()


def test_printed_test_fails_while_the_bug_is_there(monkeypatch):
    case = Case(replace(PLAIN, map="lambda x, w: torch.tanh(x * w)"), PLACE, backend="reference")
    right = reference.gradients
    with monkeypatch.context() as bug:
        bug.setattr(
            reference, "gradients", lambda *given: {n: g + 1 if n == "w" else g for n, g in right(*given).items()}
        )
        text = report.as_test(report.smallest(case, 4), "test_found")
        space = {}
        exec(text, space)
        with pytest.raises(AssertionError):
            space["test_found"]()
    space["test_found"]()
    assert len(text.splitlines()) < 32


def test_printed_test_of_a_second_derivative_fails_while_the_bug_is_there(monkeypatch):
    case = Case(replace(PLAIN, map="lambda x, w: torch.tanh(x * w)"), PLACE, backend="reference", second=True)
    with monkeypatch.context() as bug:
        right = reference.gradients
        bug.setattr(reference, "gradients", lambda call, *given: _one_more_if_moved(right(call, *given), call))
        text, space = report.as_test(case, "test_found"), {}
        assert "second = " in text
        exec(text, space)
        with pytest.raises(AssertionError):
            space["test_found"]()
    space["test_found"]()


def _one_more_if_moved(found, call):
    """Gradients, wrong by one where they are those of a derivative, which sees more tensors."""
    return {n: g + 1 for n, g in found.items()} if len(call.names) > 2 else found


# --- what is known, and no more


def verdict(case, spoil):
    """Whether the oracle's numbers, spoiled, count as a new fault."""
    comparison = check.Comparison(case)
    found = {n: t.to(comparison.dtype) for n, t in comparison.gold.items()}
    outcome = comparison.outcome(spoil(found), case.backend)
    return [known(case, case.backend, f) for f in outcome.failures]


def test_a_pole_explains_no_other_nan():
    source = Source("lambda x, w: torch.where(x == 0, w, torch.sin(w * x) / x)", (Operand("w"),))
    case = Case(source, replace(PLACE, padding=(0, 0)), "float32", numbers="unit", backend="reference")
    assert "" in verdict(case, lambda found: found | {"gradient of w": found["gradient of w"] * math.nan})


def test_one_nan_excuses_only_what_it_reaches():
    case = Case(PLAIN, replace(PLACE, padding=(0, 0)), "float32", numbers="special", backend="reference")
    comparison = check.Comparison(case)
    comparison.gold["y"] = torch.zeros_like(comparison.gold["y"])
    comparison.gold["y"][0, 0, 0, 0] = math.nan
    spoiled = torch.full_like(comparison.gold["gradient of x"], math.nan)
    comparison.gold["gradient of x"] = torch.ones_like(spoiled)
    wrong = comparison.wrong("gradient of x", spoiled)
    assert wrong.any()
    assert not wrong.all()


def test_halves_are_not_excused_by_rough_functions():
    source = Source("lambda x, w: torch.tanh(x * w)", (Operand("w"),))
    case = Case(source, PLACE, "bfloat16", backend="triton")
    assert set(verdict(case, lambda found: {n: 1.4 * t for n, t in found.items()})) == {""}
    rough = replace(case, dtype="float32")
    assert set(verdict(rough, lambda found: {n: (1 + 3e-6) * t for n, t in found.items()})) <= {"functions on triton"}


# --- the tally


def test_tally_counts_and_resumes(tmp_path):
    path, cases = tmp_path / "tally.jsonl", [draw.case(1, index) for index in range(3)]
    bad = check.Failure("y", "differs", "by much", 9.0)
    outcomes = [check.Outcome("reference"), check.Outcome("cpp", failures=(bad,)), check.Outcome(refused="no")]
    tally = Tally(path)
    tally.add(record(case, outcome) for case, outcome in zip(cases, outcomes, strict=True))
    again = Tally(path)
    assert again.done == {(1, 0), (1, 1), (1, 2)}
    assert again.pairs == tally.pairs
    assert again.faults == (not known(cases[1], "cpp", bad))
    assert json.loads(path.read_text().splitlines()[2])["refused"] == "no"
    assert any("pairs met fewer than" in line for line in again.lines())


@pytest.mark.thorough
def test_drawn_cases_reach_every_pair():
    """Of what is drawn: the backends that kernels and torch decide are counted by the tally itself."""
    tally = Tally()
    for index in range(0, 30 * 800, 2):
        case = draw.case(1, index)
        backend = {"auto": "cpp", "native": "separated"}.get(case.backend, case.backend)
        tally.add([record(case, check.Outcome(backend))])
    few = [line for count, line in tally.least(10**6) if count < 2 and "backend" not in line]
    assert few == []


# --- the search itself


def search(arguments, **environment):
    """The command line, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.search", "--quiet", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_minute_of_the_search():
    code, said = search(
        ["--seed", 2026, "--formulas", 50, "--per-formula", 12, "--cpp", 0.2, "--triton", 0, "--shrink", 20]
    )
    assert code == 0, said


@pytest.mark.thorough
def test_an_hour_of_the_search(tmp_path):
    seed = int(time.time())
    code, said = search(["--seed", seed, "--minutes", 60, "--workers", 2, "--tally", tmp_path / "tally.jsonl"])
    assert code == 0, said


@pytest.mark.thorough
@pytest.mark.parametrize("bug", planted.PLANTED)
def test_a_planted_bug_is_found_in_five_minutes(bug, record_property):
    """The search runs what it finds again without the bug, and counts what passes there."""
    began, workers = time.monotonic(), 2
    code, said = search(
        [
            "--seed",
            7,
            "--triton",
            0,
            "--plant",
            bug,
            "--minutes",
            5,
            "--per-formula",
            12,
            "--stop",
            "--no-report",
            "--workers",
            workers,
        ]
    )
    record_property("seconds", time.monotonic() - began)
    assert code == 1, said
    assert " new | " in said


def test_what_fails_without_the_plant_too_is_no_find(monkeypatch):
    index, bad = 2, check.Failure("y", "differs", "by much", 9.0)
    one = record(draw.case(1, index), check.Outcome("reference", failures=(bad,)))
    passed, failed = copy.deepcopy(one), copy.deepcopy(one)
    monkeypatch.setattr(block, "outcome_of", lambda case: check.Outcome("reference"))
    block.confirmed([passed], 30, draw.Shares())
    monkeypatch.setattr(block, "outcome_of", lambda case: check.Outcome("reference", failures=(bad,)))
    block.confirmed([failed], 30, draw.Shares())
    assert [f["known"] for f in passed["failures"]] == [""]
    assert [f["known"] for f in failed["failures"]] == ["without the plant"]


def test_oracle_shares_no_gradient_with_what_is_left_out():
    """Where the largest of what is there is minus infinity, as what is left out counts for."""
    source = Source("lambda x: x", (), ("max",))
    place = Place(size=(3,), kernel=(2,), padding=(1,), mode="skip")
    x = torch.tensor([[[-math.inf, -math.inf, 1.0]]], dtype=torch.float64, requires_grad=True)
    (gx,) = torch.autograd.grad(oracle.evaluate(source, place, {"x": x}), x, torch.ones(1, 1, 4).double())
    assert gx.tolist() == [[[1.5, 0.5, 2.0]]]


def test_oracle_gives_no_weight_beside_an_infinite_key():
    source = Source("lambda x: (x, 2 * x.clamp(max=5))", (), ("softmax",))
    x = torch.tensor([[[math.inf, 1.0]]], dtype=torch.float64)
    assert oracle.evaluate(source, Place(size=(2,), kernel=(2,)), {"x": x}).tolist() == [[[10.0]]]


def test_oracle_merges_a_users_reduction():
    own = Own("total", "0.0", "lambda s, v: s + v", "lambda a, b: a + b", "lambda s: s", "lambda s, v: 1.0")
    wrong = replace(own, merge="lambda a, b: a")
    x = torch.arange(1.0, 6.0, dtype=torch.float64)[None, None]
    place = Place(size=(5,), kernel=(5,))
    found = [
        oracle.evaluate(Source("lambda x: x", (), (one,)), place, {"x": x}, merges=merges).item()
        for one, merges in ((own, False), (own, True), (wrong, False), (wrong, True))
    ]
    assert found == [15, 15, 15, 3]


def test_terms_that_cancel_were_rounded_on_their_way():
    terms = torch.tensor([1 + 2.0**-23, 2 + 2.0**-22, -3 - 3 * 2.0**-23], dtype=torch.float64)
    with Rounding(2.0**-23, 1):
        assert terms.sum() != 0
    with Rounding(2.0**-10, 1, torch.float16):
        assert torch.tensor(1 + 2.0**-20, dtype=torch.float64) * 1 != 1 + 2.0**-20
