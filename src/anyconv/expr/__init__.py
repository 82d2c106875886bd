"""The language of maps: a small closed set of scalar operations, without torch and without a target.

Read :mod:`.expr` (the node and its text), then :mod:`.ops` (the table), then the verbs: :mod:`.trace` a function,
:mod:`.parse` a text, :mod:`.differentiate`, :mod:`.simplify`, :mod:`.share`, :mod:`.verify`, :mod:`.evaluate`.
"""

from .differentiate import differentiate as differentiate
from .evaluate import evaluate as evaluate
from .expr import Expr as Expr
from .parse import parse as parse
from .share import share as share
from .simplify import simplify as simplify
from .verify import verify as verify
