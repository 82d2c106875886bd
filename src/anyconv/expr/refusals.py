"""Calls that a map cannot use, and the way out of each."""

from __future__ import annotations

from ..errors import TraceError, user_line

_REDUCE = "A map sees one pixel; say how the results are combined with `reduce=`, e.g. Formula(map, reduce='{}')."
_SHAPE = "A map sees one pixel, which has no shape, and works for any device and dtype; drop the call."
_ESCAPE = "A map is called once for all pixels, before there are any values; compute with torch functions instead."
_RANDOM = "A map is a fixed function; draw the numbers outside and pass them as an operand."
REFUSED = (
    {name: _REDUCE.format(name.lstrip("a") if name in ("amax", "amin") else name)
     for name in ("sum", "mean", "prod", "max", "min", "amax", "amin", "logsumexp")}
    | dict.fromkeys(("norm", "std", "var", "cumsum", "cumprod", "argmax", "argmin", "softmax", "log_softmax", "median",
                     "sort", "topk", "any", "all", "dot", "matmul", "mm", "linear", "einsum", "normalize"),
                    _REDUCE.format("sum"))
    | dict.fromkeys(("shape", "ndim", "dim", "size", "numel", "view", "reshape", "permute", "transpose", "unsqueeze",
                     "squeeze", "expand", "flatten", "repeat", "T", "mT", "device", "cuda", "cpu", "stack", "cat",
                     "unbind", "chunk", "split", "roll", "flip", "nelement", "element_size", "is_cuda"), _SHAPE)
    | dict.fromkeys(("item", "tolist", "numpy", "data", "grad", "backward", "requires_grad", "is_leaf"), _ESCAPE)
    | dict.fromkeys(("rand_like", "randn_like", "randint_like", "bernoulli", "dropout", "alpha_dropout", "dropout1d",
                     "dropout2d", "dropout3d", "feature_alpha_dropout", "rrelu", "poisson", "normal", "multinomial"),
                    _RANDOM)
)  # fmt: skip


def unusable(name: str) -> TraceError:
    """The error for a function or attribute that means nothing on one pixel."""
    way_out = REFUSED.get(name, "The operations a map may use are listed in anyconv/expr/ops.py.")
    return TraceError(f"`{name}` is not an operation on one pixel", where=user_line(), way_out=way_out)


def in_place(name: str, instead: str) -> TraceError:
    """The error for a call that would overwrite its argument."""
    return TraceError(
        f"`{name}` works in place, and a map must not change its arguments",
        where=user_line(),
        way_out=f"Write `{instead}` and use what it returns.",
    )
