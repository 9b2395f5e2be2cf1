"""Second moments of layer inputs and gradients: most of the time is spent here.

Each function takes checked towers of one backend, and returns the statistic of the
batch with all towers concatenated, already divided by the number of rows or cases.
"""
