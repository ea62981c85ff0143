"""The benchmarks: `miniclip bench kernels`, `miniclip bench models`, `miniclip bench cpu`, `miniclip bench report`.

timing.py      medians of runs that take turns
session.py     case after case, answers checked before they are timed
records.py     what was measured, one JSON object a line in results/
work.py        the work that a tower takes at least

kernels.py     each kernel against its peers, with cases.py, its inputs, work and peers: data; oracle.py, whether its
               answer is right; gpu_timing.py, CUDA graphs over more memory than the cache holds, and ceilings
autotune.py    a kernel's fastest tiles
models.py      whole encoders
report.py      tables, pictures and targets of these

cpu.py         what a processor makes of CLIP;  measurement.py  what its cases have in common;  cpu_features.py,
               cpu_inputs.py  the cases, with texts of captions.py;  report_cpu.py  their table and picture
"""
