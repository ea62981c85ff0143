"""The benchmarks: `miniclip bench kernels`, `miniclip bench models`, `miniclip bench cpu`, `miniclip bench report`.

timing.py      medians of runs that take turns
session.py     case after case, answers checked before they are timed
records.py     what was measured, one JSON object a line in results/
work.py        the work that a tower takes at least

kernels.py     each kernel beside its peers
cases.py       what is measured: the kernels of kernels/table.py at CLIP's shapes
gpu_timing.py  times on a GPU: CUDA graphs over more memory than the cache holds; and the GPU's ceilings
autotune.py    a kernel's fastest tiles
models.py      whole encoders
report.py      their tables, pictures and targets

cpu.py         how fast CLIP is on a processor;  measurement.py  what its cases have in common;  cpu_features.py,
               cpu_inputs.py  the cases, with texts of captions.py;  report_cpu.py  their table and picture
"""
