"""`miniclip bench report --cpu`: the newest records of `bench cpu`, for docs/cpu.md and, in short, for README.md."""

import textwrap
from pathlib import Path

from miniclip.bench import markdown, records

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cpu.md"  # a table and a picture of everything
README = ROOT / "README.md"  # a sentence and a picture of the cases in SHORT
RESULTS = Path(__file__).with_name("results")
BEGIN, END = "<!-- cpu -->", "<!-- /cpu -->"
ALSO = ("cores", "kernel")  # fields that only records of a processor have
SHORT = ("encode_image", "encode_text")  # in float32


def section(found, pictures=()):
    """The text between the markers of docs/cpu.md; pictures: [(title, path from the page)]."""
    runs: dict[str, list] = {}  # processors of one name may differ, and each run has its versions
    for r in sorted(found, key=lambda r: (r["device"], r["date"])):
        where = f"{r['device']}, {r['cores']} cores, BLAS kernel {r['kernel']}, {records.stamp(r)}."
        runs.setdefault(where, []).append(r)
    parts = []
    for where, rows in runs.items():
        parts.append(where)
        parts.append(markdown.table(["what", "miniclip", "of the product's rate", "speed against"], map(_row, rows)))
    parts += [f"![{shown}]({path})" for shown, path in pictures]
    return "\n\n".join(parts) or "Nothing has been measured yet."


def in_short(found, pictures=()):
    """The text between the markers of README.md: pictures, and for each device a sentence about its first record."""
    parts = [f"![{shown}]({path})" for shown, path in pictures]
    for device in sorted({r["device"] for r in found}):
        r = next((r for r in _short(found) if r["device"] == device and r["value"] is not None), None)
        if r is None:
            continue
        others = ", ".join(f"{time / r['times'][r['ours']]:.2f}x that of {name}" for name, time in _peers(r))
        parts.append(
            f"On {device} with {r['cores']} cores, `{title(r)}` runs at {rate(r, r['times'][r['ours']])}; its speed is "
            f"{others}. "
            "[All figures, and how they were measured](docs/cpu.md)."
        )
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _short(found):
    return [r for r in found if r["name"].startswith(SHORT) and r["dtype"] == "float32"]


def _peers(r):
    return [(name, time) for name, time in r["times"].items() if name != r["ours"]]


def title(r):
    return ", ".join(filter(None, [r["name"], markdown.shape(r["shape"]), r["dtype"]]))


def _row(r):
    if r["value"] is None:
        return [title(r), "failed", "", ""]
    peaks = {name: f" ({peak / 1e6:,.0f} MB)" for name, peak in r.get("peaks", {}).items() if peak is not None}
    others = [f"{time / r['times'][r['ours']]:.2f}x {name}{peaks.get(name, '')}" for name, time in _peers(r)]
    share = f"{r['share_of_limit']:.0%}" if r["share_of_limit"] else ""
    memory = f", memory for {r['memory'] / r['size']:.2f} of its size" if r.get("memory") else ""
    return [title(r), rate(r, r["times"][r["ours"]]) + memory + peaks.get(r["ours"], ""), share, "; ".join(others)]


def rate(r, time):
    """The rate, such as "16.0 pictures/s"; for cases without a shape, the time: "120 ms"."""
    count = r["value"] * r["times"][r["ours"]] / 1e6
    if not r["shape"]:
        return f"{time / 1e3:,.0f} ms"
    return f"{count / time * 1e6:,.{0 if count / time * 1e6 >= 100 else 1}f} {r['unit']}"


def draw(found, directory, suffix=""):
    """Draw a picture for each device, <device><suffix>.png in `directory`; returns [(title, path)].

    Needs matplotlib.
    """
    from matplotlib.figure import Figure

    drawn = []
    for device in sorted({r["device"] for r in found}):
        rows = [r for r in found if r["device"] == device and r["value"] is not None]
        if not rows:
            continue
        figure = Figure(figsize=(11, 2.2 * -(-len(rows) // 2)), dpi=100, layout="constrained")
        panels = list(figure.subplots(-(-len(rows) // 2), 2, squeeze=False).flat)
        for axes, r in zip(panels, rows):
            names = sorted(r["times"], key=r["times"].get, reverse=True)
            speeds = [r["times"][r["ours"]] / r["times"][name] for name in names]
            colours = ["#d6604d" if name == r["ours"] else "#92b4d2" for name in names]
            bars = axes.barh([name.replace(", ", ",\n") for name in names], speeds, color=colours)
            axes.bar_label(bars, [rate(r, r["times"][name]) for name in names], padding=4, fontsize=9)
            axes.set(xlim=(0, 1.5 * max(speeds)), xticks=[])
            meaning = "" if r["shape"] else ": a longer bar takes less time"  # bars are speeds
            axes.set_title(textwrap.fill(title(r) + meaning, 48), loc="left", fontsize=10)
            axes.spines[["top", "right", "bottom"]].set_visible(False)
        for axes in panels[len(rows) :]:
            axes.set_axis_off()
        path = Path(directory) / f"{records.slug(device)}{suffix}.png"
        shown = f"Speed beside the peers in the same run, {device}"
        figure.savefig(path)
        drawn.append((shown, path))
    return drawn


def write(found, directory=None, page=PAGE, readme=README):
    """Draw the pictures in `directory` (None: the package's own); write all to `page`, the short form to `readme`.

    Returns False without matplotlib: then there are no pictures. Raises InputError if one of the two has no markers.
    """
    directory = records.writable(directory or RESULTS)
    complete = markdown.fill(page, (BEGIN, END), lambda: draw(found, directory), lambda p: section(found, p))
    markdown.fill(readme, (BEGIN, END), lambda: draw(_short(found), directory, "-short"), lambda p: in_short(found, p))
    return complete
