"""The course: write CLIP's functions yourself, held to the laws that the library is held to.

exercises.toml   what there is to write: data
catalogue.py     reads it
mistakes.py      a function of the library with a mistake in it
laws/            what must be true of each function
skeletons.py     `miniclip learn start`: signature and docstring of the reference, no body
holding.py       one function held to its laws, and the mistake that it behaves like
grading.py       a student's file, in a process of its own
attempts.py      what has been tried: states, hints, the table
reports.py       JSON and JUnit XML
payoff.py        the built-in model with a student's functions in it
commands.py      the command line
"""
