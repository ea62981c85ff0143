"""Captions for benchmarks, the same on every machine: random words with natural frequencies, and the variety of
spelling that captions from the web have."""

import re

import numpy as np

ENDINGS = [".", "!", "...", " .", "", "", "", ""]
EXTRAS = [  # one caption in eight has one of these, because people do not only write plain ASCII words
    "#{0}", "@{0}_{1}", "{0}'s", "don't", "({0})", "\"{0}\"", "{0}-{1}", "{0}/{1}", "IMG_{2}.JPG", "{2}x{3}", "19{3}",
    "$ {2}", "w/ {0}", "{0} | {1}", "https://www.{0}.com/{1}?id={2}", "{0} &amp; {1}", "&quot;{0}&quot;", "“{0}”",
    "{0} – {1}", "{0}’s", "café", "São Paulo", "Zürich", "łódź", "5 × 7", "{3}°C", "© {0}", "…", "日本", "東京タワー",
    "Москва", "شمس", "❤️", "😀😀", "🇫🇷", "cafÃ©", "donâ€™t",
]  # fmt: skip


def words(tokenizer):
    """The words of the vocabulary in the order of its merges: frequent ones first."""
    found = (re.fullmatch(r"(a|i|[a-z]{2,})</w>", symbol) for symbol in tokenizer.encoder)
    return [match[1] for match in found if match]


def make(count, tokenizer, seed=0):
    """`count` captions of 3 to 25 words, 10 on average, with word frequencies after Zipf's law."""
    rng, vocabulary = np.random.default_rng(seed), words(tokenizer)
    share = 1 / np.arange(10, 10 + len(vocabulary))
    lengths = np.clip(rng.poisson(7, count) + 3, 3, 25)
    chosen = iter(rng.choice(vocabulary, lengths.sum(), p=share / share.sum()).tolist())
    captions = []
    for length in lengths:
        caption = [next(chosen) for _ in range(length)]
        if rng.random() < 0.3:  # a longer word, of several tokens
            caption[rng.integers(length)] += vocabulary[rng.integers(len(vocabulary))]
        if rng.random() < 0.5:
            caption[0] = caption[0].capitalize()
        if rng.random() < 0.2:
            caption[rng.integers(length)] += ","
        if rng.random() < 0.125:
            extra = EXTRAS[rng.integers(len(EXTRAS))]
            caption.insert(
                rng.integers(length), extra.format(*caption[:2], rng.integers(1, 5000), rng.integers(10, 99))
            )
        captions.append(" ".join(caption) + ENDINGS[rng.integers(len(ENDINGS))])
    return captions
