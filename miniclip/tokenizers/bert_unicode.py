"""How transformers' BERT tokenizer classifies characters: the oddities of its library (Hugging Face's tokenizers).

It has three versions of Unicode: categories are from 8.0, decompositions from 9.0, and lower case is today's. Python
has one version, which depends on Python's own; the differences are here. They were read from tokenizers 0.23 and
Unicode 18.0, character by character.
"""

import unicodedata

import regex


def _code_points(ranges):
    """ "5c8-5c9 61d" -> {"\\u05c8", "\\u05c9", "\\u061d"}."""
    pairs = (span.partition("-")[::2] for span in ranges.split())
    return frozenset(chr(c) for first, last in pairs for c in range(int(first, 16), int(last or first, 16) + 1))


# Marks, punctuation and format characters that were added after Unicode 8.0.
UNASSIGNED = _code_points(
    "5c8-5c9 61d 7fd 890-891 897-89f 8ca-8e2 9fd-9fe a76 afa-aff b53-b55 c04 c3c c77 c84 d00 d3b-d3c d81 eba ece 180f "
    "1885-1886 1abf-1af0 1b4e-1b4f 1b7d-1b7f 1df6-1dfb 2e43-2e4f 2e52-2e5d 2e60-2e63 a82c a8c5 a8ff a9bd 10d24-10d27 "
    "10d69-10d6e 10eab-10ead 10ecb-10ed0 10ef0-10eff 10f46-10f50 10f55-10f59 10f82-10f89 11070 11073-11074 110c2 "
    "110cd 111c9 111cf 1123e 11241 1133b 113bb-113c0 113ce 113d0 113d2 113d4-113d5 113d7-113d8 113e1-113e2 "
    "11438-1143f 11442-11444 11446 1144b-1144f 1145a-1145b 1145d-1145e 11660-1166c 116b9 1182f-11837 11839-1183b "
    "1193b-1193c 1193e 11943-11946 119d4-119d7 119da-119db 119e0 119e2 11a01-11a0a 11a33-11a38 11a3b-11a47 "
    "11a51-11a56 11a59-11a5b 11a8a-11a96 11a98-11a9c 11a9e-11aa2 11b00-11b09 11b60 11b62-11b64 11b66 11be1 "
    "11c30-11c36 11c38-11c3d 11c3f 11c41-11c45 11c70-11c71 11c92-11ca7 11caa-11cb0 11cb2-11cb3 11cb5-11cb6 "
    "11d31-11d36 11d3a 11d3c-11d3d 11d3f-11d45 11d47 11d90-11d91 11d95 11d97 11df0 11ef3-11ef4 11ef7-11ef8 "
    "11f00-11f01 11f36-11f3a 11f40 11f42-11f4f 11f5a 11fff 12ff1-12ff2 13430-13440 13447-13455 1611e-16129 "
    "1612d-1612f 16d6d-16d6f 16e97-16e9a 16f4f 16fe2 16fe4 1cf00-1cf2d 1cf30-1cf46 1d127-1d128 1d25b-1d25c "
    "1e000-1e006 1e008-1e018 1e01b-1e021 1e023-1e024 1e026-1e02a 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef "
    "1e5ee-1e5ef 1e5ff 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5 1e944-1e94a 1e95e-1e95f"
)

# Two characters that were punctuation, and two that were marks, in Unicode 8.0.
CHANGED = {"\u166d": "Po", "\U000111c9": "Po", "\u1734": "Mn", "\U0001171e": "Mn"}

# Marks and letters that were added after Unicode 9.0 and that Python's NFD would reorder or decompose.
STARTERS = _code_points(
    "5c8-5c9 7fd 897-89f 8ca-8d3 9fe c3c d3b-d3c eba 1715 1abf-1af0 1df6-1dfa a82c 105c9 105e4 10d24-10d27 "
    "10d69-10d6d 10eab-10eac 10ecb-10ecf 10ef0-10efb 10efd-10eff 10f46-10f50 10f82-10f85 11070 1133b 11383 11385 "
    "1138e 11391 113c5 113c7-113c8 113ce-113d0 1145e 11839-1183a 11938 1193d-1193e 11943 119e0 11a34 11a47 11a99 "
    "11d42 11d44-11d45 11d97 11f41-11f42 16121-16128 1612f 16d68-16d6a 16ff0-16ff1 1d127-1d128 1d250-1d252 "
    "1d25b-1d25c 1d25f 1d280-1d281 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 "
    "1e6ee-1e6ef 1e6f5"
)


_STARTER = regex.compile(f"([{''.join(sorted(STARTERS))}])")

# (first, last, distance to its lower case) of characters that have one since Unicode 14.0 or later.
_LOWER = (
    (0x1C89, 0x1C89, 1), (0x2C2F, 0x2C2F, 0x30), (0xA7C0, 0xA7C0, 1), (0xA7CB, 0xA7CB, 0x264 - 0xA7CB),
    (0xA7CC, 0xA7CC, 1), (0xA7CE, 0xA7CE, 1), (0xA7D0, 0xA7D0, 1), (0xA7D2, 0xA7D2, 1), (0xA7D4, 0xA7D4, 1),
    (0xA7D6, 0xA7D6, 1), (0xA7D8, 0xA7D8, 1), (0xA7DA, 0xA7DA, 1), (0xA7DC, 0xA7DC, 0x19B - 0xA7DC),
    (0x10570, 0x1057A, 0x27), (0x1057C, 0x1058A, 0x27), (0x1058C, 0x10592, 0x27), (0x10594, 0x10595, 0x27),
    (0x10D50, 0x10D65, 0x20), (0x16EA0, 0x16EB8, 0x1B),
)  # fmt: skip
LOWER = {chr(c): chr(c + shift) for first, last, shift in _LOWER for c in range(first, last + 1)}


def category(character):
    """A character's general category in Unicode 8.0; right for marks, punctuation and controls only."""
    if character in CHANGED:
        return CHANGED[character]
    return "Cn" if character in UNASSIGNED else unicodedata.category(character)


def decompose(text):
    """A text's canonical decomposition (NFD) in Unicode 9.0."""
    return "".join(
        piece if piece in STARTERS else unicodedata.normalize("NFD", piece) for piece in _STARTER.split(text)
    )


def lower(character):
    """A character's lower case; that of a sigma does not depend on its position in the word."""
    return LOWER.get(character) or character.lower()
