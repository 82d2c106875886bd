"""Reductions that users write themselves, as source text; and epilogues."""

from .case import Own

OWN = (
    Own("energy", "0.0", "lambda s, v: s + v * v", "lambda a, b: a + b", "lambda s: torch.sqrt(s + 0.5)",
        "lambda s, v: v / torch.sqrt(s + 0.5)"),
    Own("size", "0.0", "lambda t, v: t + torch.abs(v)", "lambda a, b: a + b", "lambda t: t", "lambda t, v: torch.sign(v)"),
    Own("total", "0.0", "lambda acc, v: acc + v", "lambda a, b: a + b", "lambda acc: acc", "lambda acc, v: 1.0"),
    Own("balance", "(0.0, 0.0)", "lambda s, key, value: (s[0] + key * value, s[1] + value * value)",
        "lambda a, b: (a[0] + b[0], a[1] + b[1])", "lambda s: s[0] / (1 + s[1])",
        "lambda s, key, value: (value / (1 + s[1]), key / (1 + s[1]) - 2 * value * s[0] / ((1 + s[1]) * (1 + s[1])))", values=2),
    Own("sum", "0.0", "lambda s, v: s + torch.tanh(v)", "lambda a, b: a + b", "lambda s: s",
        "lambda s, v: 1 - torch.tanh(v) * torch.tanh(v)"),
    Own("variance", "(0.0, 0.0, 0.0)",
        "lambda s, v: (s[0] + 1, s[1] + (v - s[1]) / (s[0] + 1), s[2] + (v - s[1]) * (v - (s[1] + (v - s[1]) / (s[0] + 1))))",
        "lambda a, b: (a[0] + b[0], (a[0] * a[1] + b[0] * b[1]) / torch.where(a[0] + b[0] > 0, a[0] + b[0], 1.0), "
        "a[2] + b[2] + (b[1] - a[1]) * (b[1] - a[1]) * a[0] * b[0] / torch.where(a[0] + b[0] > 0, a[0] + b[0], 1.0))",
        "lambda s: s[2] / s[0]", "lambda s, v: 2 * (v - s[1]) / s[0]", counts=True),
    Own("running", "(0.0, 0.0)", "lambda s, v: (s[0] + 1, s[1] + (v - s[1]) / (s[0] + 1))",
        "lambda a, b: (a[0] + b[0], (a[0] * a[1] + b[0] * b[1]) / torch.where(a[0] + b[0] > 0, a[0] + b[0], 1.0))",
        "lambda s: s[1]", "lambda s, v: 1 / s[0]", counts=True),
    Own("root mean square", "(0.0, 0.0)", "lambda s, v: (s[0] + 1, s[1] + v * v)", "lambda a, b: (a[0] + b[0], a[1] + b[1])",
        "lambda s: torch.sqrt(s[1] / s[0] + 0.1)", "lambda s, v: v / (s[0] * torch.sqrt(s[1] / s[0] + 0.1))", counts=True),
)  # fmt: skip

OF_TWO = ("softmax", "argmax", "argmin")
OF_ONE = ("sum", "mean", "prod", "max", "min", "logsumexp", "norm2", "norm1.5", "norm3", "norm1")
TUPLES = (
    ("sum", "sum"), ("sum", "mean"), ("max", "min"), ("softmax", "sum"), ("sum", "logsumexp"), ("mean", "argmax"),
    ("prod", "sum"), ("norm2", "sum", "sum"), ("max", "mean", "sum"),
)  # fmt: skip
OVERS = (
    ("max", "sum"), ("max", "mean"), ("mean", "prod"), ("mean", "max"), ("logsumexp", "sum"), ("softmax", "mean"),
    ("sum", "max"), ("sum", "logsumexp"), ("prod", "sum"), ("norm2", "sum"), ("min", "max"), ("argmax", "sum"),
)  # fmt: skip

EPILOGUES = {  # by the number of reduced values; {p} and {q} are operands of the epilogue
    1: ("torch.tanh(y)", "y * y + y", "{p} * y", "y * torch.sin({p}) + {q}", "torch.relu(y)", "y / (1 + torch.abs(y))",
        "torch.sqrt(torch.abs(y) + 0.1) * {p}", "torch.where(y > 0, y, {p} * y)"),
    2: ("a / (torch.abs(b) + 1)", "{p} * a + b", "a - b", "{p} * torch.tanh(a) * {q} + b", "torch.maximum(a, b)",
        "a / b.clamp(min=1)", "torch.exp(-b * b) * a + {p}"),
    3: ("a + b * c", "{p} * torch.tanh(a) + b * torch.sin(c)"),
}  # fmt: skip


def values_of(one: str | Own) -> int:
    """How many values of the map a reduction takes."""
    return one.values if isinstance(one, Own) else 2 if one in OF_TWO else 1
