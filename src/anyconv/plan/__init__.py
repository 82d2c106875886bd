"""What to compute, and by which backend: nouns and pure functions, no tensors."""

from .choose import Plan as Plan
from .choose import choose as choose
from .problem import Problem as Problem
