"""The course: write CLIP's functions yourself, and check them against the laws that the library is checked against.

exercises.toml   the exercises, as data
catalogue.py     reads it
mistakes.py      functions of the library with a mistake in them
laws/            what must be true of each function
skeletons.py     `miniclip learn start`: signature and docstring of the reference, no body
holding.py       checks one function against its laws; which mistake it behaves like
grading.py       grades a student's file: the laws run here
remote.py        calls the student's function, which has a process of its own
student.py       is that process
guard.py         is its parent: limits, and the end of all that it has started
wire.py          values as JSON, from one process to the other
attempts.py      counts attempts: states, hints, the progress table
reports.py       JSON, JUnit XML, Gradescope's results.json, CSV
payoff.py        runs the built-in model with a student's functions in it
commands.py      the command line
"""
