"""The laws of byte-pair encoding, learned and applied."""

from collections import Counter
from itertools import pairwise

from miniclip.learn.laws import law, raised
from miniclip.tokenizer import END, FIXED, START, Tokenizer, clean, merge, split, symbols_of

SYLLABLES = ["ba", "na", "ko", "ti", "re", "lo", "st"]


def text(rng, words=30):
    """Words of few syllables, so that pairs occur often."""
    return " ".join("".join(rng.choice(SYLLABLES, rng.integers(1, 4))) for _ in range(words))


@law("bpe_train")
def every_merge_is_the_most_frequent_pair(train, rng):
    """each merge joins the pair that is the most frequent at that point; of equals, the alphabetically first"""
    yield from _pair_by_pair(train, [text(rng), text(rng)], 12)


@law("bpe_train")
def a_pair_is_merged_at_all_of_its_places(train, rng):
    """in a word that has the pair several times, each of them is merged: "ko" becomes one symbol in all of kokoko"""
    words = [str(syllable) * int(rng.integers(3, 6)) for syllable in rng.permutation(SYLLABLES)[:3]]
    yield from _pair_by_pair(train, [" ".join(words)], 6)


def _pair_by_pair(train, texts, merges):
    """Each merge that was learned, and the best pair at that point."""
    words = [symbols_of(word) for t in texts for word in split(clean(t))]  # as often as they occur
    for pair in train(Tokenizer, texts, FIXED + merges).merges:
        pairs = Counter(neighbours for symbols in words for neighbours in pairwise(symbols))
        yield pair, min(pairs, key=lambda p: (-pairs[p], p))
        words = [merge(symbols, pair) for symbols in words]


@law("bpe_train")
def a_vocabulary_has_the_size_that_is_asked_for(train, rng):
    """there are vocab_size ids in all: bytes, start, end and merges"""
    merges = int(rng.integers(0, 9))
    tokenizer = train(Tokenizer, [text(rng)], FIXED + merges)
    yield len(tokenizer), FIXED + merges
    yield len(tokenizer.merges), merges


@law("bpe_train")
def words_count_as_often_as_they_occur(train, rng):
    """a pair in one word that occurs often beats one that several rare words share"""
    texts = ["zq " * 9 + "xy axy bxy cxy"]
    yield train(Tokenizer, texts, FIXED + 1).merges, [("z", "q</w>")]


@law("bpe_train")
def it_ends_when_no_pair_occurs_twice(train, rng):
    """it stops early if no pair occurs twice"""
    yield train(Tokenizer, ["ab ab cd"], FIXED + 50).merges, [("a", "b</w>")]
    yield train(Tokenizer, [], FIXED + 50).merges, []


@law("bpe_train")
def pairs_do_not_cross_words(train, rng):
    """no pair crosses a word's end, and start and end are not words"""
    yield train(Tokenizer, ["a b a b a b", f"{START} {END}", f"{START} {END}"], FIXED + 5).merges, []


@law("bpe_train")
def too_small_a_vocabulary_is_refused(train, rng):
    """InputError if vocab_size is too small for bytes, start and end"""
    yield raised(train, Tokenizer, ["a"], FIXED - 1), "InputError"


def naive_ids(tokenizer, given):
    """All merges, in the order of training, over the whole text."""
    words = [symbols_of(word) for word in split(clean(given))]
    for pair in tokenizer.merges:
        words = [merge(symbols, pair) for symbols in words]
    return [tokenizer.encoder[symbol] for symbols in words for symbol in symbols]


def _trained(rng):
    return Tokenizer.train([text(rng), text(rng)], FIXED + 25)


@law("bpe_encode")
def merges_apply_in_the_order_in_which_they_were_learned(encode, rng):
    """in each word, the pair that was merged first in training is merged first"""
    tokenizer = _trained(rng)
    given = text(rng, 12)
    yield encode(tokenizer, given), naive_ids(tokenizer, given)


@law("bpe_encode")
def words_are_what_split_gives(encode, rng):
    """words are those of `split`: punctuation, an 's and each digit are words of their own"""
    tokenizer = _trained(rng)
    given = f"{text(rng, 2)}, {text(rng, 1)}'s {rng.integers(10, 99)}{text(rng, 1)}!"
    yield encode(tokenizer, given), naive_ids(tokenizer, given)


@law("bpe_encode")
def a_later_merge_waits(encode, rng):
    """from left to right would be wrong: "abc" with the merges b c, a b is "a bc" """
    tokenizer = Tokenizer([("b", "c</w>"), ("a", "b")])
    yield encode(tokenizer, "abc"), [tokenizer.encoder["a"], tokenizer.encoder["bc</w>"]]


@law("bpe_encode")
def texts_are_cleaned_first(encode, rng):
    """capitals, spaces and HTML escapes make no difference"""
    tokenizer = _trained(rng)
    given = text(rng, 3)
    yield encode(tokenizer, f"  {given.upper()} &amp;amp; "), naive_ids(tokenizer, f"{given} &")


@law("bpe_encode")
def decoding_gives_the_text_back(encode, rng):
    """decode(encode(text)) is the text with a space after each word, for any Unicode"""
    tokenizer = _trained(rng)
    given = f"{text(rng, 4)} größe 日本語 😀"
    yield tokenizer.decode(encode(tokenizer, given)).split(), given.split()


@law("bpe_encode")
def nothing_has_no_tokens(encode, rng):
    """an empty text has no ids, and ids are a list of int"""
    tokenizer = _trained(rng)
    yield encode(tokenizer, ""), []
    yield {type(id) for id in encode(tokenizer, text(rng, 3))}, {int}


@law("bpe_encode")
def specials_in_a_text_are_recognised(encode, rng):
    """<|startoftext|> and <|endoftext|> in the text become the ids of these names (official)"""
    tokenizer = _trained(rng)
    ids = [tokenizer.start_id, *naive_ids(tokenizer, "ba"), tokenizer.end_id]
    yield encode(tokenizer, f"{START}ba {END}"), ids
