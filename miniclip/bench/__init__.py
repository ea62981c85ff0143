"""Benchmarks: `miniclip bench cpu`, and what all benchmarks share. (`kernels/bench` measures the kernels.)

timing.py       medians of runs that take turns
session.py      runs cases one after another, and checks answers before it times them
records.py      the results, one JSON object per line
markdown.py     tables and pictures between two markers of a page
work.py         the least work that a tower needs

cpu.py          CLIP on a processor;  measurement.py  what its cases share;  cpu_features.py, cpu_inputs.py,
                cpu_embed.py, cpu_starts.py, cpu_search.py, cpu_training.py  the cases, with texts from captions.py
cpu_peers.py    transformers, ONNX Runtime, OpenVINO and torch.compile;  machine.py  whether a figure can be trusted
report_cpu.py   the table and picture of `bench cpu`
"""
