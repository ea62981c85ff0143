"""Formats of numbers that NumPy does not have, as functions between their bits and float32."""

import numpy as np

SMALLEST = np.finfo(np.float32).tiny  # normal number; .ftz takes what is smaller as zero


def from_bf16(bits):
    """float32 of the bits, uint16, of bfloat16 numbers."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(x):
    """The bits of float32 numbers rounded to bfloat16, to the nearest, ties to even."""
    bits = x.view(np.uint32)
    rounded = ((bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)).astype(
        np.uint16
    )
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded)


def from_f16(bits):
    return bits.view(np.float16).astype(np.float32)


def to_f16(x):
    return x.astype(np.float16).view(np.uint16)


def to_tf32(x):
    """The bits of float32 numbers rounded to the 10 bits of tf32's mantissa, to the nearest, ties away from zero."""
    bits = (x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(x), np.uint32(0x7FFFFFFF), bits)


def from_tf32(bits):
    """What the matrix units read of float32 bits: the last 13 are not looked at."""
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def _e4m3_table():
    """The values of the 256 codes: a sign, 4 bits of exponent, 3 of mantissa; no infinity, NaN is 0x7f and 0xff."""
    code = np.arange(128)
    exponent, mantissa = code >> 3, code & 7
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    values[127] = np.nan
    return np.concatenate([values, -values]).astype(np.float32)


E4M3 = _e4m3_table()


def from_e4m3(bits):
    return E4M3[bits]


def to_e4m3(x):
    """The bits, uint8, of float32 numbers rounded to e4m3, ties to even; beyond 448 it is 448 (.satfinite)."""
    size = np.minimum(np.abs(x), np.float32(448))
    step = np.exp2(np.maximum(np.floor(np.log2(np.maximum(size, 2.0**-9))), -6) - 3)  # between numbers of this size
    code = np.searchsorted(E4M3[:127], np.rint(size / step) * step).astype(np.uint8)
    return np.where(np.isnan(x), np.uint8(0x7F), code | (np.signbit(x).astype(np.uint8) << np.uint8(7)))


def flush(x):
    """x, float32, with subnormal numbers replaced by zeros of their sign: .ftz."""
    return np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), x)
