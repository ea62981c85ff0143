"""Data sets that miniclip makes itself."""
