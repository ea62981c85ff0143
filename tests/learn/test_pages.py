"""The course's pages tell what is."""

import re
import shutil
import subprocess
import sys

import pytest
from course import COURSE, EXERCISES, ROOT, solution, write

from miniclip.learn import catalogue, grading, remote, student


def test_the_readmes_transcript_is_what_happens(tmp_path):
    readme = (COURSE / "README.md").read_text()
    blocks = re.findall(r"```(python|console)\n(.*?)```", readme, flags=re.DOTALL)
    assert [kind for kind, _ in blocks].count("console") == 4
    for kind, block in blocks:
        if kind == "python":  # the body of the file that its first line names
            name, body = block.split("\n", 1)
            path = tmp_path / name.removeprefix("# ")
            source = path.read_text()
            at = source.index('"""', source.index('"""', source.index("def ")) + 3) + 4
            path.write_text(source[:at] + body)
        else:
            command, printed = block.split("\n", 1)
            command = [sys.executable, "-m", *command.removeprefix("$ ").split()]
            done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
            assert done.stderr == ""
            # The last digits of a float are another BLAS' to decide.
            numbers = re.compile(r"\d+\.\d+")
            assert numbers.sub("#", done.stdout) == numbers.sub("#", printed)
            told = zip(numbers.findall(done.stdout), numbers.findall(printed))
            assert all(float(a) == pytest.approx(float(b), rel=0.01) for a, b in told)


def test_the_workflow_for_github_classroom_has_the_right_points():
    yaml = pytest.importorskip("yaml")
    (text,) = re.findall(r"```yaml\n(.*?)```", (COURSE / "INSTRUCTORS.md").read_text(), flags=re.DOTALL)
    (job,) = yaml.safe_load(text)["jobs"].values()
    tests = {step["id"]: step["with"] for step in job["steps"] if "id" in step}
    for id, test in tests.items():
        assert test["command"] == f"miniclip learn check . {id} --json" and test["max-score"] == EXERCISES[id].points
    reporter = job["steps"][-1]
    assert reporter["with"]["runners"].split(",") == list(tests)
    assert reporter["env"] == {f"{id.upper()}_RESULTS": f"${{{{ steps.{id}.outputs.result }}}}" for id in tests}


def test_the_page_for_instructors_has_the_limits():
    page, limits = (COURSE / "INSTRUCTORS.md").read_text(), remote.LIMITS
    for told in (
        f"{limits['seconds']} seconds an exercise",
        f"{limits['memory'] >> 30} GiB for each process",
        f"{limits['file'] >> 20} MiB a file, {limits['disk'] >> 20} MiB in its working directory",
        f"{limits['processes']} at once",
        f"{grading.SOURCE >> 20} MiB of source, {student.ANSWER >> 20} MiB of what a call returns",
        f"{remote.PRINTED[1] >> 10} KiB are kept",
    ):
        assert told in page


def test_the_pages_count_right():
    points = {id: exercise.points for id, exercise in EXERCISES.items()}
    before = set()
    for row in re.findall(r"^\| .*\| \d+ \|.*", (COURSE / "INSTRUCTORS.md").read_text(), flags=re.MULTILINE):
        _, _, names, total, hours, _ = row.split("|")
        chosen = set(re.findall(r"\w+", "".join(re.findall(r"`(.*?)`", names)))) & points.keys()
        if "above" in names:
            chosen |= before
        if "track" in names:
            track = "numpy" if "NumPy" in names else "triton"
            chosen = {id for id, exercise in EXERCISES.items() if exercise.track == track}
        before = chosen
        assert int(total) == sum(points[id] for id in chosen), row
        wanted = sum(EXERCISES[id].minutes for id in chosen) / 60
        assert float(hours.strip().replace("½", ".5")) == pytest.approx(wanted, abs=0.5), row
    numpy, triton = (sum(e.track == track for e in EXERCISES.values()) for track in catalogue.TRACKS)
    assert (numpy, triton) == (20, 5)
    assert "Twenty exercises in NumPy and five in Triton" in (COURSE / "README.md").read_text()
    for page in ("README.md", "docs/course.md"):
        assert "twenty in NumPy and five in Triton" in (ROOT / page).read_text(), page


def test_the_course_works_without_torch(tmp_path):
    """Nothing of the NumPy track imports torch or triton, which the core does without."""
    write(tmp_path, EXERCISES["softmax"], "import sys\n" + solution(EXERCISES["softmax"]) + "\n    pass\n")
    code = (
        "import sys; from miniclip import cli; cli.main(['learn', 'list']);"
        f"cli.main(['learn', 'check', {str(tmp_path)!r}]); cli.main(['learn', 'payoff', {str(tmp_path)!r}]);"
        "print({'torch', 'triton', 'matplotlib'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("yours: softmax\nset()\n")
    shutil.rmtree(tmp_path)
