"""Figures with matplotlib (the extra "figures"), one module for each subject. Every function returns a Figure."""

from miniclip.viz import style as style  # first: without matplotlib it says what to install
from miniclip.viz.similarity import similarity_matrix as similarity_matrix
