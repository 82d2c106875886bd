"""A random search for wrong numbers: formulas, geometries, dtypes, layouts and backends against a float64 oracle.

    python -m tests.search --seed 1 --minutes 60 --workers 2 --tally /tmp/tally.jsonl

Subjects, a file each: ``case`` (a case as data, printable), ``spellings`` and ``maps`` (the grammar of maps), ``reductions``,
``draw`` (a case of a seed and an index), ``numbers`` (its tensors), ``oracle`` (its value and gradients, by autograd),
``rounding`` (how much rounding may move them), ``check`` (ours against the oracle's), ``shrink``, ``report`` (a case
as a test), ``known`` (faults that are known), ``tally``, ``planted`` (bugs that the search must find).
"""
