"""AnyConv: write the function of one pixel, get the convolution.

    >>> layer = anyconv.Conv2d(3, 16, 3, anyconv.Formula(lambda x, w: torch.tan(x + w), reduce="prod"))

Names are imported when first used, so that the compiler half (`anyconv.expr`, `.reductions`, `.geometry`, `.plan`)
can be used, and tested, without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import cache as cache
    from . import recipes as recipes
    from .errors import AnyConvError as AnyConvError
    from .formula import Formula as Formula
    from .functional import conv1d as conv1d
    from .functional import conv2d as conv2d
    from .functional import conv3d as conv3d
    from .functional import receptive_fields as receptive_fields
    from .lazy import LazyConv1d as LazyConv1d
    from .lazy import LazyConv2d as LazyConv2d
    from .lazy import LazyConv3d as LazyConv3d
    from .modules import Conv1d as Conv1d
    from .modules import Conv2d as Conv2d
    from .modules import Conv3d as Conv3d
    from .networks import sort_network as sort_network
    from .operands import center as center
    from .operands import guide as guide
    from .operands import offsets as offsets
    from .operands import per_channel as per_channel
    from .operands import per_filter as per_filter
    from .operands import per_offset as per_offset
    from .operands import per_pair as per_pair
    from .operands import per_site as per_site
    from .operands import per_tap as per_tap
    from .operands import shared as shared
    from .pooling import Pool1d as Pool1d
    from .pooling import Pool2d as Pool2d
    from .pooling import Pool3d as Pool3d
    from .reductions import Reduction as Reduction
    from .reductions import check_laws as check_laws
    from .reductions import norm as norm
    from .reductions import over as over
    from .tools.convert import convert as convert
    from .tools.decompose import decompose as decompose
    from .tools.explain import explain as explain
    from .tools.tiled import tiled as tiled
    from .transposed import conv_transpose1d as conv_transpose1d
    from .transposed import conv_transpose2d as conv_transpose2d
    from .transposed import conv_transpose3d as conv_transpose3d
    from .transposed_layers import ConvTranspose1d as ConvTranspose1d
    from .transposed_layers import ConvTranspose2d as ConvTranspose2d
    from .transposed_layers import ConvTranspose3d as ConvTranspose3d

_MODULES = ("cache", "recipes")
_HOME = {
    "AnyConvError": "errors",
    "Conv1d": "modules",
    "Conv2d": "modules",
    "Conv3d": "modules",
    "ConvTranspose1d": "transposed_layers",
    "ConvTranspose2d": "transposed_layers",
    "ConvTranspose3d": "transposed_layers",
    "Formula": "formula",
    "LazyConv1d": "lazy",
    "LazyConv2d": "lazy",
    "LazyConv3d": "lazy",
    "Pool1d": "pooling",
    "Pool2d": "pooling",
    "Pool3d": "pooling",
    "Reduction": "reductions",
    "center": "operands",
    "check_laws": "reductions",
    "conv1d": "functional",
    "conv2d": "functional",
    "conv3d": "functional",
    "conv_transpose1d": "transposed",
    "conv_transpose2d": "transposed",
    "conv_transpose3d": "transposed",
    "convert": "tools.convert",
    "decompose": "tools.decompose",
    "explain": "tools.explain",
    "guide": "operands",
    "norm": "reductions",
    "offsets": "operands",
    "over": "reductions",
    "per_channel": "operands",
    "per_filter": "operands",
    "per_offset": "operands",
    "per_pair": "operands",
    "per_site": "operands",
    "per_tap": "operands",
    "receptive_fields": "functional",
    "shared": "operands",
    "sort_network": "networks",
    "tiled": "tools.tiled",
}
__all__ = [*_MODULES, *_HOME]  # noqa: PLE0604 - strings, all of them
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module 'anyconv' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
