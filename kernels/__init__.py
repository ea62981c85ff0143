"""miniclip.kernels: CLIP's operations as hand-written Triton kernels.

This folder installs as `miniclip.kernels`. If Python does not find it under that name, the repository was not
installed: run `pip install -e .` in its root.
"""
