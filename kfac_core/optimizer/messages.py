"""What a `KfacOptimizer` says of an error."""

from kfac_core.errors import NotFiniteError
from kfac_core.linearization import NamedParams
from kfac_core.registry import backend_of


def not_finite(gradient: NamedParams) -> NotFiniteError:
    """Return the error for an update that is not finite, or for what made it so."""
    backend = backend_of(*gradient.values())
    bad = [
        name
        for name, part in gradient.items()
        if not bool(backend.xp.all(backend.xp.isfinite(part)))
    ]
    where = f"the gradient of {', '.join(bad)} is" if bad else "the update is"
    msg = (
        f"KfacOptimizer: {where} not finite; nothing was changed. Check the batch,"
        " or use more damping or a smaller learning rate"
    )
    return NotFiniteError(msg)
