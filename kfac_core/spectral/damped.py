"""Functions of ``scale F + damping I``, as functions of the eigenvalues of ``F``."""

from collections.abc import Sequence

from kfac_core.arguments.powers import as_exponent
from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.errors import NotPositiveDefiniteError
from kfac_core.linalg.spectrum import Function, Spectrum
from kfac_core.typing import Array, Scalar


def damped_power(
    backend: Backend,
    spectra: Sequence[Spectrum],
    exp: float,
    damping: Scalar,
    scale: Scalar,
    label: str,
) -> Function:
    """Return ``s -> (scale s + damping)^exp``.

    Args:
        backend: Backend of the spectra.
        spectra: What the function is for.
        exp: The exponent.
        damping: A number or 0-d array, not negative.
        scale: A number or 0-d array, not negative.
        label: Name of the layer, for messages.

    Returns:
        The function.

    Raises:
        ArgumentError: If a number is negative or not finite.
        NotPositiveDefiniteError: If a negative power has nothing to be of: a damped
            eigenvalue is zero, or rounding. Under a trace this is not looked at.
    """
    exp = as_exponent(exp, label, "exp")
    shifted = _shifted(backend, spectra, damping, scale, label, inverted=exp < 0)
    return lambda values: shifted(values) ** exp


def damped_logarithm(
    backend: Backend,
    spectra: Sequence[Spectrum],
    damping: Scalar,
    scale: Scalar,
    label: str,
) -> Function:
    """Return ``s -> log(scale s + damping)``; see `damped_power`."""
    shifted = _shifted(backend, spectra, damping, scale, label, inverted=True)
    return lambda values: backend.xp.log(shifted(values))


def _shifted(
    backend: Backend,
    spectra: Sequence[Spectrum],
    damping: Scalar,
    scale: Scalar,
    label: str,
    *,
    inverted: bool,
) -> Function:
    """Return ``s -> scale s + damping``, checked to be positive where it must be."""
    like = spectra[0].eigenvalues
    shift = as_scalar(backend, damping, like, "damping", label)
    factor = as_scalar(backend, scale, like, "scale", label)

    def shifted(values: Array) -> Array:
        return factor * values + shift

    if inverted and not backend.is_traced(shift + factor + like):
        _check_positive(backend, spectra, shift, factor, label)
    return shifted


def _check_positive(
    backend: Backend,
    spectra: Sequence[Spectrum],
    damping: Array,
    scale: Array,
    label: str,
) -> None:
    """Check that no damped eigenvalue is zero, or nothing but rounding of the others.

    Raises:
        NotPositiveDefiniteError: If one is.
    """
    xp = backend.xp
    smallest = min(_known(backend, xp.min(part.eigenvalues)) for part in spectra)
    largest = max(_known(backend, xp.max(part.eigenvalues)) for part in spectra)
    if any(part.num_missing for part in spectra):
        smallest = 0.0
    factor, shift = _known(backend, scale), _known(backend, damping)
    floor = factor * largest * float(xp.finfo(scale.dtype).eps)
    if not factor * smallest + shift > floor:
        msg = (
            f"{label}: scale {factor:g} times the smallest eigenvalue {smallest:g} plus"
            f" damping {shift:g} is zero to the precision of {scale.dtype}, so that the"
            f" matrix has no inverse; give a damping above {floor:.1g}"
        )
        raise NotPositiveDefiniteError(msg)


def _known(backend: Backend, x: Array) -> float:
    # PyTorch warns if a number is taken from a tensor that autograd tracks.
    return float(backend.stop_gradient(x) if backend.has_graph(x) else x)
