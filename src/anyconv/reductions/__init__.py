"""How a receptive field becomes one value: identity, step, merge, result, adjoint, as data."""

from .builtin import BUILTIN as BUILTIN
from .builtin import OF_TWO as OF_TWO
from .builtin import Over as Over
from .builtin import norm as norm
from .builtin import over as over
from .builtin import reduction as reduction
from .laws import check_laws as check_laws
from .reduction import Reduction as Reduction
from .tangent import tangent as tangent
