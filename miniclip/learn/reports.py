"""What a check found, for other programs: JSON; JUnit XML, which CI systems read; Gradescope's results.json; CSV."""

import csv
import io
import re
import xml.etree.ElementTree as ET

from miniclip._version import __version__

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, sec. 2.2


def as_json(exercises, results, seed):
    """A dict for json.dumps: points, and for each exercise its state and each law's verdict."""
    entries = []
    for exercise, result in zip(exercises, results):
        entries.append(
            {
                "id": exercise.id,
                "title": exercise.title,
                "track": exercise.track,
                "state": result.state,
                "points": result.points(exercise),
                "of": exercise.points,
                "behaves_as_if": result.behaves_as,
                "ended_from_outside": result.outside,
                "sha256": result.sha256,
                "printed": result.printed,
                "laws": [vars(verdict) for verdict in result.verdicts],
            }
        )
    points, most = (sum(entry[key] for entry in entries) for key in ("points", "of"))
    return {"version": __version__, "seed": seed, "points": points, "of": most, "exercises": entries}


def as_gradescope(exercises, results):
    """A dict for json.dumps as Gradescope's autograders write it: one test for each exercise."""
    tests = []
    for exercise, result in zip(exercises, results):
        lines = [f"{v.text}: {'holds' if v.passed else f'FAILS: {v.message}'}" for v in result.verdicts]
        lines += [f"It behaves as if {result.behaves_as}."] if result.behaves_as else []
        tests.append(
            {
                "number": exercise.id,
                "name": exercise.title,
                "score": result.points(exercise),
                "max_score": exercise.points,
                "status": "passed" if result.state == "done" else "failed",
                "output": "\n".join(lines),
            }
        )
    return {"tests": tests}


def as_csv(exercises, rows):
    """A line for each (submission, results): points of each exercise and in all, then each state and mistake."""
    ids, text = [exercise.id for exercise in exercises], io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["submission", *ids, "points", "of", *(f"{id} {what}" for id in ids for what in ("state", "sha256"))]
    )
    for name, results in rows:
        points = [result.points(exercise) for exercise, result in zip(exercises, results)]
        said = [text for result in results for text in (_said(result), result.sha256 or "")]
        name = f"'{name}" if name[:1] in "=+-@" else name  # a spreadsheet would compute it
        table.writerow([name, *points, sum(points), sum(exercise.points for exercise in exercises), *said])
    return text.getvalue()


def _said(result):
    if result.outside:
        return "ended from outside: check it again"
    return f"{result.state}: behaves as if {result.behaves_as}" if result.behaves_as else result.state


def as_junit(exercises, results):
    """The XML document as bytes: one suite for each exercise, one case for each law."""
    root = ET.Element("testsuites", name="miniclip learn")
    for exercise, result in zip(exercises, results):
        failures = str(len(result.verdicts) - result.passed)
        suite = ET.SubElement(root, "testsuite", name=exercise.id, tests=str(len(result.verdicts)), failures=failures)
        for verdict in result.verdicts:
            case = ET.SubElement(suite, "testcase", classname=exercise.id, name=verdict.law)
            if not verdict.passed:
                message = NO_XML.sub("\ufffd", verdict.message)
                lines = [verdict.text, message]
                if result.behaves_as:
                    lines.append(f"It behaves as if {result.behaves_as}.")
                ET.SubElement(case, "failure", message=message).text = "\n".join(lines)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
