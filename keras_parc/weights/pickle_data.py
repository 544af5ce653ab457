"""Reading a pickle as data: a stack machine without any way of running, importing or looking up.

Python's own `pickle` calls what a file names. This one knows the operations that nested dicts,
lists, tuples, strings and numbers need, and a table of the names it may meet; `pickletools` splits
the bytes into operations. It never hashes, compares or prints a nested value, since a small pickle
can describe one that takes forever, nor a number or a text that is long, since it can name one
again and again.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

MAX_BYTES = 4 * 2**20
MAX_OPERATIONS = 500_000
MAX_KEY = 1000  # characters of a key, such as the name of a tensor
# Entries of dicts whose key is a number, as an optimizer has for each tensor. Numbers can be chosen
# so that a dict compares each with all before; of texts nobody knows the hash.
MAX_NUMBERED = 10_000

_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),  # LONG4 is for more than 255 bytes
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
}
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class CheckpointError(ValueError):
    """A checkpoint that is damaged, hostile or of a kind that is not read."""


@dataclass(frozen=True, eq=False)
class Global:
    """A name met in a pickle, and what the reader of the file makes of it."""

    name: str
    meaning: object


def check_key(key: str, what: str) -> None:
    """Raise `CheckpointError` for a key that is too long: comparing equal ones takes its time."""
    if len(key) > MAX_KEY:
        raise CheckpointError(
            f"{what} of {len(key)} characters, {key[:50]!r}...; expected {MAX_KEY} at most."
        )


def read_pickle(
    stream: BinaryIO,
    globals_: Mapping[str, object],
    persistent: Callable[[object], object],
) -> object:
    """Read one pickle, protocols 2 to 5.

    Args:
        stream: Where to read; left just behind the pickle. Pass at most `MAX_BYTES`.
        globals_: Names that may occur, as "module.name", to a function that takes the tuple of
            arguments of a call, or to any other object if the name is not called.
        persistent: Gives the object for a persistent id.

    Returns:
        Dicts (keys int, or str of at most `MAX_KEY` characters), lists, tuples, str, int of at
        most 255 bytes, float, bool, None, and what `globals_` and `persistent` gave.

    Raises:
        CheckpointError: Anything else is in the pickle, or it is damaged.

    Example:
        >>> import io, pickle
        >>> read_pickle(io.BytesIO(pickle.dumps({"a": [1, 2.5]}, 2)), {}, lambda identity: None)
        {'a': [1, 2.5]}
        >>> read_pickle(io.BytesIO(pickle.dumps(print, 2)), {}, lambda identity: None)
        Traceback (most recent call last):
            ...
        keras_parc.weights.pickle_data.CheckpointError: It asks for '__builtin__.print', ...
    """
    machine = _Machine(globals_, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count == MAX_OPERATIONS:
                raise CheckpointError(f"It has more than {MAX_OPERATIONS} pickle operations.")
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except CheckpointError:
        raise
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise CheckpointError(f"Its pickle is damaged ({type(error).__name__}).") from error


class _Machine:
    def __init__(self, globals_, persistent):
        self.stack, self.marks, self.memo, self.numbered = [], [], {}, 0
        self._globals, self._persistent = globals_, persistent

    def step(self, name: str, argument) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._take(len(stack) - _TUPLES[name])))
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self._take(self.marks.pop())))
        elif name in ("APPEND", "APPENDS"):
            items = self._take(len(stack) - 1 if name == "APPEND" else self.marks.pop())
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._take(len(stack) - 2 if name == "SETITEM" else self.marks.pop())
            self._set(items)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(self._global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(self._global(*self._take(len(stack) - 2)))
        elif name == "REDUCE":
            stack.append(self._call(*self._take(len(stack) - 2)))
        elif name == "BUILD":  # an OrderedDict's attributes: `_metadata`, not needed
            stack.pop()
            self._top(dict)
        elif name == "BINPERSID":
            stack.append(self._persistent(stack.pop()))
        elif name not in ("PROTO", "FRAME"):
            raise CheckpointError(
                f"It uses the pickle operation {name}, which no state dict needs."
            )

    def _take(self, start: int) -> list:
        if not 0 <= start <= len(self.stack):
            raise IndexError(start)
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self, kind: type):
        if type(self.stack[-1]) is not kind:
            raise CheckpointError(f"Its pickle fills something that is no {kind.__name__}.")
        return self.stack[-1]

    def _set(self, items: list) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is str:
                check_key(key, "A dict in it has a key")
            elif type(key) is int:
                self.numbered += 1
            else:
                raise CheckpointError(f"A dict in it has a key of type {type(key).__name__}.")
            if self.numbered > MAX_NUMBERED:
                raise CheckpointError(
                    f"Its dicts have more than {MAX_NUMBERED} entries under numbers."
                )
            target[key] = value

    def _global(self, module, name) -> Global:
        if type(module) is not str or type(name) is not str:
            raise CheckpointError("Its pickle asks for something that has no name.")
        full = f"{module}.{name}"
        if full not in self._globals:
            raise CheckpointError(
                f"It asks for {full[:200]!r}, which is no part of a state dict, and is refused. "
                "Expected what `torch.save(model.state_dict(), path)` writes."
            )
        return Global(full, self._globals[full])

    def _call(self, function, arguments):
        if not (type(function) is Global and callable(function.meaning)):
            raise CheckpointError("Its pickle calls something that is no function.")
        if type(arguments) is not tuple:
            raise CheckpointError(f"Its pickle calls {function.name!r} without arguments.")
        return function.meaning(arguments)
