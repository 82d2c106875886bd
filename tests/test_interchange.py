"""Layers as modules of PyTorch: copies, pickles, state dicts, from_torch, parametrizations, lazy and meta layers, counters."""

import copy
import io
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from cells import cell
from checks import assert_same
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.flop_counter import FlopCounterMode

import anyconv
from anyconv import Formula, recipes
from anyconv.errors import AnyConvError, ExprError, FormulaError
from anyconv.text import Written

ABSOLUTE = Formula(lambda x, weight: -torch.abs(x - weight))
BIASED = Formula(lambda x, w, b: torch.tanh(w * x + b))
EVERYTHING = {
    "tangent": Formula(lambda x, w: torch.tan(x + w), "prod"),
    "own gradient": Formula(lambda x, w: -torch.abs(x - w), gradient={"x": lambda x, w: (w - x).clamp(-1, 1)}),
    "epilogue": Formula(
        lambda x, c, s, w: (w * torch.exp(-(((x - c) * s) ** 2)) * x, x * s), ("sum", anyconv.norm(2.5)),
        epilogue=lambda a, b, gain: gain * a / (1 + b), name="bilateral",
        operands={"c": anyconv.center(), "s": anyconv.per_filter(init=1.0), "gain": anyconv.shared(init=nn.init.ones_)},
    ),
    "vector": Formula(lambda x, w: w[0] + x * (w[1] + x * w[2]), operands={"w": anyconv.per_tap(size=3)}),
    "over": Formula(lambda x, w: x + w, anyconv.over(taps="max", channels="sum")),
    "field": Formula(lambda x: anyconv.sort_network(x)[4], field=(3, 3)),
    "own reduction": Formula(lambda x, w: x * w, anyconv.Reduction(
        "energy", identity=0.0, step=lambda s, v: s + v * v, merge=lambda a, b: a + b, result=torch.sqrt, adjoint=lambda s, v: v / torch.sqrt(s),
    )),
    "softmax": Formula(lambda x, w: (x * w, x), "softmax"),
}  # fmt: skip


# --- texts


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_text_leads_back(name):
    formula = EVERYTHING[name]
    assert Formula.of_text(formula.text) is Formula.of_text(formula.text)
    again = Formula.of_text(formula.text + " ")  # another text, so another object
    assert again is not formula
    assert (again.mathematics, again.pixel, again.text) == (formula.mathematics, formula.pixel, formula.text)
    assert list(again.parameters) == list(formula.parameters)


@pytest.mark.parametrize(
    "name",
    sorted(n for n in recipes.__all__ if isinstance(getattr(recipes, n), recipes.Recipe) and getattr(recipes, n).make),
)
def test_every_recipe_has_a_text(name):
    formula = getattr(recipes, name).formula
    assert Formula.of_text(formula.text + " ").mathematics == formula.mathematics


HOSTILE = [
    "", "[]", "{}", "__import__('os').system('true')", '{"map": [["x"], ["__import__(1)"]], "reduce": "sum"}',
    '{"map": [["x", "w"], ["x.__class__"]], "reduce": "sum"}', '{"map": [["x"], ["y"]], "reduce": "sum"}',
    '{"map": [["x"], ["x"]], "reduce": "nothing"}', '{"map": [["x"], ["x"]], "reduce": {"name": "a"}}', '{"map": [["lambda: 0"], ["1"]], "reduce": "sum"}',
    '{"map": [["x", "w"], ["x * w"]], "reduce": "sum", "operands": {"w": {"scope": "per_cent"}}}', '{"map": [["x"], []], "reduce": "sum"}',
    '{"map": [["x"], ["[x for x in (1,)]"]], "reduce": "sum"}', '{"map": [["x", "w"], ["x * w"]], "reduce": "sum", "gradient": {"q": [["x"], ["x"]]}}',
]  # fmt: skip


@cell("modules", "formulas from text: a closed grammar, nothing is evaluated")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_from_elsewhere_is_read_and_never_run(text):
    with pytest.raises((FormulaError, ExprError, AnyConvError)):
        Formula.of_text(text)


def test_a_function_read_back_is_none_of_tensors():
    function = pickle.loads(pickle.dumps(BIASED)).map
    assert isinstance(function, Written)
    with pytest.raises(FormulaError, match="read back from its text"):
        function(torch.ones(1), torch.ones(1), torch.ones(1))


# --- copies


@pytest.mark.sample(3)
@cell("modules", "deepcopy, pickle, torch.save, with formulas of lambdas")
@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies(name, copied):
    formula = EVERYTHING[name]
    layer = anyconv.Pool2d(3, formula) if name == "field" else anyconv.Conv2d(2, 3, 3, formula)
    again = copied(layer)
    assert again.formula == formula
    assert again.formula.name == formula.name
    assert repr(again) == repr(layer)
    x = torch.rand(1, 2, 5, 5)
    assert_same(again(x), layer(x))
    with torch.no_grad():
        for p in again.parameters():
            p.add_(1.0)
    assert all(not torch.equal(p, q) for p, q in zip(again.parameters(), layer.parameters(), strict=True))


def test_a_subclass_and_its_formula_are_pickled():
    stream = io.BytesIO()
    torch.save(nn.Sequential(Own(2, 3, 3)), stream)
    stream.seek(0)
    again = torch.load(stream, weights_only=False)
    x = torch.rand(1, 2, 5, 5)
    assert isinstance(again[0], Own)
    assert again(x).shape == (1, 3, 3, 3)


class Own(anyconv.Conv2d):
    reduce = "max"

    def map(self, x, w):
        return torch.tanh(x + w)


def test_what_a_pickle_cannot_hold_is_said():
    """Start values and hooks are functions, of which a pickle holds the names."""
    layer = anyconv.Conv2d(
        1, 1, 1, Formula(lambda x, w: x * w.tanh(), operands={"w": anyconv.per_tap(init=lambda w: w.zero_())})
    )
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(layer)
    again = pickle.loads(pickle.dumps(anyconv.Conv2d(2, 3, 3, EVERYTHING["epilogue"])))
    with torch.no_grad():
        again.gain.zero_()
    again.reset_parameters()
    assert again.gain == 1


def test_another_process_reads_a_pickle(tmp_path):
    x = torch.rand(1, 2, 5, 5)
    layer = anyconv.Conv2d(2, 3, 3, EVERYTHING["own gradient"])
    (tmp_path / "layer.pickle").write_bytes(pickle.dumps((layer, x, layer(x).detach())))
    code = f"""
        import pickle, torch
        layer, x, want = pickle.loads(open({str(tmp_path / "layer.pickle")!r}, "rb").read())
        assert torch.equal(layer(x), want)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- state dicts


@cell("modules", "state_dict from and to nn.ConvNd, nn.ConvTransposeNd")
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_state_dicts(dims, transposed):
    name = f"Conv{'Transpose' if transposed else ''}{dims}d"
    theirs, ours = getattr(nn, name)(4, 6, 3, groups=2), getattr(anyconv, name)(4, 6, 3, ABSOLUTE, groups=2)
    assert set(ours.state_dict()) == set(theirs.state_dict()) == {"weight", "bias"}
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours.weight.detach(), theirs.weight.detach())
    fresh = getattr(nn, name)(4, 6, 3, groups=2)
    fresh.load_state_dict(ours.state_dict())
    assert_same(fresh.weight.detach(), theirs.weight.detach())


def test_a_weight_goes_to_the_only_operand_per_tap():
    theirs = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    ours = nn.Sequential(anyconv.Conv2d(2, 3, 3, lambda x, w: -torch.abs(x - w)), nn.ReLU())
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours[0].w.detach(), theirs[0].weight.detach())
    ours.load_state_dict(ours.state_dict())
    two = anyconv.Conv2d(2, 3, 3, BIASED)
    with pytest.raises(RuntimeError, match=r"Missing key.*\"w\", \"b\""):
        two.load_state_dict(theirs[0].state_dict())


@cell("modules", "from_torch")
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_from_torch(dims, transposed):
    name = f"Conv{'Transpose' if transposed else ''}{dims}d"
    more = {"output_padding": 1} if transposed else {"padding_mode": "circular"}
    layer = getattr(nn, name)(4, 6, 3, stride=2, padding=1, dilation=1, groups=2, dtype=torch.float64, **more)
    made = getattr(anyconv, name).from_torch(layer)
    x = torch.randn(2, 4, *(7,) * dims, dtype=torch.float64)
    torch.testing.assert_close(made(x), layer(x))
    other = getattr(anyconv, name).from_torch(layer.eval(), ABSOLUTE)
    assert_same(other.weight.detach(), layer.weight.detach())
    assert not other.training


def test_what_from_torch_cannot_take():
    with pytest.raises(FormulaError, match=r"`layer` must be an nn.Conv2d, got Conv1d"):
        anyconv.Conv2d.from_torch(nn.Conv1d(1, 1, 1))
    with pytest.raises(FormulaError, match="no operand that stands for the weight"):
        anyconv.Conv2d.from_torch(nn.Conv2d(1, 1, 1), BIASED)
    assert isinstance(Own.from_torch(nn.Conv2d(2, 3, 3)), Own)


# --- what PyTorch does to modules


@cell("modules", "parametrizations, weight_norm, spectral_norm, pruning")
def test_parametrizations():
    x = torch.randn(1, 2, 5, 5)
    for change in (parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal):
        layer = change(anyconv.Conv2d(2, 4, 3, ABSOLUTE), "weight")
        assert parametrize.is_parametrized(layer)
        want = anyconv.conv2d(x, layer.weight, ABSOLUTE, layer.bias)
        torch.testing.assert_close(layer.eval()(x), anyconv.conv2d(x, layer.weight, ABSOLUTE, layer.bias))
        want.sum().backward()
        assert all(p.grad is not None for p in layer.parameters())
    layer = prune.l1_unstructured(anyconv.Conv2d(2, 4, 3, ABSOLUTE), "weight", amount=0.5)
    assert (layer.weight == 0).sum() == 36
    torch.testing.assert_close(layer(x), anyconv.conv2d(x, layer.weight, ABSOLUTE, layer.bias))
    prune.remove(layer, "weight")
    assert "weight" in dict(layer.named_parameters())


@cell("modules", "lazy layers")
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_lazy_layers(dims):
    kind = getattr(anyconv, f"Conv{dims}d")
    formula = Formula(
        lambda x, w, s, q: torch.tanh(x * w + q) * s,
        operands={"s": anyconv.per_filter(init=2.0), "q": anyconv.per_channel(frozen=True, init=0.5)},
    )
    layer = getattr(anyconv, f"LazyConv{dims}d")(6, 3, formula, groups=2, padding=1, dtype=torch.float64)
    assert repr(layer).startswith(f"LazyConv{dims}d(0, 6")
    x = torch.randn(2, 4, *(5,) * dims, dtype=torch.float64)
    y = layer(x)
    assert type(layer) is kind
    assert (layer.in_channels, layer.w.shape[:2], layer.q.shape) == (4, (6, 2), (4,))
    assert (layer.s == 2).all()
    assert (layer.q == 0.5).all()
    again = kind(4, 6, 3, formula, groups=2, padding=1, dtype=torch.float64)
    again.load_state_dict(layer.state_dict())
    assert_same(again(x), y)
    fresh = getattr(anyconv, f"LazyConv{dims}d")(6, 3, formula, groups=2, padding=1, dtype=torch.float64)
    fresh.load_state_dict(layer.state_dict())
    assert_same(fresh(x), y)


@cell("modules", "skip_init, the meta device, to_empty")
def test_meta():
    skipped = nn.utils.skip_init(anyconv.Conv2d, 2, 3, 3, ABSOLUTE)
    assert skipped.weight.device.type == "cpu"
    with torch.device("meta"):
        layer = anyconv.Conv2d(2, 3, 3, BIASED, stride=2)
    y = layer(torch.empty(4, 2, 9, 9, device="meta"))
    assert (y.shape, y.device.type) == ((4, 3, 4, 4), "meta")
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.randn(4, 2, 9, 9)).isfinite().all()


def test_only_those_who_count_wait_for_the_counter():
    """It imports Triton; whoever imports it after us counts our operators, too."""
    program = """
        import sys, torch, anyconv
        x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)
        anyconv.conv2d(x, w, lambda x, w: torch.abs(x - w), backend="reference")
        assert "torch.utils.flop_counter" not in sys.modules
        from torch.utils.flop_counter import FlopCounterMode
        with FlopCounterMode(display=False) as counter:
            anyconv.conv2d(x, w, lambda x, w: torch.abs(x - w), backend="reference")
        assert counter.get_total_flops() == 3 * (3 * 3 * 3) * (2 * 3 * 3)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@cell("modules", "counters: FLOPs as PyTorch counts its own, parameters and shapes of summaries")
def test_counters():
    x = torch.randn(2, 4, 9, 9, requires_grad=True)
    theirs, ours = nn.Conv2d(4, 8, 3), anyconv.Conv2d(4, 8, 3, lambda x, w: x * w, backend="cpp")

    def counted(layer):
        with FlopCounterMode(display=False) as counter:
            layer(x).sum().backward()
        return counter.get_total_flops()

    assert counted(ours) == counted(theirs) == 3 * 2 * (2 * 8 * 7 * 7) * (4 * 9)
    assert counted(anyconv.Conv2d(4, 8, 3, lambda x, w: torch.abs(x - w))) > counted(ours)
    torchinfo = pytest.importorskip("torchinfo")
    summary = torchinfo.summary(nn.Sequential(ours, nn.ReLU()), input_data=x, verbose=0)
    assert summary.total_params == 8 * 4 * 9 + 8
    assert "[2, 8, 7, 7]" in str(summary)
