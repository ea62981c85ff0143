"""Reads pickles without running them: dicts, lists, tuples, numbers, strings, and objects that the caller provides.

A pickle is a program for a stack machine, and Python's own machine lets it import and call anything. This one has only
the instructions that build data. `pickletools`, from the standard library, splits the bytes into instructions.
"""

import io
import pickletools
from collections.abc import Callable
from typing import NamedTuple


class Maker(NamedTuple):
    """A function that a pickle may call, with values that are already built."""

    make: Callable


class Module:
    """An object that a pickle builds; only its attributes are kept: {name: value}."""

    def __init__(self):
        self.attributes = {}


CONSTANTS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
MOST_CALLS = 50_000  # a tensor takes two, and a training checkpoint has some thousands of tensors


def loads(data: bytes, find: Callable[[str, str], object], persistent_load: Callable[[object], object]) -> object:
    """The value that a pickle of protocol 2 or later describes, in time and memory proportional to its length.

    find             (module, name) of a global -> the object to use, a Maker if it may be called; raises ValueError
    persistent_load  the pickle's reference to a value outside it -> that value

    Raises ValueError for instructions that do more than build data, and IndexError, KeyError or TypeError for nonsense.
    """
    stack, marks, memo, calls = [], [], {}, 0

    def above_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for instruction, argument in _instructions(data):
        match instruction:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case name if name in CONSTANTS:
                if type(argument) is int and argument.bit_length() > 64:
                    raise ValueError("its pickle has a number of more than 64 bits, which could take forever to use")
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                size = int(name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(above_mark()))
            case "LIST":
                stack.append(above_mark())
            case "DICT":
                stack.append(_set({}, above_mark()))
            case "APPEND":
                _extend(stack[-2], [stack.pop()])
            case "APPENDS":
                items = above_mark()
                _extend(stack[-1], items)
            case "SETITEM":
                _set(stack[-3], [stack.pop(-2), stack.pop()])
            case "SETITEMS":
                items = above_mark()
                _set(stack[-1], items)
            case "POP":
                stack.pop()
            case "POP_MARK":
                above_mark()
            case "DUP":
                stack.append(stack[-1])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(find(*argument))
            case "STACK_GLOBAL":
                stack[-2:] = [find(*stack[-2:])]
            case "REDUCE" | "NEWOBJ":
                calls += 1
                if calls > MOST_CALLS:
                    raise ValueError(f"its pickle makes more than {MOST_CALLS:,} calls, more than any model needs")
                stack[-2:] = [_call(*stack[-2:])]
            case "BUILD":
                _build(stack[-2], stack.pop())
            case "BINPERSID":
                stack.append(persistent_load(stack.pop()))
            case name:
                raise ValueError(f"its pickle has the instruction {name}, which does more than build data")


def _instructions(data):
    """Yield (name, argument) of each instruction of a pickle.

    GLOBAL's argument, two names, is read as lines of text. Other arguments of this kind are not read: no instruction
    that builds data has them after protocol 1, and `pickletools` would parse them as Python source and emit warnings.
    """
    file = io.BytesIO(data)
    while code := file.read(1):
        opcode = pickletools.code2op.get(code.decode("latin-1"))
        if opcode is None:
            raise ValueError(f"its pickle has the unknown instruction {code}")
        if opcode.name == "GLOBAL":
            yield opcode.name, [file.readline().removesuffix(b"\n").decode() for _ in range(2)]
        elif opcode.arg is None or opcode.arg.n == pickletools.UP_TO_NEWLINE:
            yield opcode.name, None
        else:
            yield opcode.name, opcode.arg.reader(file)
    raise ValueError("its pickle ends before its STOP instruction")


def _extend(target, items):
    if type(target) is not list:
        raise TypeError(f"its pickle appends to a {type(target).__name__}")
    target.extend(items)


def _set(target, items):
    """Set alternating keys and values. Keys are str or int only: others could be built that take forever to hash."""
    keys, values = items[::2], items[1::2]
    if type(target) is not dict or len(keys) != len(values) or not {type(key) for key in keys} <= {str, int}:
        raise TypeError(f"its pickle sets items of a {type(target).__name__} that a dict cannot have")
    target.update(zip(keys, values))
    return target


def _call(maker, arguments):
    if type(maker) is not Maker or type(arguments) is not tuple:
        raise TypeError(f"its pickle calls a {type(maker).__name__}")
    return maker.make(*arguments)


def _build(target, state):
    """Set attributes: those of a module are kept, those that a dict has besides its items are dropped."""
    if type(target) not in (dict, Module) or type(state) is not dict:
        raise TypeError(f"its pickle sets attributes of a {type(target).__name__}")
    if type(target) is Module:
        target.attributes = state  # no copy: a pickle may give many modules the same state
