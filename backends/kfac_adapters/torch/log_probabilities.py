"""Models that return logarithms of probabilities, as those that end in `log_softmax`.

Such outputs are logits of the same probabilities, with the same Fisher, since their
`log_softmax` is what they are. Its derivative, ``g - p sum(g)``, makes a gradient of
`nll_loss` for them that of a cross-entropy, and leaves one for logits as it is.
"""

import torch

from kfac_adapters.torch.losses import slack_of


def are_log_probabilities(outputs: torch.Tensor, axis: int) -> bool:
    """Return whether the exponentials of outputs sum to one over an axis of several."""
    if outputs.shape[axis] < 2 or not outputs.isfinite().all():
        return False
    found = outputs.double().logsumexp(axis).abs()
    return bool((found <= slack_of(outputs.dtype, outputs)).all())


def as_for_logits(
    outputs: torch.Tensor, gradient: torch.Tensor, axis: int
) -> torch.Tensor:
    """Return a gradient for logarithms of probabilities as one for logits.

    Args:
        outputs: What goes into the loss.
        gradient: Gradient of the user's loss for it.
        axis: The axis of the classes.

    Returns:
        ``g - p sum(g)``.
    """
    p = outputs.to(gradient.dtype).exp()
    return gradient - p * gradient.sum(axis, keepdim=True)
