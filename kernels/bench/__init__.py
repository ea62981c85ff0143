"""The benchmarks: `miniclip bench kernels`, `miniclip bench models`, `miniclip bench report`.

cases.py     every kernel's inputs, work and peers, and the shapes that are measured: data
timing.py    medians of runs that take turns; CUDA graphs over more memory than the cache holds; ceilings
session.py   case after case, answers checked before they are timed
kernels.py   each kernel against its peers;  autotune.py  its fastest tiles;  models.py  whole encoders
records.py   what was measured, one JSON object a line in results/;  report.py  tables, pictures and targets
"""
