"""Texts for the tests of tokenizers."""

from hypothesis import strategies as st

FIXED = 2 * 256 + 2  # ids without merges: 256 bytes, 256 bytes at the end of a word, start and end

# Pieces that the four steps treat specially, so that one text often has several of them.
PIECES = [
    *["'s", "'S", "'t", "'re", "'ve", "'m", "'LL", "'d", "’s", "ʼs", "don't", "you're"],
    *["'ſ", "ſ"],  # regex.IGNORECASE treats this letter as an s
    *["<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<|StartOfText|>", "<|", "|>", "</w>", "<", "w"],
    *["&amp;", "&amp;amp;", "&amp;amp;amp;", "&lt;|endoftext|&gt;", "&nbsp;", "&#32;", "&#xd800;", "&copy"],
    *["&#39;s", "&", ";"],
    *[" ", "\t", "\n", "\r\n", "\v\f", "\x1c", "\x85", "\xa0", "\u2003", "\u2028", "\u3000", "\u200b", "\ufeff"],
    *["0", "1233", "½", "²", "Ⅷ", "٣", "१२", "𝟘"],
    *["😀", "👩\u200d👩\u200d👧", "🇩🇪", "❤\ufe0f", "👍🏽"],
    *["e\u0301", "\u0301", "İ", "ẞ", "ﬁ", "Σας", "日本語", "ก็", "हिन्दी", "\u202eabc", "\ud83d\ude00", "\udc80"],
    *["â€™", "Ã©", "schÃ¶n", "\x00", "\x7f", "\xad", "\u0080"],  # broken encodings, and unprintable bytes
    *["cat", "Photo", "ing", "sea_waves", "...", "!!", "hello-world"],
]
TEXTS = st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)
