"""What a check found, for other programs: JSON, and JUnit XML, which graders and CI systems read."""

import re
import xml.etree.ElementTree as ET

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, sec. 2.2


def as_json(exercises, results, seed):
    """A dict for json.dumps: points, and for each exercise its state and each law's verdict."""
    entries = []
    for exercise, result in zip(exercises, results):
        done = result.state == "done"
        entries.append(
            {
                "id": exercise.id,
                "title": exercise.title,
                "track": exercise.track,
                "state": result.state,
                "points": exercise.points if done else 0,
                "of": exercise.points,
                "behaves_as_if": result.behaves_as,
                "laws": [vars(verdict) for verdict in result.verdicts],
            }
        )
    points, most = (sum(entry[key] for entry in entries) for key in ("points", "of"))
    return {"seed": seed, "points": points, "of": most, "exercises": entries}


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
