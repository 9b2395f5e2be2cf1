#!/usr/bin/env bash
# statsmodels 0.15.0: `OLS.hessian` is not the Hessian of `OLS.loglike`.
#
# With `scale=None`, the default, `OLS.loglike` and `OLS.score` are those of the likelihood
# in which the variance of the noise has its best value, the profile likelihood;
# `OLS.hessian` says that it is of this one, too. It is half of it at the solution, and
# another matrix elsewhere: with s the sum of squared residuals the term 2 X'X / s of the
# Hessian of log s counts once, the term of its gradients counts in full.
#
# Expected: the derivative of `score`. So the inverse of `-hessian` gives standard errors
# that are too large by the root of two, and Newton's method from `score` and `hessian` takes
# steps twice too long: from near the solution they do not come nearer.
#
# Seen, against finite differences of `loglike` and of `score`. With a `scale` the Hessian
# is right. The way out is `-X'X n / s` at the solution, or `cov_params()`.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1 \
    pandas==3.1.1 patsy==1.0.3 2>/dev/null

"$folder/v/bin/python" -W ignore <<'PY'
import sys

import numpy as np
from statsmodels.api import OLS

rng = np.random.default_rng(0)
x = rng.normal(size=(40, 3))
y = x.sum(1) + rng.normal(size=40)
model = OLS(y, x)
solution = np.linalg.lstsq(x, y, rcond=None)[0]


def slope(function, params, step=1e-5):
    """Central differences of a function, one row for each parameter."""
    steps = step * np.eye(3)
    rows = [(function(params + d) - function(params - d)) / (2 * step) for d in steps]
    return np.array(rows)


def off(found, right):
    return np.linalg.norm(found - right) / np.linalg.norm(right)


other = solution + 0.3
right, elsewhere = slope(model.score, solution), slope(model.score, other)
found = model.hessian(solution)
residuals = np.sum((y - x @ solution) ** 2)
of_loglike = off(model.score(other), slope(model.loglike, other))
print("score is the slope of loglike to", of_loglike)
print("-X'X n / s is the slope of score to", off(-x.T @ x * 40 / residuals, right))
print("hessian by that slope, at the solution:", *(found / right).round(4).tolist())
print("hessian is off by", off(found, right))
print("and elsewhere by", off(model.hessian(other), elsewhere))
print("with a scale by", off(model.hessian(solution, scale=2.0), -x.T @ x / 2))

near = solution + 1e-3
newton = near - np.linalg.solve(model.hessian(near), model.score(near))
exact = near - np.linalg.solve(slope(model.score, near), model.score(near))
print("a step of Newton takes a distance of 0.0017 to", np.linalg.norm(newton - solution))
print("and with the right Hessian to", np.linalg.norm(exact - solution))
same = (
    of_loglike < 1e-6
    and off(-x.T @ x * 40 / residuals, right) < 1e-6
    and np.allclose(found, right / 2, rtol=1e-5)
    and off(model.hessian(other), elsewhere) > 0.3
    and off(model.hessian(solution, scale=2.0), -x.T @ x / 2) < 1e-12
    and np.linalg.norm(newton - solution) > 1.7e-3
    and np.linalg.norm(exact - solution) < 1e-5
)
print("as described" if same else "changed")
sys.exit(not same)
PY
