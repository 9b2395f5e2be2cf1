"""Recurrent networks as linear layers: cells, and whole sequences step by step.

A cell has two layers, of its inputs and of its state. In a sequence the first sees all
steps at once, and the second one after another. The formulas are those of the pages of
`torch.nn.LSTM`, `torch.nn.GRU` and `torch.nn.RNN`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.nn.functional import dropout, linear

Tensor: TypeAlias = torch.Tensor

State: TypeAlias = tuple[Tensor, ...]
"""The hidden state, and the cell's own, if it has one: ``[batch, size]`` each."""

Gates: TypeAlias = Callable[[Tensor, Tensor, State], State]
"""From what both layers give and the state, the next state."""


def lstm_gates(of_inputs: Tensor, of_state: Tensor, state: State) -> State:
    """Return the next state of an LSTM."""
    enters, keeps, value, leaves = (of_inputs + of_state).chunk(4, -1)
    c = keeps.sigmoid() * state[1] + enters.sigmoid() * value.tanh()
    return leaves.sigmoid() * c.tanh(), c


def gru_gates(of_inputs: Tensor, of_state: Tensor, state: State) -> State:
    """Return the next state of a GRU."""
    reset, update, value = of_inputs.chunk(3, -1)
    of_reset, of_update, of_value = of_state.chunk(3, -1)
    new = (value + (reset + of_reset).sigmoid() * of_value).tanh()
    return (new + (update + of_update).sigmoid() * (state[0] - new),)


def tanh_gates(of_inputs: Tensor, of_state: Tensor, state: State) -> State:
    """Return the next state of a network of hyperbolic tangents."""
    return ((of_inputs + of_state).tanh(),)


def relu_gates(of_inputs: Tensor, of_state: Tensor, state: State) -> State:
    """Return the next state of a network of rectified units."""
    return ((of_inputs + of_state).relu(),)


def cell(gates: Gates, *, whole: bool = False) -> Callable[..., Any]:
    """Return what `torch.gru_cell` and its like compute; `whole`: `torch.lstm_cell`."""

    def step(
        input: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:
        state = tuple(hx) if whole else (hx,)
        of_inputs, of_state = linear(input, w_ih, b_ih), linear(state[0], w_hh, b_hh)
        new = gates(of_inputs, of_state, state)
        return new if whole else new[0]

    return step


def unrolled(gates: Gates, *, whole: bool = False) -> Callable[..., Any]:
    """Return what `torch.gru` and its like compute; `whole`: `torch.lstm`.

    The arguments of a packed sequence have the numbers of rows of its steps in front of
    the state; its rows are those of all steps, one step after the other.
    """

    def sequence(input: Tensor, *args: Any) -> Any:
        is_packed = not isinstance(args[2], bool)
        sizes, args = (args[0].tolist(), args[1:]) if is_packed else (None, args)
        hx, params, has_biases, num_layers, dropped, train, bidirectional = args[:7]
        batch_first = not is_packed and args[7]
        x = input.transpose(0, 1) if batch_first else input
        states, last = tuple(hx) if whole else (hx,), []
        directions = 2 if bidirectional else 1
        each = len(params) // (num_layers * directions)
        for layer in range(num_layers):
            if layer > 0:
                x = dropout(x, dropped, train)
            outputs = []
            for direction in range(directions):
                place = layer * directions + direction
                own = params[place * each : (place + 1) * each]
                state = tuple(part[place] for part in states)
                backwards = direction == 1
                made, state = _layer(gates, x, sizes, state, own, has_biases, backwards)
                outputs.append(made)
                last.append(state)
            x = torch.cat(outputs, -1) if bidirectional else outputs[0]
        y = x.transpose(0, 1) if batch_first else x
        return y, *(torch.stack(parts) for parts in zip(*last, strict=True))

    return sequence


def _layer(
    gates: Gates,
    x: Tensor,
    sizes: list[int] | None,
    state: State,
    params: Sequence[Tensor],
    has_biases: bool,
    backwards: bool,
) -> tuple[Tensor, State]:
    """Return the outputs of all steps, and the last state of each row.

    A step has the first rows of the state, as many as go on to it; the others keep
    theirs.
    """
    w_ih, w_hh, *others = params
    b_ih, b_hh = others[:2] if has_biases else (None, None)
    projection = others[2 * has_biases :]
    of_inputs = linear(x, w_ih, b_ih)
    steps = of_inputs.unbind(0) if sizes is None else of_inputs.split(sizes)
    outputs: list[Tensor] = [x] * len(steps)
    order = range(len(steps))
    for step in reversed(order) if backwards else order:
        rows = len(steps[step])
        ends = rows < len(state[0])
        now = tuple(part[:rows] for part in state) if ends else state
        new = gates(steps[step], linear(now[0], w_hh, b_hh), now)
        if projection:
            new = (linear(new[0], projection[0]), *new[1:])
        outputs[step] = new[0]
        if ends:
            pairs = zip(new, state, strict=True)
            new = tuple(torch.cat([one, old[rows:]]) for one, old in pairs)
        state = new
    return torch.stack(outputs) if sizes is None else torch.cat(outputs), state
