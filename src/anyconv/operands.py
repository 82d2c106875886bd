"""Operands: what a map sees beside the pixel, and along which axes each varies.

    >>> Formula(lambda x, w, p: torch.abs(x - w) ** p, operands={"p": per_filter(init=2.0)})
    Formula(y = sum(abs(x - w) ** p))

A *scope* is a set of axes: ``n`` image, ``o`` filter, ``c`` input channel, ``k`` tap, ``s`` site, ``i`` pixel. The
gradient to an operand sums over the axes it lacks; that rule is all there is to know, so a new scope is one row of
``SCOPES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import FormulaError
from .geometry import Geometry, Ints

Init = float | Callable[[Any], Any]
Hook = Callable[[Any], Any]

SCOPES = {  # scope -> the axes along which it varies
    "per_tap": "ock",
    "per_filter": "o",
    "per_channel": "c",
    "per_pair": "oc",
    "per_offset": "k",
    "shared": "",
    "offsets": "k",
    "center": "ncs",
    "guide": "nci",
    "per_site": "nocks",
}
FROM_CALL = ("guide", "per_site")  # images: passed with each call, no parameters of a layer
DERIVED = ("offsets", "center")  # passed by nobody: they follow from the geometry and from x


@dataclass(frozen=True)
class Operand:
    """One declared argument of a map.

    Args:
        scope: a row of ``SCOPES``.
        init: what a layer fills it with: a number, a callable that fills a tensor in place such as
            ``torch.nn.init.ones_``, or None for ``nn.ConvNd``'s uniform distribution.
        size: None for one number, else the length of a vector, of which the map sees ``w[0]``, ``w[1]``, ...
        frozen: it has no gradient; a layer keeps it as a buffer.
        along: for ``per_site``, the axes beside the site: some of ``nock``, in that order.
        of: for ``center``, the guide whose middle it is; None for the pixel's.
        on_gradient: what becomes of its gradient, once that is summed.
    """

    scope: str = "per_tap"
    init: Init | None = None
    size: int | None = None
    frozen: bool = False
    along: str = ""
    of: str | None = None
    on_gradient: Hook | None = None

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise FormulaError(f"there is no scope {self.scope!r}", way_out=f"The scopes are {', '.join(SCOPES)}.")
        if self.init is not None and (
            isinstance(self.init, bool) or not (callable(self.init) or _is_number(self.init))
        ):
            raise FormulaError(
                f"`init` of a {self.scope} operand must be a number, or a callable that fills a tensor, "
                f"got {self.init!r}"
            )
        if self.size is not None and (isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1):
            raise FormulaError(f"`size` of a {self.scope} operand must be a positive int, got {self.size!r}")
        if self.on_gradient is not None and not callable(self.on_gradient):
            raise FormulaError(f"`on_gradient` of a {self.scope} operand must be a function, got {self.on_gradient!r}")

    @property
    def axes(self) -> str:
        """The axes along which the operand varies."""
        if self.scope == "per_site":
            return self.along + "s"
        if self.scope in ("guide", "center") and self.size is not None:
            return SCOPES[self.scope].replace("c", "")
        return SCOPES[self.scope]

    @property
    def is_image(self) -> bool:
        """Whether it has a value for each site or pixel, and not only for filters, channels and taps."""
        return "s" in self.axes or "i" in self.axes

    def shape(
        self, in_channels: int, out_channels: int, geometry: Geometry, batch: int = 1, size: Ints | None = None
    ) -> Ints:
        """The shape of its tensor: its axes in the order ``nocks``, and the length of a vector last.

        Args:
            batch, size: of the input; only an image needs them.
        """
        channels = in_channels // geometry.groups if "o" in self.axes else in_channels
        if "i" in self.axes:
            return (batch, self.size or channels, *(size or ()))
        sites = geometry.sites(size) if size is not None and "s" in self.axes else ()
        sizes: dict[str, Ints] = {
            "n": (batch,), "o": (out_channels,), "c": (channels,), "k": geometry.kernel, "s": sites,
        }  # fmt: skip
        return (*sum((sizes[axis] for axis in self.axes), ()), *((self.size,) if self.size else ()))

    def __str__(self) -> str:
        along = [f"axes {self.axes}"] if self.scope == "per_site" else []
        of = [f"of {self.of}"] if self.of else []
        size = [f"{self.size} numbers"] if self.size else []
        return ", ".join([self.scope, *along, *of, *size, *(["frozen"] if self.frozen else [])])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def per_tap(
    init: Init | None = None, *, size: int | None = None, frozen: bool = False, on_gradient: Hook | None = None
) -> Operand:
    """A weight: shape ``(C_out, C_in / groups, *kernel)``. What an argument is when nothing is declared.

        >>> Formula(lambda x, w: w[0] + x * (w[1] + x * w[2]), operands={"w": per_tap(size=3)})
        Formula(y = sum(w[0] + x * (w[1] + x * w[2])))

    Args:
        init: a number or a callable that fills a tensor in place; None for ``nn.ConvNd``'s uniform distribution.
        size: the length of a vector of which the map sees ``w[0]``, ``w[1]``, ...; it is the tensor's last axis.
        frozen: it has no gradient, and a layer keeps it as a buffer instead of a parameter.
        on_gradient: a function of the whole gradient, once it is summed, that gives what is used in its place:
            AdderNet's adaptive scale, say, ``lambda g: g / g.norm()``.
    """
    return Operand("per_tap", init, size, frozen, on_gradient=on_gradient)


def per_filter(
    init: Init | None = None, *, size: int | None = None, frozen: bool = False, on_gradient: Hook | None = None
) -> Operand:
    """One value per output channel: shape ``(C_out,)``; exponents, slopes. Arguments as :func:`per_tap`."""
    return Operand("per_filter", init, size, frozen, on_gradient=on_gradient)


def per_channel(
    init: Init | None = None, *, size: int | None = None, frozen: bool = False, on_gradient: Hook | None = None
) -> Operand:
    """One value per input channel: shape ``(C_in,)``; thresholds, gains. Arguments as :func:`per_tap`."""
    return Operand("per_channel", init, size, frozen, on_gradient=on_gradient)


def per_pair(
    init: Init | None = None, *, size: int | None = None, frozen: bool = False, on_gradient: Hook | None = None
) -> Operand:
    """One value per filter and channel: shape ``(C_out, C_in / groups)``; wavelets. Arguments as :func:`per_tap`."""
    return Operand("per_pair", init, size, frozen, on_gradient=on_gradient)


def per_offset(
    init: Init | None = None, *, size: int | None = None, frozen: bool = False, on_gradient: Hook | None = None
) -> Operand:
    """One value per tap, for all filters and channels: shape ``(*kernel,)``. Arguments as :func:`per_tap`."""
    return Operand("per_offset", init, size, frozen, on_gradient=on_gradient)


def shared(
    init: Init | None = None, *, size: int | None = None, frozen: bool = False, on_gradient: Hook | None = None
) -> Operand:
    """One value for the whole layer: shape ``()``. Arguments as :func:`per_tap`.

    Frozen, it is a hyper-parameter: ``layer.p.fill_(1.5)`` takes effect at the next call, and nothing is built anew.
    """
    return Operand("shared", init, size, frozen, on_gradient=on_gradient)


def offsets(dims: int) -> Operand:
    """Where the tap is: the map sees ``d[0]``, ... ``d[dims - 1]``, in pixels from the middle of the receptive field.

        >>> Formula(lambda x, d: x * torch.exp(-d[0] ** 2 - d[1] ** 2), operands={"d": offsets(2)})
        Formula(y = sum(x * exp(-d[0] ** 2 - d[1] ** 2)))

    Args:
        dims: the number of spatial axes of the convolution.
    """
    return Operand("offsets", size=dims, frozen=True)


def center(of: str | None = None, *, size: int | None = None) -> Operand:
    """The pixel in the middle of the receptive field, in the channel of the tap; of an even kernel the later one.

        >>> Formula(lambda x, c, w: w * (x - c), operands={"c": center()})
        Formula(y = sum(w * (x - c)))

    Args:
        of: the name of a guide, to see its middle instead.
        size: that of the guide.
    """
    return Operand("center", size=size, of=of)


def guide(*, size: int | None = None) -> Operand:
    """A second image that slides with the pixel: ``(N, C_in, *size)``, or ``(N, 1, *size)`` for all channels; masks.

    It is passed with each call, by name. Padding pads it as it pads ``x``.

    Args:
        size: channels of its own, whatever those of ``x`` are: ``(N, size, *size of x)``; the map sees ``m[0]``, ...
    """
    return Operand("guide", size=size)


def per_site(along: str = "nock", *, size: int | None = None) -> Operand:
    """A value for each site: ``(N, C_out, C_in / groups, *kernel, *sites)``, without the axes not named in ``along``.

        >>> per_site("ock").shape(in_channels=3, out_channels=8, geometry=Geometry.of(2, 3), size=(16, 16))
        (8, 3, 3, 3, 14, 14)

    It is passed with each call, by name. ``"ock"`` is locally connected, ``"nk"`` involution, ``"nock"`` dynamic.

    Args:
        along: the axes beside the site: image ``n``, filter ``o``, input channel ``c`` (of a group, or where there is
            no ``o``, of all), tap ``k``.
        size: the length of a vector, as :func:`per_tap`.
    """
    if (
        not isinstance(along, str)
        or list(along) != sorted(set(along), key="nock".find)
        or not set(along) <= set("nock")
    ):
        raise FormulaError(f"`along` must name some of the axes n, o, c, k, in that order, got {along!r}")
    return Operand("per_site", size=size, along=along)
