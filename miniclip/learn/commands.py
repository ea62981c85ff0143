"""The command line of the course: miniclip learn list | start | check | progress | payoff | grade."""

import argparse
import json
import os
import sys
from pathlib import Path

from miniclip.errors import InputError
from miniclip.runtime.files import write_atomically, write_json


def add_arguments(learn):
    steps = learn.add_subparsers(required=True, metavar="STEP")

    step = steps.add_parser("list", help="the exercises, their points, and about how long they take")
    step.set_defaults(command=show_list)

    step = steps.add_parser("start", help="write a file for each exercise: signature and docstring, no body")
    step.set_defaults(command=start)
    step.add_argument("directory", metavar="DIR")
    step.add_argument("exercises", nargs="*", metavar="EXERCISE", help="(default: all of the track)")
    step.add_argument("--track", choices=["numpy", "triton"], help="(default: both)")

    step = steps.add_parser(
        "check",
        help="check what you wrote against its laws",
        description="Exit codes: 0 all exercises are done, 1 not all, 2 nothing could be checked.",
    )
    step.set_defaults(command=check, unusable=2)
    step.add_argument("directory", metavar="DIR")
    step.add_argument("exercises", nargs="*", metavar="EXERCISE", help="(default: all that have a file)")
    step.add_argument("--seed", type=_seed, default=0, metavar="N", help="draw other inputs, for graders (default: 0)")
    step.add_argument("--json", action="store_true", help="print only JSON, and count no attempts")
    step.add_argument("--junit", metavar="FILE", help="also write JUnit XML")
    step.add_argument("--gradescope", metavar="FILE", help="also write Gradescope's results.json")

    step = steps.add_parser("progress", help="what the last checks found, and what comes next")
    step.set_defaults(command=progress)
    step.add_argument("directory", metavar="DIR")

    step = steps.add_parser("payoff", help="run the built-in model with your functions: how well it names pictures")
    step.set_defaults(command=payoff)
    step.add_argument("directory", metavar="DIR")

    step = steps.add_parser("grade", help="for teachers: check a folder of submissions, and write one CSV")
    step.set_defaults(command=grade)
    step.add_argument("folder", metavar="FOLDER", help="with a directory for each submission")
    step.add_argument("exercises", nargs="+", metavar="EXERCISE")
    step.add_argument("--seed", type=_seed, default=0, metavar="N", help="draw other inputs (default: 0)")
    step.add_argument("--csv", metavar="FILE", help="write it there (default: print it)")


def _seed(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number 0, 1, 2, ...")
    return int(text)


def show_list(options):
    from miniclip.learn import catalogue

    exercises = catalogue.exercises()
    for track in catalogue.TRACKS:
        chosen = [exercise for exercise in exercises if exercise.track == track]
        points, hours = sum(e.points for e in chosen), sum(e.minutes for e in chosen) / 60
        print(f"{track}: {len(chosen)} exercises, {points} points, about {hours:.0f} hours")
        for exercise in chosen:
            after = f"  after {', '.join(exercise.needs)}" if exercise.needs else ""
            print(f"  {exercise.id:<22}{exercise.points:>2} points {exercise.minutes:>4} min  {exercise.title}{after}")


def start(options):
    from miniclip.learn import catalogue, skeletons

    exercises = catalogue.choose(options.exercises, [options.track] if options.track else catalogue.TRACKS)
    written = skeletons.start(options.directory, exercises)
    for path in written:
        print(path)
    for exercise in exercises:
        if exercise.file:
            print(f"{exercise.id} continues in {exercise.path(options.directory)}")
    files = "1 file" if len(written) == 1 else f"{len(written)} files"
    print(f"{files} written" if written else f"{options.directory} has all of these files already")
    first = next((e for e in exercises if e.path(options.directory) in written), exercises[0])
    print(f"begin with {first.path(options.directory)}, then: miniclip learn check {options.directory} {first.id}")


def _files(directory):
    """The exercises that have a file in a directory."""
    from miniclip.learn import catalogue

    if not Path(directory).is_dir():
        raise InputError(f"{directory}: no such directory; create it with `miniclip learn start DIR`")
    return [e for e in catalogue.exercises() if e.path(directory).is_file()]


def _laid_out(directory):
    """The same; InputError if there are none."""
    found = _files(directory)
    if not found:
        raise InputError(f"{directory}: has no exercises; write them with `miniclip learn start {directory}`")
    return found


def _checkable(ids):
    """The exercises of these names; InputError if one cannot be checked here."""
    from miniclip.learn import catalogue, grading

    exercises = catalogue.choose(ids)
    if missing := next(filter(None, map(grading.why_not, exercises)), None):
        raise InputError(missing)
    return exercises


def _must_be_files(*paths):
    for path in filter(None, paths):
        if Path(path).is_dir():
            raise InputError(f"{path}: is a directory; name a file to write to")


def check(options):
    from miniclip.learn import grading, reports
    from miniclip.learn.attempts import Attempts

    there = _files(options.directory)
    exercises = _checkable(options.exercises) if options.exercises else _laid_out(options.directory)
    left_out = [exercise for exercise in exercises if grading.why_not(exercise)]
    exercises = [exercise for exercise in exercises if exercise not in left_out]
    _must_be_files(options.junit, options.gradescope)
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported: kernels with known mistakes run here
    attempts = None if options.json else Attempts(options.directory)
    results, waiting = [], set()  # an exercise that continues a file waits until the first one in it is done
    for exercise in exercises:
        result = grading.grade(exercise, options.directory, options.seed)
        results.append(result)
        if options.json or (exercise.file in waiting and not options.exercises):
            continue
        if result.state != "done":
            waiting.add(exercise.id)
        attempts.note(exercise, result)
        if result.state != "to do" or options.exercises:
            print(_report(exercise, result, attempts), flush=True)
        attempts.save()
    if options.junit:
        write_atomically(options.junit, reports.as_junit(exercises, results))
    if options.gradescope:
        write_json(options.gradescope, reports.as_gradescope(exercises, results))
    if options.json:
        print(json.dumps(reports.as_json(exercises, results, options.seed), ensure_ascii=False, indent=2))
    else:
        print(attempts.table(there or exercises))
        if left_out:
            print(f"not checked: {', '.join(e.id for e in left_out)}; {grading.why_not(left_out[0])}")
    return int(any(result.state != "done" for result in results))


def _report(exercise, result, attempts):
    """The result of a check as text: verdicts, and what helps."""
    if result.state == "done":
        return f"{exercise.id}: done, all of its {result.passed} laws hold\n"
    if result.state == "to do":
        return f"{exercise.id}: to do; {result.verdicts[0].message}\n"
    messages = {verdict.message for verdict in result.verdicts}
    if result.outside:
        why = result.verdicts[0].message
        lines = [f"{exercise.id}: its process {why}, twice: something else ended it, and it counts as no attempt"]
    elif not result.was_held:
        lines = [f"{exercise.id}: {result.verdicts[0].message}"]
    elif len(messages) == 1:
        lines = [f"{exercise.id}: none of its {len(result.verdicts)} laws hold", f"  it {messages.pop()}"]
    else:
        lines = [f"{exercise.id}: {result.passed} of {len(result.verdicts)} laws hold"]
        for verdict in result.verdicts:
            lines.append(f"  {'holds' if verdict.passed else 'FAILS'}  {verdict.text}")
            lines += [] if verdict.passed else [f"         {verdict.message}"]
    if result.printed:
        lines += ["  it printed:", *(f"    {line}" for line in result.printed.splitlines())]
    if result.behaves_as:
        lines.append(f"  It behaves as if {result.behaves_as}.")
    elif result.was_held:
        lines.append(f"  {attempts.hint(exercise, result.first_failing)}")
    if points := result.points(exercise):
        lines.append(f"  {points} of {exercise.points} points: what fails is about `keep` and `trace` alone.")
    return "\n".join([*lines, ""])


def grade(options):
    from miniclip.learn import reports

    exercises = _checkable(options.exercises)
    if not Path(options.folder).is_dir():
        raise InputError(f"{options.folder}: no such directory; name one with a directory for each submission")
    _must_be_files(options.csv)
    everything = sorted(Path(options.folder).iterdir())
    submissions = [path for path in everything if path.is_dir() and not path.name.startswith((".", "__"))]
    if not submissions:
        raise InputError(f"{options.folder}: has no directories; expected one for each submission")
    os.environ["TRITON_INTERPRET"] = "1"
    rows = []
    for submission in submissions:
        results = [_grade_anyhow(exercise, submission, options.seed) for exercise in exercises]
        rows.append((submission.name, results))
        points = sum(result.points(exercise) for exercise, result in zip(exercises, results))
        print(f"{submission.name}: {points} of {sum(e.points for e in exercises)}", file=sys.stderr, flush=True)
    table = reports.as_csv(exercises, rows)
    if options.csv:
        write_atomically(options.csv, table.encode())
    else:
        print(table, end="")


def _grade_anyhow(exercise, directory, seed):
    """The result; a file that cannot be read, or a fault of the grader's, does not stop the others."""
    from miniclip.learn import grading

    try:
        return grading.grade(exercise, directory, seed)
    except Exception as error:
        print(f"{directory}: {exercise.id} could not be checked: {error}", file=sys.stderr)
        return grading.Result(exercise.id, "not checked", [grading.Verdict("runs", "it is checked", False, str(error))])


def progress(options):
    from miniclip.learn.attempts import Attempts

    laid_out = _laid_out(options.directory)
    print(Attempts(options.directory).table(laid_out))


def payoff(options):
    from miniclip.learn import catalogue, payoff
    from miniclip.learn.attempts import Attempts

    laid_out = _laid_out(options.directory)
    attempts = Attempts(options.directory)
    parts = payoff.inference(laid_out)
    done = [e for e in parts if _is_done(e, laid_out, attempts)]
    if not done:
        parts = ", ".join(e.id for e in payoff.inference(catalogue.exercises()))
        raise InputError(f"{options.directory}: the last `miniclip learn check` found none of these done: {parts}")
    print(f"the built-in model, {payoff.PICTURES} pictures of pairs it never saw in training, 80 labels (chance: 1.2%)")
    print(f"  the library's own functions   {payoff.accuracy():6.1%}", flush=True)
    print(f"  with your functions           {payoff.accuracy(done, Path(options.directory)):6.1%}")
    print(f"yours: {', '.join(e.id for e in done)}")
    if len(done) < len(parts):
        print(f"left out, not done or changed since the last check: {', '.join(e.id for e in parts if e not in done)}")


def _is_done(exercise, exercises, attempts):
    """Whether all exercises of its file are done, and the file has not changed since."""
    same = [e for e in exercises if e.path(attempts.directory) == exercise.path(attempts.directory)]
    return all(attempts.state(e) == "done" and attempts.is_unchanged(e) for e in same)
