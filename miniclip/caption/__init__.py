"""Captions for pictures: a decoder that reads CLIP's features, and beam search for its most probable texts."""

from miniclip.caption.beam_search import beam_search
from miniclip.caption.captioner import Captioner, load

__all__ = ["Captioner", "beam_search", "load"]
