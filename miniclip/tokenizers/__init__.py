"""Parts that tokenizers share, and the tokenizers of families other than CLIP. CLIP's is `miniclip.tokenizer`."""
