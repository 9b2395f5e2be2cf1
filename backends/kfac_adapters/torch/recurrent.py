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

    It returns NotImplemented for a packed sequence.
    """

    def sequence(
        input: Tensor,
        hx: Any,
        params: Any,
        has_biases: Any,
        num_layers: int,
        dropped: float,
        train: bool,
        bidirectional: bool,
        batch_first: Any = None,
    ) -> Any:
        if not isinstance(has_biases, bool):  # it has the lengths, too, before `hx`
            return NotImplemented
        x = input.transpose(0, 1) if batch_first else input
        states, last = tuple(hx) if whole else (hx,), []
        directions = 2 if bidirectional else 1
        each = len(params) // (num_layers * directions)
        for place in range(num_layers * directions):
            if place % directions == 0:
                if place > 0:
                    x = dropout(x, dropped, train)
                outputs = []
            own = params[place * each : (place + 1) * each]
            state = tuple(part[place] for part in states)
            backwards = place % directions == 1
            made, state = _layer(gates, x, state, own, has_biases, backwards)
            outputs.append(made)
            last.append(state)
            if place % directions == directions - 1:
                x = torch.cat(outputs, -1) if bidirectional else made
        y = x.transpose(0, 1) if batch_first else x
        return y, *(torch.stack(parts) for parts in zip(*last, strict=True))

    return sequence


def _layer(
    gates: Gates,
    x: Tensor,
    state: State,
    params: Sequence[Tensor],
    has_biases: bool,
    backwards: bool,
) -> tuple[Tensor, State]:
    """Return the outputs of all steps, ``[steps, batch, size]``, and the last state."""
    w_ih, w_hh, *others = params
    b_ih, b_hh = others[:2] if has_biases else (None, None)
    projection = others[2 * has_biases :]
    of_inputs = linear(x, w_ih, b_ih)
    steps = range(len(x))
    outputs: list[Tensor] = [x] * len(x)
    for step in reversed(steps) if backwards else steps:
        state = gates(of_inputs[step], linear(state[0], w_hh, b_hh), state)
        if projection:
            state = (linear(state[0], projection[0]), *state[1:])
        outputs[step] = state[0]
    return torch.stack(outputs), state
