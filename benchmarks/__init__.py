"""How long the work of K-FAC takes, compared with its floor and with other ways.

``python -m benchmarks --help`` measures; ``python -m benchmarks.report`` writes the
page ``docs/benchmarks.md`` and its picture from what ``docs/benchmarks`` records.
"""
