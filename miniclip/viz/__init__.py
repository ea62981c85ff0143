"""Figures, with matplotlib (the extra "tutorials"): a module for each subject. Every function returns a Figure."""

from miniclip.viz.similarity import similarity_matrix as similarity_matrix
