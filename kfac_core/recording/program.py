"""A recorded run as a function of Python: what it computes, without its checks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kfac_core.recorded import Recorded, RecordedNumber
from kfac_core.recording.tape import CannotRecordError, Operation, Tape

OTHERWISE: Any = object()
"""What a program returns for arguments of another form, or that go another way."""

_STATIC = (type(None), bool, int, float, str)
"""Types of arguments that are compared, and not recorded."""

Program = Callable[..., Any]


def stand_ins(tape: Tape, arguments: Any, *, with_numbers: bool) -> Any:
    """Return arguments whose arrays are recorded.

    Args:
        tape: What records.
        arguments: Nested tuples, lists and dictionaries.
        with_numbers: Whether floats may differ from run to run.

    Returns:
        The same structure; the leaves that are recorded have the first places.

    Raises:
        CannotRecordError: If an argument is neither an array nor plain data.
    """
    if isinstance(arguments, tuple):
        parts = [stand_ins(tape, x, with_numbers=with_numbers) for x in arguments]
        return _tuple_of(type(arguments), parts)
    if type(arguments) is list:
        return [stand_ins(tape, x, with_numbers=with_numbers) for x in arguments]
    if type(arguments) is dict:
        return {
            key: stand_ins(tape, x, with_numbers=with_numbers)
            for key, x in arguments.items()
        }
    if with_numbers and type(arguments) is float:
        return tape.stand_in(arguments, RecordedNumber)
    if isinstance(arguments, _STATIC):
        return arguments
    if not (hasattr(arguments, "shape") and hasattr(arguments, "dtype")):
        msg = f"an argument that is a {type(arguments).__name__}"
        raise CannotRecordError(msg)
    return tape.stand_in(arguments)


def program_of(tape: Tape, arguments: Any, result: Any, like: Any) -> Program:
    """Return the program of a run.

    Args:
        tape: What was recorded.
        arguments: As `stand_ins` returned them: a tuple, and a dictionary.
        result: What the verb returned for them.
        like: What the verb returns for the arguments themselves.

    Returns:
        A function of the arguments; it returns `OTHERWISE` where it does not hold.
    """
    return _Writer(tape, arguments).written(result, like)


class _Writer:
    """Writes a program, line by line."""

    def __init__(self, tape: Tape, arguments: Any) -> None:
        self._tape = tape
        self._constants: dict[str, Any] = {"OTHERWISE": OTHERWISE}
        self._names: dict[int, str] = {}
        self._paths: dict[int, str] = {}
        self._arguments, self._nodes = arguments, 0
        self._forms: set[int] = set()

    def written(self, result: Any, like: Any) -> Program:
        needed = _needed(self._tape.operations, result)
        self._forms = with_sources(self._tape)
        used = {x.place for op in needed for x in _recorded_in(op.parts)}
        conditions: list[str] = []
        lines: list[str] = []
        positional, named = self._arguments
        for k, argument in enumerate(positional):
            self._look_at(argument, f"a{k}", self._forms | used, lines, conditions)
        for key, argument in named.items():
            self._look_at(argument, key, self._forms | used, lines, conditions)
        lines += self._unless(conditions)
        for operation in needed:
            text = operation.text.format(*map(self._written_part, operation.parts))
            if operation.result is None:
                lines += self._unless([text])
            else:
                name = self._names[operation.result] = f"v{operation.result}"
                lines.append(f"    {name} = {text}")
        lines.append(f"    return {self._result(result, like)}")
        head = [f"a{k}" for k in range(len(positional))]
        head += ["*", *named] if named else []
        source = "\n".join([f"def program({', '.join(head)}):", *lines])
        # What is written are names of this class alone; all else is a constant.
        exec(compile(source, "<prepared>", "exec"), self._constants)
        found: Program = self._constants["program"]
        return found

    def _look_at(
        self,
        x: Any,
        path: str,
        places: set[int],
        lines: list[str],
        conditions: list[str],
        *,
        is_state: bool = False,
    ) -> None:
        """Write what names an argument, and what its form must be."""
        if isinstance(x, Recorded):
            self._names[x.place] = path
            if x.place in places:
                conditions.extend(self._form(x, path))
            return
        if not isinstance(x, tuple | list | dict):
            test = "is" if x is None or isinstance(x, bool) else "=="
            kind = f"type({path}) is {self._constant(type(x))}"
            conditions.extend(
                [f"{path} {test} {self._constant(x)}"]
                if test == "is"
                else [kind, f"{path} == {self._constant(x)}"]
            )
            return
        self._paths[id(x)] = path
        is_state = is_state or hasattr(x, "made_by")
        if is_state and not _is_signature(x) and not _holds(x, places):
            # The signature of a state tells the structure of all its parts.
            self._name_parts(x, path)
            return
        conditions.append(f"type({path}) is {self._constant(type(x))}")
        if not hasattr(x, "_fields"):
            conditions.append(f"len({path}) == {len(x)}")
        if isinstance(x, dict):
            conditions.append(f"{path}.keys() == {self._constant({*x})}")
            children = [(f"[{self._constant(key)}]", part) for key, part in x.items()]
        else:
            children = [(f"[{k}]", part) for k, part in enumerate(x)]
        # The conditions so far hold before a child is read.
        lines += self._unless(conditions)
        conditions.clear()
        for index, part in children:
            name = self._child(part, path + index, places, lines)
            self._look_at(part, name, places, lines, conditions, is_state=is_state)

    def _name_parts(self, x: Any, path: str) -> None:
        """Write how to reach what is within an argument."""
        if isinstance(x, Recorded):
            self._names[x.place] = path
        elif isinstance(x, tuple):
            self._paths[id(x)] = path
            for k, part in enumerate(x):
                self._name_parts(part, f"{path}[{k}]")

    def _child(self, x: Any, path: str, places: set[int], lines: list[str]) -> str:
        """Return a name for a part that is read more than once."""
        if not _holds(x, places):
            return path
        self._nodes += 1
        lines.append(f"    n{self._nodes} = {path}")
        return f"n{self._nodes}"

    def _form(self, x: Recorded, path: str) -> list[str]:
        """Return what must hold of an argument that is like a recorded one.

        Where the verb has not read the form of an array, it computes with any, and so
        does the program.
        """
        value, backend, is_read = x.value, self._tape.backend, x.place in self._forms
        conditions = []
        if is_read or isinstance(x, RecordedNumber):
            conditions.append(f"type({path}) is {self._constant(type(value))}")
        if isinstance(x, RecordedNumber):
            return conditions
        if is_read:
            conditions += [
                f"{path}.shape == {self._constant(value.shape)}",
                f"{path}.dtype == {self._constant(value.dtype)}",
            ]
        # A library without devices, which is NumPy, has no graphs either.
        if backend.creation_device(value) is not None:
            if is_read:
                device = self._constant(backend.device)
                here = self._constant(backend.device(value))
                conditions.append(f"{device}({path}) == {here}")
            conditions.append(f"not {self._constant(backend.has_graph)}({path})")
        return conditions

    def _unless(self, conditions: list[str]) -> list[str]:
        if not conditions:
            return []
        return [f"    if not ({' and '.join(conditions)}):", "        return OTHERWISE"]

    def _result(self, x: Any, like: Any) -> str:
        """Return an expression for a result."""
        if isinstance(x, Recorded):
            name = self._names[x.place]
            if type(x.value) is type(like):
                return name
            # A state keeps an array where the library has computed a scalar.
            array = self._constant(_as_array(type(like)))
            return f"{array}({name})"
        if not isinstance(x, tuple | list | dict):
            if not isinstance(x, _STATIC):
                msg = f"a result that is a {type(x).__name__}"
                raise CannotRecordError(msg)
            return self._constant(x)
        if id(x) in self._paths:
            return self._paths[id(x)]
        if isinstance(x, dict):
            parts = [
                f"{self._constant(key)}: {self._result(part, like[key])}"
                for key, part in x.items()
            ]
            return f"{{{', '.join(parts)}}}"
        parts = [self._result(a, b) for a, b in zip(x, like, strict=True)]
        if type(x) is list:
            return f"[{', '.join(parts)}]"
        whole = "(" + "".join([f"{part}, " for part in parts]) + ")"
        if type(x) is tuple:
            return whole
        new = self._constant(tuple.__new__)
        return f"{new}({self._constant(type(x))}, {whole})"

    def _written_part(self, x: Any) -> str:
        if isinstance(x, Recorded):
            return self._names[x.place]
        if type(x) in {tuple, list} and _recorded_in((x,)):
            parts = "".join([f"{self._written_part(part)}, " for part in x])
            return f"({parts})" if type(x) is tuple else f"[{parts}]"
        return self._constant(x)

    def _constant(self, x: Any) -> str:
        if x is None or type(x) in {bool, int}:
            return repr(x)
        name = f"c{len(self._constants)}"
        self._constants[name] = x
        return name


def _as_array(kind: type) -> Any:
    if kind is not np.ndarray:
        msg = f"a result of another type than {kind.__name__}"
        raise CannotRecordError(msg)
    return np.asarray


def _tuple_of(kind: type, parts: list[Any]) -> Any:
    # A named tuple with a constructor of its own takes the fields as they are.
    return tuple(parts) if kind is tuple else tuple.__new__(kind, parts)


def _recorded_in(parts: tuple[Any, ...] | list[Any]) -> list[Recorded]:
    found = []
    for part in parts:
        if isinstance(part, Recorded):
            found.append(part)
        elif type(part) in {tuple, list}:
            found.extend(_recorded_in(part))
    return found


def _needed(operations: list[Operation], result: Any) -> list[Operation]:
    """Return the operations that conditions and the result need, in order."""
    wanted = {x.place for x in _recorded_in(_leaves(result))}
    needed = []
    for operation in reversed(operations):
        if operation.result is None or operation.result in wanted:
            wanted |= {x.place for x in _recorded_in(operation.parts)}
            needed.append(operation)
    return needed[::-1]


def _holds(x: Any, places: set[int]) -> bool:
    """Return whether an argument holds one of some recorded values."""
    return any(leaf.place in places for leaf in _recorded_in(_leaves(x)))


def _is_signature(x: Any) -> bool:
    """Return whether an argument is a tuple whose type alone tells something."""
    return not isinstance(x, list | dict) and not x and type(x) is not tuple


def with_sources(tape: Tape) -> set[int]:
    """Return the values whose form was read, and all that these were computed from."""
    forms = set(tape.forms)
    for operation in reversed(tape.operations):
        if operation.result in forms:
            forms |= {x.place for x in _recorded_in(operation.parts)}
    return forms


def _leaves(x: Any) -> list[Any]:
    if isinstance(x, dict):
        x = [*x.values()]
    if isinstance(x, tuple | list):
        return [leaf for part in x for leaf in _leaves(part)]
    return [x]
