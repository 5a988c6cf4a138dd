# SPDX-License-Identifier: Apache-2.0

"""The compiled loops that touch memory; all of them release the interpreter's lock.

Compiled anew in each process, in about a second: numba's cache on disk is a pickle, and a pickle is code.
"""

import platform
import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Words = NDArray[np.uint64]

LINE_WORDS: Final = 8  # 64 bytes, as every x86-64 and nearly every Arm server fetches
BLOCK_WORDS: Final = 512

_WORDS: Final = types.Array(types.uint64, 1, "C")
_REGISTERS: Final = types.UniTuple(types.uint32, 4)  # type: ignore[no-untyped-call]


def _chase(words: Words, at: int, steps: int) -> int:
    """Go from word to word, each holding the index of the next; give where that ended."""
    for _ in range(steps):
        at = words[at]
    return at


def _read(words: Words) -> int:
    """Sum all words; of ``for word in words`` the compiler makes loads one by one."""
    total = 0
    for index in range(words.size):
        total += words[index]
    return total


def _write(words: Words, value: int) -> None:
    """Store a value that only the caller knows: of a constant the compiler would make a call to memset."""
    for index in range(words.size):
        words[index] = value


def _copy(to: Words, source: Words) -> None:
    for index in range(to.size):
        to[index] = source[index]


def _read_slowly(words: Words, pause: int) -> int:
    """Sum all words, and do so many dependent multiplications behind each block of 4 KiB."""
    total = 1
    for first in range(0, words.size, BLOCK_WORDS):
        total += read(words[first : first + BLOCK_WORDS])
        for _ in range(pause):
            total = total * total + 1  # which no compiler can shorten
    return total


def _compiled(signature: Any, loop: Callable[..., Any]) -> Any:
    return njit([signature], nogil=True)(loop)


chase: Callable[[Words, int, int], int] = _compiled(types.uint64(_WORDS, types.uint64, types.int64), _chase)
read: Callable[[Words], int] = _compiled(types.uint64(_WORDS), _read)
write: Callable[[Words, int], None] = _compiled(types.void(_WORDS, types.uint64), _write)
copy: Callable[[Words, Words], None] = _compiled(types.void(_WORDS, _WORDS), _copy)
read_slowly: Callable[[Words, int], int] = _compiled(types.uint64(_WORDS, types.int64), _read_slowly)


def cpuid(leaf: int) -> bytes:
    """Give eax, ebx, ecx and edx of a leaf of CPUID; nothing on a machine that is not x86-64."""
    if platform.machine() != "x86_64":
        return b""
    binding.initialize_native_asmparser()
    return struct.pack("<4I", *_compiled(_REGISTERS(types.uint32), _execute_cpuid)(leaf))


def _execute_cpuid(leaf: int) -> Any:
    return _cpuid(leaf)  # type: ignore[call-arg]


@intrinsic
def _cpuid(_: Any, leaf: Any) -> Any:
    """Make the instruction, which needs no rights."""
    registers = ir.LiteralStructType([ir.IntType(32)] * 4)
    taken = ir.FunctionType(registers, [ir.IntType(32)] * 2)
    places = "={eax},={ebx},={ecx},={edx},{eax},{ecx}"

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        subleaf = ir.Constant(ir.IntType(32), 0)
        answer = builder.asm(taken, "cpuid", places, [arguments[0], subleaf], side_effect=True)
        each = [builder.extract_value(answer, index) for index in range(4)]
        return context.make_tuple(builder, signature.return_type, each)

    return _REGISTERS(leaf), generate
