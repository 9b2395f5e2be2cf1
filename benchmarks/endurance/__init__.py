"""Long runs: flat memory, exact symmetry, faults in between, and many at once.

``python -m benchmarks.endurance --library numpy --steps 20000`` trains a small model,
with an adapted damping. At random steps NaN comes into the batch, the gradient or the
state: the step is refused and names it, and the run goes on to the bits of one without
faults. So do eight threads that share one spec, processes that are forked or spawned,
and processes of several threads each. The command ends with 1 if a claim does not hold.
"""
