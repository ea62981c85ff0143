"""Plain English: a dozen turns of phrase that readers who are not native speakers stumble over do not come back."""

import re

import pytest
from checkout import ROOT

# What not to write, and what to write instead.
PATTERNS = {
    r"stands? in\b|stood in\b": "is in",
    r"(lies?|lay) (in|on|at|beside|behind|beyond|outside|there|where|apart)\b": "is in",
    r"tells?\b|told\b": "says, shows, reports",
    r"behind\b": "after",
    r"in the place of\b|in (its|their) place\b": "instead of",
    r"but for\b": "except",
    r"(go|goes|went|going) on\b": "continues, resumes",
    r"anew\b": "again",
    r"whoever\b|those who\b|what of (it|them)\b": "anyone who; name the thing",
    r"(of|in|from|with|to|by) which\b": "split the sentence",
    r"where (there (is|are)|it is given|they are given)\b": "if there is, if given",
    r"no way to say\b": "cannot express",
    r"to the bit\b": "bit for bit",
    r"(is|are|be|was|were) taken for\b": "is treated as, is mistaken for",
    r"nothing but\b": "only",
}
ROOMS = {
    "pages": ["*.md", "docs/**/*.md", "findings/*.md", "kernels/*.md", "tutorials/README.md", "miniclip/learn/*.md"],
    "project": ["Makefile", "*.toml", "*.yml", ".ci/*", "docs/*.py", "weights/*.py"],
    "findings": ["findings/*.sh"],
    "tutorials": ["tutorials/*.py"],
    "kernels": ["kernels/**/*.py"],
    "miniclip": ["miniclip/*.py"],
    **{path.name: [f"miniclip/{path.name}/**/*.py"] for path in (ROOT / "miniclip").iterdir() if path.is_dir()},
    "course": ["miniclip/learn/**/*.toml"],
}


@pytest.mark.parametrize("room", ROOMS)
def test_the_english_is_plain(room):
    paths = {path for pattern in ROOMS[room] for path in ROOT.glob(pattern)}
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}, better: {better}"
        for path in sorted(paths)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for pattern, better in PATTERNS.items()
        for match in re.finditer(rf"\b(?:{pattern})", line, re.IGNORECASE)
    ]
    assert found == []
