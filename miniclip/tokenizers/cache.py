"""A cache for the ids of words, because words repeat."""


class Cache(dict):
    """{text: function(text)} of short texts, computed on first use.

    It is emptied when it has `size` texts, so that memory does not grow. (functools.lru_cache, which keeps the texts
    that were used last, takes twice the time.)
    """

    LONGEST = 64  # characters of a text that is kept

    def __init__(self, function, size=1 << 16):
        super().__init__()
        self.function, self.size = function, size

    def __missing__(self, text):
        ids = self.function(text)
        if len(self) >= self.size:
            self.clear()
        if len(text) <= self.LONGEST:
            self[text] = ids
        return ids
