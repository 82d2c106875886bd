"""The steps of a day with a GPU, one file for each kind, in the order in which they run."""

from .day import Day as Day
from .day import Row as Row
from .day import Step as Step
from .network import cold_start, overhead, recipes
from .timing import limit, memory, ours, rival
from .values import tests

STEPS = (
    Step("tests", 60, tests),
    Step("recipes", 30, recipes),
    Step("memory", 20, memory),
    Step("ours", 75, ours, ahead=True),
    Step("rival", 45, rival, ahead=True),
    Step("limit", 20, limit),
    Step("overhead", 30, overhead),
    Step("cold start", 25, cold_start),
)
