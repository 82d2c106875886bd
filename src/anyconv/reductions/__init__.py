"""How a receptive field becomes one value: identity, step, merge, result, adjoint, as data."""

from .builtin import BUILTIN as BUILTIN
from .builtin import reduction as reduction
from .laws import check_laws as check_laws
from .reduction import Reduction as Reduction
