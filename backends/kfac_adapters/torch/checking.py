"""Whether the uses of a parameter that were seen are all that it has.

What goes past the functions of PyTorch is not seen: a function of autograd that a user
wrote, a compiled one, a checkpoint that is run again. A parameter that is used there
too would get the statistics of a part of its uses, silently. So the first pass is
checked: its uses give a gradient for each parameter, which must be what autograd gives.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch.autograd.graph import GradientEdge

from kfac_adapters.torch.made import with_made
from kfac_adapters.torch.record import Record, Use
from kfac_core.layer_collection.parts import Part, owners, with_parts


def incomplete(
    params: Mapping[str, torch.Tensor],
    names: Collection[str],
    parts: Sequence[Part],
    record: Record,
    outputs: torch.Tensor,
    edge: GradientEdge,
) -> list[str]:
    """Return the names of parameters that something uses that was not seen.

    Args:
        params: The trained parameters, by name.
        names: Names of those of layers, or of their parts.
        parts: The parts.
        record: What the forward pass did.
        outputs: What the model returned.
        edge: Where its graph ends.

    Returns:
        The names; of those whose gradient is what their uses give, none.
    """
    generator = torch.Generator(outputs.device).manual_seed(0)
    vector = torch.randn(
        outputs.shape, generator=generator, dtype=torch.float32, device=outputs.device
    ).to(outputs.dtype)
    whole = owners(parts, names)
    leaves = [*(use.edge for use in record.uses), *params.values()]
    pulled = record.hearers.pulled(edge, vector, leaves, params.values())
    at_uses = pulled[: len(record.uses)]
    at_params = dict(zip(params, pulled[len(record.uses) :], strict=True))
    for made in record.made.values():
        at_params[made.name] = made.gradient(params, at_params)
    variables = with_made(record.made.values(), params)
    own = {name: variables[name].detach() for name in whole}
    own = dict(with_parts([part for part in parts if part.param in own], own))
    found: dict[str, torch.Tensor] = {}
    sizes = dict.fromkeys(names, 0.0)
    for use, g in zip(record.uses, at_uses, strict=True):
        if g is None:
            continue
        g = g.reshape(use.shape)
        size = float(g.norm())
        if use.weight in sizes:
            found[use.weight] = found.get(use.weight, 0) + _of_weight(
                use, g, own[use.weight]
            )
            x = use.call.inputs
            factor = float(x.norm()) if x.is_floating_point() else 1.0
            sizes[use.weight] += size * factor
        if use.bias in sizes:
            found[use.bias] = found.get(use.bias, 0) + use.call.pulls_bias(g).reshape(
                -1, *own[use.bias].shape
            ).sum(0)
            sizes[use.bias] += size * g.shape[0] ** 0.5
    for made in record.made.values():
        if made.name in found:
            found[made.name] = made.seen(params, found[made.name])
    true = {}
    for name in whole:
        g = at_params[name]
        true[name] = torch.zeros_like(variables[name]) if g is None else g
    true = dict(with_parts([part for part in parts if part.param in true], true))
    wrong = []
    for name in names:
        param, expected = own[name], true[name]
        error = float((found.get(name, torch.zeros_like(param)) - expected).norm())
        eps = max(torch.finfo(x.dtype).eps for x in (param, outputs))
        rounding = 64 * eps * sizes[name]
        if error > rounding and error > 4 * eps**0.5 * float(expected.norm()):
            wrong.append(name)
    return wrong


def _of_weight(use: Use, g: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient for the weight of one use."""
    x, g = use.call.inputs, use.call.pulls(g).to(weight.dtype)
    if x.is_floating_point():
        x = x.to(weight.dtype)
    with torch.enable_grad():
        free = torch.zeros_like(weight).requires_grad_()
        made = use.call.computes(x, free)
    (gradient,) = torch.autograd.grad(made, free, g)
    return gradient
