"""What tokenizers share, and the tokenizers of other families than CLIP, whose own is `miniclip.tokenizer`."""
