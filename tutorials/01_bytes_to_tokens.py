# %% [markdown]
# # 01 · Bytes to tokens
#
# - **Builds**: byte-pair encoding: training, encoding and decoding, and the layout of the ids.
# - **Time**: 6 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: nothing but Python. Here the text half of CLIP begins; pictures begin in
#   [02](02_pixels_to_patches.md).
#
# A model computes with numbers, and "a red heart" is none. So a text is first cut into pieces, **tokens**, and each
# piece is looked up in a fixed list, the **vocabulary**: its place in that list is its **id**. The model sees a row
# of ids and nothing else. This page builds the way there and back, and arrives at the same ids as OpenAI's code.

# %%
import inspect
from collections import Counter
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

import miniclip
from miniclip import Tokenizer, tokenizer
from miniclip.fetch import vocabulary
from miniclip.train.loop import shapes
from miniclip.viz import tokens as draw

model, preprocess = miniclip.load("shapes", backend="numpy")

# %% [markdown]
# ## Why not words
#
# The obvious piece is a word. The built-in model, "shapes", learned from captions of pictures with coloured shapes,
# and all the words of 12,000 captions make a short list:

# %%
captions = list(shapes.captions(seed=0))
known = {word for caption in captions for word in caption.split()}
print(f"{len(captions):,} captions such as {captions[1]!r}, {len(known)} words")
print({word: word in known for word in ["heart", "heart!", "hearts", "Heart", "heart?"]})
assert len(captions) == 12_000 and {"heart", "heart!"} <= known and not known & {"hearts", "Heart", "heart?"}

# %% [markdown]
# One letter more, and the word is not in the list. A longer list helps, but no list of words is ever complete:
# tomorrow brings new names, new spellings, other languages. What is not in the list has no id, and the model cannot
# be told of it at all. We want pieces of which **every** text can be made.
#
# ## Bytes
#
# Computers have long had such pieces. Unicode gives each character a number, its *code point*, of up to 21 bits.
# **UTF-8** writes it as one to four **bytes**, numbers from 0 to 255. Up to 7 bits are one byte. More of them go
# six at a time, from the end, into bytes that begin with `10`, until what is left fits into the first byte, which
# begins with as many ones as there are bytes, and a zero:

# %%
for character in "hé你🙂":
    print(character, f"{ord(character):b}", "->", *(f"{byte:08b}" for byte in character.encode()))

caption = "an orange crescent to the left of a purple diamond"
print(len(caption.split()), "words,", len(caption.encode()), "bytes")
assert len(caption.split()) == 10 and len(caption.encode()) == 50

# %% [markdown]
# So 256 ids are enough for every text there is, and nothing is ever unknown. The trouble is the length, here 50
# tokens for 10 words. Attention compares each token with each ([03](03_attention.md)), so 5 times the tokens are 25
# times the work there, and CLIP reads no more than 77. And a byte says little: the model would have to learn to spell
# before it could learn what a crescent is.
#
# The way between is **byte-pair encoding** (Sennrich et al., Neural Machine Translation of Rare Words with Subword
# Units, 2016; of bytes, and not of letters, since GPT-2): begin with bytes, of which everything can be made, and give
# ids of their own to groups of bytes that often stand together. A frequent word becomes one token, a rare one a few.
#
# ## Counting pairs
#
# This is the example of the paper's algorithm 1: four words, and how often each occurs. A word is a row of
# **symbols**, at first one for each byte. The last one carries the mark `</w>`, *end of word*: to the vocabulary, `t`
# and `t</w>` are two different symbols. So no spaces need be kept, since each word says itself where it ends. (In the
# paper the mark is a symbol of its own; CLIP has it as here.) Which neighbours stand together most often?

# %%


def naive_symbols(word):
    return (*word[:-1], word[-1] + "</w>")


def naive_pairs(words):
    """{symbols of a word: how often it occurs} -> how often each pair of neighbours occurs."""
    pairs = Counter()
    for symbols, count in words.items():
        for left, right in pairwise(symbols):
            pairs[left, right] += count
    return pairs


counts = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
words = {naive_symbols(word): count for word, count in counts.items()}
pairs = naive_pairs(words)
print(pairs.most_common(4))
assert pairs["e", "s"] == pairs["s", "t</w>"] == max(pairs.values()) == 6 + 3

# %% [markdown]
# Two pairs share the first place, both from "newest" and "widest". We take the alphabetically first, `e s`, so that
# everybody gets the same result. Now the **merge**: wherever the pair stands, it becomes one symbol.

# %%


def naive_merge(symbols, pair):
    """Join each occurrence of the pair, from left to right."""
    out = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


for symbols, count in words.items():
    print(count, "x", *symbols, " -> ", *naive_merge(symbols, ("e", "s")))

# %% [markdown]
# ## Training
#
# Training repeats this: count, merge the most frequent pair, count again. A merged symbol is a symbol like any other
# and may be merged in its turn. What is learned is the list of merges, in order; the place of a merge is its
# **rank**. The loop ends when there are as many as one wanted, or when no pair occurs twice.

# %%


def naive_train(words, n):
    """The first n merges that the words teach."""
    merges = []
    while len(merges) < n:
        pairs = naive_pairs(words)
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        words = {naive_merge(symbols, best): count for symbols, count in words.items()}
    return merges


merges = naive_train(words, 6)
print(*(f"{rank}: {left} + {right}" for rank, (left, right) in enumerate(merges)), sep="\n")
assert merges[1] == ("es", "t</w>") and merges[5] == ("n", "ewest</w>")

# %% [markdown]
# Merge 1 has made `est</w>`, which "newest" and "widest" share. Nobody told the loop about superlatives. It has
# counted. The library's loop is the same; its `FIXED` are the ids that every vocabulary has, of which more below.

# %%
text = " ".join(word for word, count in counts.items() for _ in range(count))
assert merges == Tokenizer.train([text], vocab_size=tokenizer.FIXED + 6).merges
print(inspect.getsource(Tokenizer.train))

# %% [markdown]
# ## From any text to words
#
# What stands between words is settled before any merging. The library first *cleans* a text: it mends broken
# encodings, undoes HTML escapes, makes one space of several, and lower case of all. Then a regular expression cuts it
# into words: letters run together, each digit stands alone, "'s" and its like too, and signs are kept from letters.
# (Else "dog.", "dog!" and "dog?" would each take a token, as the authors of GPT-2 observed: Language Models are
# Unsupervised Multitask Learners, sec. 2.2.) No token ever reaches from one word into the next.

# %%
text = "Tom &amp; Jerry's  2nd café"
print(tokenizer.WORD.pattern, tokenizer.split(tokenizer.clean(text)), sep="\n")
assert tokenizer.split(tokenizer.clean(text)) == ["tom", "&", "jerry", "'s", "2", "nd", "cafÃ©"]

byte_symbols = tokenizer.BYTE_SYMBOLS  # {byte: the character that it is written as}
assert len(byte_symbols) == len({*byte_symbols.values()}) == 256 and len("é".encode()) == 2

# %% [markdown]
# Nothing broke in `cafÃ©`. From here on a word is a row of bytes, and so that it can be printed, each byte is written
# as one character. The letter é is two bytes, so it looks like two.
#
# Now our loop can read all 12,000 captions. What it learns is, merge for merge, the vocabulary of the built-in model:

# %%
counts = Counter(word for caption in captions for word in tokenizer.split(tokenizer.clean(caption)))
words = {naive_symbols(word): count for word, count in counts.items()}
merges = naive_train(words, 510)  # at most: room for 1,024 ids in all
assert merges == model.tokenizer.merges and tokenizer.FIXED + 510 == 1024

lengths = [sum(len(symbols) * count for symbols, count in words.items())]  # of the whole text, in symbols
for pair in merges:
    found = naive_pairs(words)[pair]
    words = {naive_merge(symbols, pair): count for symbols, count in words.items()}
    lengths.append(sum(len(symbols) * count for symbols, count in words.items()))
    assert lengths[-2] - lengths[-1] == found  # a merge takes one symbol away wherever its pair stands

print(len(counts), "different words,", len(merges), "merges, the first:", *map("".join, merges[:8]))
assert len(counts) == 57 and {",", "!"} < counts.keys() and len(merges) == 159 and lengths[-1] == counts.total()

# %% [markdown]
# It stopped at 159 merges. By then each of the 57 words (the comma and the exclamation mark count as words) is a
# single symbol, and there is no pair left to count. Each merge shortens the text by as many symbols as its pair was
# frequent, and none is more frequent than the one before: the pairs that were there have lost to that one, and a new
# pair contains its symbol, which stands no more often than its pair did. So the curve falls ever more slowly. It
# bends at the 77th merge, where the last of the 10 colours and 8 shapes becomes one symbol.

# %%
names = {*shapes.COLOURS, *shapes.SHAPES}  # 10 and 8
last = max(rank for rank, pair in enumerate(merges) if "".join(pair).removesuffix("</w>") in names)
assert len(shapes.COLOURS) == 10 and len(shapes.SHAPES) == 8 and last + 1 == 77
assert (np.diff(lengths, n=2) >= 0).all()

draw.shrinking(np.array(lengths) / counts.total(), merges, show=[1, 7, 20, 42, 77, 109, 159])
plt.show()

# %% [markdown]
# ## Encoding
#
# Training is done once. Encoding must cut words that training never saw, and all it has is the list of merges. It
# **replays** them: of all pairs of neighbours in the word, merge the one of lowest rank, and repeat until no pair was
# ever merged.

# %%


def naive_encode(word, ranks):
    """ranks {pair: rank} -> the word's symbols before and after each merge, and the ranks of those merges."""
    states, used = [naive_symbols(word)], []
    while found := [pair for pair in pairwise(states[-1]) if pair in ranks]:
        first = min(found, key=ranks.get)
        states.append(naive_merge(states[-1], first))
        used.append(ranks[first])
    return states, used


ranks = {pair: rank for rank, pair in enumerate(merges)}
for text in [*captions[:200], "standing squares, hearts & telescopes", "Constantinople's naïve", "привет 🙂 ... 2026"]:
    words = tokenizer.split(tokenizer.clean(text))
    symbols = [symbol for word in words for symbol in naive_encode(word, ranks)[0][-1]]
    assert [model.tokenizer.encoder[symbol] for symbol in symbols] == model.tokenizer.encode(text)

# %% [markdown]
# Why not cut off the longest symbol that fits, as one would by eye? Because that is another tokenizer:

# %%
rest, longest_first = naive_symbols("standing"), []
while rest:
    n = next(n for n in range(len(rest), 0, -1) if "".join(rest[:n]) in model.tokenizer.encoder)
    longest_first.append("".join(rest[:n]))
    rest = rest[n:]

print("by rank:      ", *naive_encode("standing", ranks)[0][-1])
print("longest first:", *longest_first)
assert longest_first == ["st", "an", "di", "n", "g</w>"]

# %% [markdown]
# Here `di`, learned from "diamond", spoils the ending `ing</w>`. Another cut means other ids, and a model that gets
# other ids than it was trained with reads another text. The order of the merges is as much a part of it as its
# weights.
#
# ## Decoding
#
# The way back: look the symbols up, join them, turn characters into bytes, read those as UTF-8, make each `</w>` a
# space. Bytes that are no UTF-8, such as half a character, become the sign U+FFFD.

# %%


def naive_decode(ids, symbols):
    """ids -> text; symbols {id: symbol}."""
    byte_of = {symbol: byte for byte, symbol in byte_symbols.items()}
    text = "".join(symbols[id] for id in ids)
    return bytes(byte_of[character] for character in text).decode("utf-8", "replace").replace("</w>", " ")


encode, decode = model.tokenizer.encode, model.tokenizer.decode
for text in ["A  RED heart", "don't!", "Привет 🙂"]:
    print(f"{text!r} -> {len(encode(text))} ids -> {decode(encode(text))!r}")
    assert naive_decode(encode(text), model.tokenizer.decoder) == decode(encode(text))
assert len(encode("🙂")) == 4 and decode(encode("🙂")[:2]) == "\ufffd"

# %% [markdown]
# Capitals and spacing are gone, and "don't" has fallen into two words: decode(encode(s)) = s is no law. But these two
# are, and we try them on captions and on a thousand random rows of Unicode characters:
#
# 1. decode(encode(s)) is the words of the cleaned s, each with a space behind it;
# 2. encode(decode(encode(s))) = encode(s): nothing more is lost the second time.

# %%
characters = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]  # those in the gap are no characters
rows = np.random.default_rng(0).integers(len(characters), size=(1000, 12))
for s in [*captions[:1000], *("".join(characters[n] for n in row) for row in rows)]:
    assert decode(encode(s)) == "".join(word + " " for word in tokenizer.WORD.findall(tokenizer.clean(s)))
    assert encode(decode(encode(s))) == encode(s)

# %% [markdown]
# ## The layout of the ids
#
# All that is left is to number the symbols. The order is the same in every vocabulary of CLIP:
#
# | ids | what |
# |---|---|
# | 0 to 255 | the bytes, beginning with those that can be printed: `!` is 0 |
# | 256 to 511 | the bytes that end a word, in the same order: `!</w>` is 256 |
# | from 512 | what the merges made: that of rank r is 512 + r |
# | the last two | start and end, which stand around every text |
#
# The published CLIP models share one list of merges, learned from far more text than ours. It is a file of OpenAI's
# and not part of miniclip. `vocabulary.find` looks for it on this machine, where `$MINICLIP_VOCAB` says, in
# miniclip's cache and in the package openai-clip, and fetches nothing. When this page was made, it was found.

# %%
path = vocabulary.find()
official = Tokenizer.load(path, vocabulary.SIZE) if path else None
print("found" if path else "not on this machine: the page goes on without it")

vocabularies = {"built-in": model.tokenizer} | ({"OpenAI's": official} if official else {})
for name, t in vocabularies.items():
    print(f"{name}: 256 + 256 + {len(t.merges):,} + 2 = {len(t):,}")
    symbols = [*byte_symbols.values()]
    symbols += [symbol + "</w>" for symbol in symbols] + [left + right for left, right in t.merges]
    assert t.decoder == dict(enumerate([*symbols, "<|startoftext|>", "<|endoftext|>"]))
    assert t.encoder["!"] == 0 and t.encoder["!</w>"] == 256 and len(t) == (49_408 if t is official else 673)

assert 256 + 256 + 48_894 + 2 == 49_408 == 49_152 + 256
if official:
    ids = [official.start_id, *official.encode("Hello World!"), official.end_id]
    print(*(f"{id:6} {official.decoder[id]}" for id in ids), sep="\n")
    assert ids == [49406, 3306, 1002, 256, 49407] and len(official.merges) == 48_894
    assert official.merges[490] == ("wor", "ld</w>") and 512 + 490 == 1002 and 512 + 2_794 == 3306

# %% [markdown]
# (The paper speaks of 49,152 entries, sec. 2.4: that is without the 256 bytes that end a word.) "Hello World!" is the
# example that everybody compares with, and every number in it can be read now. The last two of 49,408 are start and
# end; 256 is the first of the bytes that end a word. "world" is of rank 490 and "hello" of rank 2,794: the first was
# merged much earlier, so it was the more frequent one.
#
# ## How many tokens a word takes
#
# A vocabulary is good for texts like those that it learned from. The 57 words of our captions are one token each, in
# the built-in vocabulary and in OpenAI's. Beyond them the built-in one must spell, where OpenAI's has thousands more:

# %%
words = ["heart", "crescent", "photo", "standing", "telescope", "unhappiness", "constantinople", "naïve", "привет"]
tokens_of = {f"{name}, {len(t):,} ids": [len(t.encode(word)) for word in words] for name, t in vocabularies.items()}
assert all(len(t.encode(word)) == 1 for word in counts for t in vocabularies.values())
assert [numbers[-1] for numbers in tokens_of.values()] == [12, 7][: len(vocabularies)]
assert len("привет") == 6 and len("привет".encode()) == 12

draw.trees_and_counts([(word, *naive_encode(word, ranks)) for word in ["crescent", "standing"]], words, tokens_of)
plt.show()

# %% [markdown]
# Above, each join is a merge, with its rank below it, and time goes upwards; in blue what no merge joins any more,
# the tokens. Below, what a word costs of CLIP's 77. A language that was rare in the text pays more: "привет" has six
# letters, and takes 7 tokens even in OpenAI's vocabulary. In the built-in one it takes 12, byte for byte. But it has
# ids.
#
# **Now you.** `miniclip learn start course` lays out exercises, of which `bpe_train` and `bpe_encode` are this
# page's: see [the course](../../miniclip/learn/README.md). Next: [02](02_pixels_to_patches.md) makes tokens of
# pictures.
