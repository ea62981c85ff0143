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

cpu.py         from files to features on a processor, of captions.py;  report_cpu.py  its table and picture
"""
