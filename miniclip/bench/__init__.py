"""Benchmarks: `miniclip bench cpu`, and what all benchmarks share. (`kernels/bench` measures the kernels.)

timing.py       medians of runs that take turns
session.py      case after case, answers checked before they are timed
records.py      what was measured, one JSON object a line
markdown.py     tables and pictures between two markers of a page
work.py         the least work that a tower takes

cpu.py          what a processor makes of CLIP;  measurement.py  what its cases share;  cpu_features.py,
                cpu_inputs.py  the cases, with texts of captions.py;  report_cpu.py  their table and picture
"""
