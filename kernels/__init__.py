"""CLIP's operations as hand-written kernels: imports as `miniclip.kernels`, never under the folder's own name.

(A package called `kernels` exists, and transformers imports it.)
"""
