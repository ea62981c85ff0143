"""The command line of the course: miniclip learn list | start | check | progress | payoff."""

import argparse
import json
from pathlib import Path

from miniclip.errors import InputError
from miniclip.files import write_atomically


def add_parser(commands):
    """Add `learn` to the commands of miniclip."""
    learn = commands.add_parser("learn", help="write CLIP's functions yourself, held to the library's own laws")
    steps = learn.add_subparsers(required=True, metavar="STEP")

    step = steps.add_parser("list", help="the exercises, their points, and about how long they take")
    step.set_defaults(command=show_list)

    step = steps.add_parser("start", help="lay out a file for each exercise: signature, docstring, no body")
    step.set_defaults(command=start)
    step.add_argument("directory", metavar="DIR")
    step.add_argument("exercises", nargs="*", metavar="EXERCISE", help="(default: all of the track)")
    step.add_argument("--track", choices=["numpy", "triton"], help="(default: both)")

    step = steps.add_parser(
        "check", help="hold what is written to its laws", description="Exit code 1: not all is done."
    )
    step.set_defaults(command=check)
    step.add_argument("directory", metavar="DIR")
    step.add_argument("exercises", nargs="*", metavar="EXERCISE", help="(default: all that are laid out)")
    step.add_argument("--seed", type=_seed, default=0, metavar="N", help="other inputs, a grader's own (default: 0)")
    step.add_argument("--json", action="store_true", help="print JSON and nothing else; keep no count of attempts")
    step.add_argument("--junit", metavar="FILE", help="write JUnit XML, too")

    step = steps.add_parser("progress", help="what is done, and what comes next, as of the last checks")
    step.set_defaults(command=progress)
    step.add_argument("directory", metavar="DIR")

    step = steps.add_parser("payoff", help="what is done, put into the built-in model: how well it names pictures")
    step.set_defaults(command=payoff)
    step.add_argument("directory", metavar="DIR")


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
    print(f"{len(written)} files written" if written else f"{options.directory} has all of these files already")
    first = exercises[0]
    print(f"begin with {first.path(options.directory)}, then: miniclip learn check {options.directory} {first.id}")


def _laid_out(attempts):
    """The exercises that a directory has files for."""
    from miniclip.learn import catalogue

    found = [e for e in catalogue.exercises() if e.path(attempts.directory).is_file()]
    if not found:
        raise InputError(
            f"{attempts.directory}: has no exercises; `miniclip learn start {attempts.directory}` lays them out"
        )
    return found


def check(options):
    from miniclip.learn import catalogue, grading, reports
    from miniclip.learn.attempts import Attempts

    attempts = Attempts(options.directory)
    exercises = catalogue.choose(options.exercises) if options.exercises else _laid_out(attempts)
    results = []
    for exercise in exercises:
        result = grading.grade(exercise, options.directory, options.seed)
        results.append(result)
        if options.json:
            continue
        attempts.note(exercise, result)
        if result.state != "to do" or options.exercises:
            print(_told(exercise, result, attempts), flush=True)
    if options.junit:
        write_atomically(options.junit, reports.as_junit(exercises, results))
    if options.json:
        print(json.dumps(reports.as_json(exercises, results, options.seed), ensure_ascii=False, indent=2))
    else:
        print(attempts.table(_laid_out(attempts)))
    return int(any(result.state != "done" for result in results))


def _told(exercise, result, attempts):
    """A check's outcome as text: verdicts, and what helps."""
    if result.state == "to do":
        return f"{exercise.id}: to do; {result.verdicts[0].message}\n"
    if result.state == "done":
        return f"{exercise.id}: done, all of its {result.passed} laws hold\n"
    lines = [f"{exercise.id}: {result.passed} of {len(result.verdicts)} laws hold"]
    if len(result.verdicts) > 1 and len({verdict.message for verdict in result.verdicts}) == 1:
        lines.append(f"  every one of them {result.verdicts[0].message}")
    else:
        for verdict in result.verdicts:
            lines.append(f"  {'holds' if verdict.passed else 'FAILS'}  {verdict.text}")
            lines += [] if verdict.passed else [f"         {verdict.message}"]
    if result.printed:
        lines += ["  it printed:", *(f"    {line}" for line in result.printed.splitlines())]
    lines.append(f"  It behaves as if {result.behaves_as}." if result.behaves_as else f"  {attempts.hint(exercise)}")
    return "\n".join([*lines, ""])


def progress(options):
    from miniclip.learn.attempts import Attempts

    attempts = Attempts(options.directory)
    print(attempts.table(_laid_out(attempts)))


def payoff(options):
    from miniclip.learn import payoff
    from miniclip.learn.attempts import Attempts

    attempts = Attempts(options.directory)
    laid_out = _laid_out(attempts)
    done = [e for e in payoff.inference(laid_out) if _is_done(e, laid_out, attempts)]
    if not done:
        raise InputError(f"nothing in {options.directory} is done yet: `miniclip learn check {options.directory}`")
    print(f"the built-in model, {payoff.PICTURES} pictures of pairs that it never saw, 80 labels (chance: 1.2%)")
    print(f"  the library's own functions   {payoff.accuracy():6.1%}", flush=True)
    print(f"  with yours in their place     {payoff.accuracy(done, Path(options.directory)):6.1%}")
    print(f"yours: {', '.join(e.function for e in done)}")


def _is_done(exercise, exercises, attempts):
    """Whether it and all that share its file are done, in the file as it is now."""
    same = [e for e in exercises if e.path(attempts.directory) == exercise.path(attempts.directory)]
    return all(attempts.state(e) == "done" and attempts.is_unchanged(e) for e in same)
