"""How long the work of K-FAC takes, against its floor and against other ways to it.

``python -m benchmarks --help`` measures; ``python -m benchmarks.report`` writes the
page ``docs/benchmarks.md`` and its picture from what ``docs/benchmarks`` records.
"""
