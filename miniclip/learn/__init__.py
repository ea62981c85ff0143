"""The course: write CLIP's functions yourself, and check them against the laws that the library is checked against.

exercises.toml   the exercises, as data
catalogue.py     reads it
mistakes.py      functions of the library with a mistake in them
laws/            what must be true of each function
skeletons.py     `miniclip learn start`: signature and docstring of the reference, no body
holding.py       checks one function against its laws; which mistake it behaves like
grading.py       grades a student's file in a process of its own
attempts.py      counts attempts: states, hints, the progress table
reports.py       JSON and JUnit XML
payoff.py        runs the built-in model with a student's functions in it
commands.py      the command line
"""
