"""What makes the tokenizer faster changes no id: caches, threads, and texts that need no mending."""

import pickle
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from miniclip import Tokenizer
from miniclip.tokenizer import PLAIN, clean
from miniclip.tokenizers import Cache

# ------------------------------------------------------------------------------------------- threads, processes, memory


def test_a_tokenizer_can_be_pickled(tokenizer):
    tokenizer.encode("a dog")  # pickling must leave this filled cache out
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encoder == tokenizer.encoder and copy.encode("Hello World!") == [3306, 1002, 256]


def test_threads_that_share_a_tokenizer_get_what_one_gets(tokenizer):
    texts = [f"a photo number {i % 50} of {'un' * (i % 7)}believable things" for i in range(400)]
    alone = [tokenizer.encode(text) for text in texts]
    shared = Tokenizer(tokenizer.merges)  # nothing cached yet
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(shared.encode, texts)) == alone


def test_words_that_were_seen_are_kept_but_not_without_end():
    asked = []
    cache = Cache(lambda text: asked.append(text) or len(text), size=2)
    assert [cache[text] for text in ("dog", "cat", "dog", "bird", "dog")] == [3, 3, 3, 4, 3]
    assert asked == ["dog", "cat", "bird", "dog"] and [*cache] == ["bird", "dog"]
    assert cache["a" * 1000] == cache["a" * 1000] == 1000 and asked[-2] == asked[-1] and len(cache) <= 2


def test_a_tokenizer_keeps_what_it_was_asked_for(tokenizer):
    fresh = Tokenizer(tokenizer.merges)
    fresh.encode("Dog, cat dog")
    assert fresh._pieces.keys() == {"dog,", "cat", "dog"} and fresh._pieces.size <= 1 << 20


# ------------------------------------------------------------------------------------------------------ the faster path

PRINTED = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(text=st.one_of(PRINTED, PRINTED.map("\n".join), st.text(st.characters(max_codepoint=127), max_size=60)))
def test_plain_ascii_needs_no_mending(official_tokenizer_module, text):
    """The official cleaning only changes spaces and capitals of texts that are treated as plain."""
    official = official_tokenizer_module
    assert clean(text) == official.whitespace_clean(official.basic_clean(text)).lower()


def test_every_pair_of_ascii_characters_is_cleaned_as_the_official_code_does_it(official_tokenizer_module):
    official = official_tokenizer_module
    for text in (f"It{chr(a)}{chr(b)}s" for a in range(128) for b in range(128)):
        assert clean(text) == official.whitespace_clean(official.basic_clean(text)).lower(), repr(text)


def test_words_of_a_long_piece_are_kept(tokenizer):
    fresh = Tokenizer(tokenizer.merges)
    url = "https://www.example.com/" + "/".join(["photographs"] * 9)
    assert fresh.encode(url) == tokenizer.encode(url) and "photographs" in fresh._words and not fresh._pieces


def test_what_is_plain():
    assert all(PLAIN.fullmatch(text) for text in ("", "A dog's 2 <b>bones</b>!~", " a\tb\r\nc "))
    assert not any(PLAIN.fullmatch(f"a{character}b") for character in "&\x00\x0b\x1b\x1c\x7f\x85é’日")
