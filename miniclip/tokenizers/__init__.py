"""Parts that tokenizers share, and the tokenizers of families other than CLIP. CLIP's is `miniclip.tokenizer`."""

import html


def repair(text):
    """A text with its encoding repaired and HTML escapes undone twice (official: web captions have them)."""
    import ftfy  # imported here: plain texts, which are most, need no repair and no ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text)))
