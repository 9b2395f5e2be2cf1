"""Try the theorems, and measure the factorisations, on array libraries."""

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter

from kfac_core.errors import ArgumentError
from kfac_core.theorems import THEOREMS, Measured, Theorem, Trial
from kfac_core.verify.lapack import SIZES, THOROUGH, Ratio, ratios
from kfac_core.verify.libraries import LABEL, Opened, installed, opened
from kfac_core.verify.report import Report, Result, Run

DTYPES = ("float64", "float32")

Progress = Callable[[str], None]
"""Is told what is tried next."""


def verify(
    libraries: Iterable[str] | None = None,
    *,
    dtypes: Iterable[str] = DTYPES,
    device: str | None = None,
    seed: int = 0,
    theorems: Iterable[Theorem] = THEOREMS,
    thorough: bool = False,
    progress: Progress = lambda line: None,
) -> Report:
    """Try all theorems and their twins, and LAPACK's test ratios.

    Args:
        libraries: Top-level packages of array libraries; None: all that are installed.
        dtypes: Some of ``"float64"`` and ``"float32"``.
        device: A device, as the library names it; None: its default.
        seed: Seed of all random numbers, not negative.
        theorems: What to try; all by default.
        thorough: Whether to factorise matrices of orders up to 2,048, which takes
            minutes.
        progress: Is called with a line before each theorem.

    Returns:
        What was found; ``report.ok`` tells whether all is well.

    Raises:
        ArgumentError: If there is no such library, device or dtype.

    Example:
        >>> from kfac_core.theorems import by_name
        >>> from kfac_core.verify import verify
        >>> report = verify(["numpy"], dtypes=["float64"], theorems=[by_name("T2")])
        >>> report.ok, report.results[0].error < 1e-14
        (True, True)
    """
    names = tuple(dict.fromkeys(installed() if libraries is None else libraries))
    chosen, tried = _dtypes(dtypes), tuple(theorems)
    given: object = seed
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        msg = f"{LABEL}: seed is {seed!r}, expected an integer that is not negative"
        raise ArgumentError(msg)
    runs: list[Run] = []
    results: list[Result] = []
    found: list[Ratio] = []
    for name in names:
        with opened(name, device) as library:
            for dtype in chosen:
                started = perf_counter()
                trial = Trial(library.backend, dtype, seed, device=library.device)
                results += _tried(library, trial, tried, progress)
                progress(f"{name} {dtype}: LAPACK's test ratios")
                found += ratios(name, trial, THOROUGH if thorough else SIZES)
                runs.append(Run(name, dtype, perf_counter() - started))
    return Report(seed, device, tuple(runs), tried, tuple(results), tuple(found))


def _tried(
    library: Opened, trial: Trial, theorems: tuple[Theorem, ...], progress: Progress
) -> Iterator[Result]:
    for number, theorem in enumerate(theorems, 1):
        progress(
            f"{library.name} {trial.dtype}: {number} of {len(theorems)}, {theorem.name}"
        )
        twin = None
        try:
            measured = _worst(theorem, trial)
            if theorem.twin:
                twin = theorem.measure_twin(trial)
        # A theorem that cannot be tried has failed, and the others are still tried.
        except Exception as error:
            nothing = Measured(float("nan"), 0.0)
            problem = f"{type(error).__name__}: {error}"
            yield Result(
                theorem.name, library.name, trial.dtype, *nothing, None, problem
            )
            continue
        yield Result(theorem.name, library.name, trial.dtype, *measured, twin)


def _worst(theorem: Theorem, trial: Trial) -> Measured:
    """Return what the sizes gave that is the largest part of its bound."""
    worst = None
    for sizes in theorem.sizes(few=trial.compiles):
        own = theorem.measure(
            Trial(trial.backend, trial.dtype, trial.seed, sizes, trial.device)
        )
        if worst is None or not own.part <= worst.part:
            worst = own
    if worst is None:
        msg = f"{LABEL}: {theorem.name} has no sizes"
        raise ArgumentError(msg)
    return worst


def _dtypes(dtypes: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(dtypes)
    if not chosen or not set(chosen) <= set(DTYPES):
        msg = f"{LABEL}: dtypes is {list(chosen)}, expected some of {list(DTYPES)}"
        raise ArgumentError(msg)
    return chosen
