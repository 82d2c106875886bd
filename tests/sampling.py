"""Routine runs take a sample of the cases of the largest tests; `make thorough` takes them all.

Each decorated test says ``@pytest.mark.sample(n)``: the first case and every n-th after it stay in routine runs. An ``n`` that
has no divisor in common with the numbers of values of its parameters meets every value of each of them.
"""

from collections import Counter

import pytest


def mark_thorough(items: list[pytest.Item]) -> None:
    """Mark the cases that a routine run leaves out."""
    met: Counter[tuple[str, str]] = Counter()
    for item in items:
        sample = item.get_closest_marker("sample")
        if sample is None:
            continue
        (every,) = sample.args
        name = (str(item.path), getattr(item, "originalname", item.name))
        if met[name] % every:
            item.add_marker(pytest.mark.thorough)
        met[name] += 1
