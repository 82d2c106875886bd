"""The catalogue says nothing that is not so."""

import pytest
import torch

import anyconv
from anyconv import Formula, recipes
from examples.catalogue import BESIDES, CATALOGUE, OUTPUT, table

EXPRESSED = [e for e in CATALOGUE if e.how is not None]


def test_the_page_is_what_the_command_writes():
    assert OUTPUT.read_text() == table(), "run python -m examples.catalogue"


def test_its_counts():
    assert len(CATALOGUE) == 89
    assert sum(e.expressible for e in CATALOGUE) >= 75
    assert {name for e in CATALOGUE for name in e.recipes} == set(recipes.SHELF)
    assert set(BESIDES) <= set(recipes.SHELF)
    assert all(e.expressible or e.note for e in CATALOGUE)


@pytest.mark.parametrize("entry", EXPRESSED, ids=lambda e: e.layer)
def test_what_is_said_to_be_expressible_is_computed(entry):
    x = torch.rand(2, 2, 6, 6, requires_grad=True)
    if not isinstance(entry.how, Formula):
        y = entry.how(x)
    else:
        formula = entry.how
        kernel = formula.field or (3, 3)
        operands = formula.parameters
        filters = any("o" in o.axes and o.scope != "per_site" for o in operands.values())
        if filters:
            layer = anyconv.Conv2d(2, 2, kernel, formula, backend="reference")
        else:
            layer = anyconv.Pool2d(kernel, formula, stride=1, padding_mode="zeros", backend="reference")
        images = {}
        for name, operand in operands.items():
            if operand.scope in ("guide", "per_site"):
                images[name] = torch.rand(operand.shape(2, 2, layer.geometry, 2, (6, 6)))
        y = layer(x, **images)
    assert y.shape[0] == 2
    assert y.isfinite().all()
    (g,) = torch.autograd.grad(y.square().sum(), x)
    assert g.isfinite().all()
    assert g.any()
