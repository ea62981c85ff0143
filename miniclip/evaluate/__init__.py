"""Measures a model on pictures with labels or captions: which data, which numbers, and how they are shown."""
