"""The benchmarks of kernels: `miniclip bench kernels`, `models`, `export`, `report`.

What they share with the benchmarks of the processor (timing, records, tables) is in `miniclip.bench`.

kernels.py     each kernel beside its peers
cases.py       what is measured: the kernels of kernels/table.py at CLIP's shapes
gpu_timing.py  times on a GPU: CUDA graphs over more memory than the cache holds; and the GPU's ceilings
isolated.py    a process that measures, and that is replaced when a case breaks it
mine.py        your kernel, checked as ours are, beside ours
autotune.py    a kernel's fastest tiles
models.py      whole encoders
compile_all.py compiles all that these launch, before the first launch
counters.py    the GPU's own counters while the slowest attention runs
steps.py       `make gpu`: tests and benchmarks in order, each with its time
report.py      their tables, pictures and targets
export.py      an operation as a task for other benchmarks; bundle.py: a function and all it uses in one file
"""
