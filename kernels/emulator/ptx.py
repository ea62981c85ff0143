"""PTX text to a `Kernel`: its parameters, its registers, and its instructions with their labels resolved.

PTX is what Triton hands to NVIDIA's assembler: a text of one instruction a line, for one thread, with as many registers
as it likes. An instruction has a guard, an opcode and operands:

    @%p3 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 16 ];

Names that a block { ... } declares are its own: the waiting loops that Triton writes all have the label `waitLoop`.

(PTX ISA, sections 4 and 5.)
"""

import dataclasses
import re

WIDTHS = {"pred": 0, "b8": 1, "b16": 2, "b32": 4, "f32": 4, "b64": 8, "f64": 8}  # bytes of a register, by its type
SPECIAL = ("%tid.x", "%ctaid.x", "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z")  # 32 bits each
IGNORED = (".loc", ".pragma", ".file", ".section", ".b8", ".b16", ".b32", ".b64")  # for debuggers


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    index     of this instruction in its kernel
    opcode    "ld.global.v4.b32"
    operands  ("{ %r1, %r2, %r3, %r4 }", "[ %rd1 + 16 ]")
    guard     (the register of a predicate, whether it must be false), or None
    text      as it is written
    source    (file, line) of the source that it was compiled from, or None
    """

    index: int
    opcode: str
    operands: tuple
    guard: tuple | None
    text: str
    source: tuple | None


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel.

    name          of its entry
    threads       in a program
    parameters    {name: (index, bytes)}
    registers     {name: (slot, bytes)}; a predicate has 0 bytes
    instructions  [Instruction]
    labels        {name: index of the instruction that follows}
    """

    name: str
    threads: int
    parameters: dict
    registers: dict
    instructions: list
    labels: dict


def parse(text):
    """The kernel of a PTX text."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    head, body = re.search(r"\.entry\s+(.*?)\)\s*(\.reqntid.*)", text, flags=re.S).groups()
    name = head.split("(")[0].strip()
    sizes = re.findall(r"\.param[^,]*?\.[busf](\d+)\s[^,\[]*?([$\w]+)(?:\[(\d+)\])?\s*(?=,|$)", head.strip())
    parameters = {name: (i, int(array or int(bits) // 8)) for i, (bits, name, array) in enumerate(sizes)}
    kernel = Kernel(name, int(re.match(r"\.reqntid\s+(\d+)", body)[1]), parameters, {}, [], {})
    for register in SPECIAL:
        kernel.registers[register] = len(kernel.registers), 4
    files = dict(re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text))
    _read(kernel, body[body.index("{") :], files)
    return kernel


def _read(kernel, body, files):
    """Add the statements of a body, a text in braces."""
    scopes, source, blocks = [], None, 0  # scopes: {name in the text: name here} of each open block
    for line in body.splitlines():
        line = line.partition("//")[0].strip()
        if location := re.match(r"\.loc\s+(\d+)\s+(\d+)", line):
            source = files.get(location[1], location[1]), int(location[2])
        for statement in _statements(line):
            if statement == "{":
                blocks += 1
                scopes.append({})
            elif statement == "}":
                scopes.pop()
                if not scopes:
                    return
            elif label := re.fullmatch(r"([$\w]+):", statement):
                name = _declare(scopes, label[1], blocks)
                kernel.labels[name] = len(kernel.instructions)
            elif declared := re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement):
                for name in _names(declared[2]):
                    name = _declare(scopes, name, blocks)
                    kernel.registers[name] = len(kernel.registers), WIDTHS[declared[1]]
            elif statement and not statement.startswith(IGNORED):
                kernel.instructions.append(_instruction(len(kernel.instructions), statement, scopes, source))


def _statements(line):
    """The statements of a line, braces of blocks and labels among them: "{ a; L: b; }" -> "{", "a", "L:", "b", "}"."""
    while line:
        if line[0] in "{}":  # an operand's braces never begin a statement
            yield line[0]
            line = line[1:].strip()
        elif label := re.match(r"[$\w]+:(?!:)", line):
            yield label[0]
            line = line[label.end() :].strip()
        else:
            statement, _, line = line.partition(";")
            yield statement.strip()
            line = line.strip()


def _names(text):
    """The names of a declaration: "%r<3>" -> %r0, %r1, %r2; "complete" -> complete."""
    for name in text.split(","):
        family, _, count = name.strip().partition("<")
        yield from (f"{family}{i}" for i in range(int(count[:-1]))) if count else (family,)


def _declare(scopes, name, block):
    """Record a name in the innermost block; returns the name that it has here, which no other block has."""
    scopes[-1][name] = name if len(scopes) == 1 else f"{name}@{block}"
    return scopes[-1][name]


def _instruction(index, statement, scopes, source):
    guard, opcode, operands = re.match(r"(?:@(!?[$%\w]+)\s+)?(\S+)\s*(.*)", statement).groups()
    inner = {name: here for scope in scopes[1:] for name, here in scope.items()}
    if inner:
        operands = re.sub(r"[$%\w]+", lambda match: inner.get(match[0], match[0]), operands)
        guard = guard and re.sub(r"[$%\w]+", lambda match: inner.get(match[0], match[0]), guard)
    guard = guard and (guard.lstrip("!"), guard.startswith("!"))
    return Instruction(index, opcode, tuple(_split(operands)), guard, statement, source)


def _split(text):
    """The operands of an instruction, which commas separate: [an address], {a vector}, or one word."""
    return [part.strip() for part in re.findall(r"\[[^\]]*\]|\{[^}]*\}|[^,\s][^,]*", text)]
