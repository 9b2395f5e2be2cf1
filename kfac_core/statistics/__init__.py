"""Second moments of layer inputs and gradients: where the time goes.

Each function takes checked towers of one backend and returns a statistic that is
already divided by its number of rows, or of cases: that of the batch with all towers
concatenated.
"""
