"""`miniclip bench report --cpu`: the newest records of `bench cpu`, for docs/cpu.md and, in short, for README.md."""

import textwrap
from pathlib import Path

from miniclip.bench import machine, markdown, records

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cpu.md"  # a table and a picture of everything
README = ROOT / "README.md"  # a sentence and a picture of the cases in SHORT
RESULTS = Path(__file__).with_name("results")
BEGIN, END = "<!-- cpu -->", "<!-- /cpu -->"
ALSO = ("cores", "kernel")  # fields that only records of a processor have
SHORT = ("encode_image ViT", "encode_text ViT")  # in float32
HEAD = ["what", "miniclip", "of the product's rate", "speed against", "the fastest of miniclip"]
MARK = "†"  # of a row that cannot be trusted
BAR, PANEL, OURS, PEER = 0.27, 0.75, "#d6604d", "#92b4d2"  # inches of a bar and around all bars of a case; colours


def section(found, pictures=()):
    """The text between the markers of docs/cpu.md; pictures: [(title, path from the page)]."""
    runs: dict[str, list] = {}  # each run has its processor and versions
    for r in sorted(found, key=lambda r: (records.kind(r)[0], str(records.kind(r)[1]), r["date"])):
        runs.setdefault(f"{machine.describe(r)}, {records.stamp(r)}.", []).append(r)
    parts = []
    for where, rows in runs.items():
        parts += [where, markdown.table(HEAD, map(_row, rows))]
        doubtful = [f"{title(r)}: {', '.join(r['doubts'])}" for r in rows if r.get("doubts")]
        if doubtful:
            parts.append(f"{MARK} cannot be trusted. {'. '.join(doubtful)}.")
    parts += [f"![{shown}]({path})" for shown, path in pictures]
    return "\n\n".join(parts) or "Nothing has been measured yet."


def in_short(found, pictures=()):
    """The text between the markers of README.md: pictures, and a sentence for each kind of processor."""
    parts = [f"![{shown}]({path})" for shown, path in pictures]
    for kind in _kinds(found):
        r = next((r for r in _short(found) if records.kind(r) == kind and r["value"] is not None), None)
        if r is None:
            continue
        others = ", ".join(f"{time / r['times'][r['ours']]:.2f}x that of {name}" for name, time in _peers(r))
        fastest = records.fastest(r["times"])
        if fastest != r["ours"]:
            best = f", {_best(r)}" if r["best_peer"] else ""
            others += f". The fastest is {fastest}, at {rate(r, r['times'][fastest])}{best}"
        parts.append(
            f"On {_named(kind)}, {r['cores']} cores, `{title(r)}` runs at {rate(r, r['times'][r['ours']])}; its "
            f"speed is {others}. "
            "[All figures, and how they were measured](docs/cpu.md)."
        )
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _kinds(found):
    """The kinds of processors, sorted."""
    return sorted({records.kind(r) for r in found}, key=str)


def _named(kind):
    return " with ".join(filter(None, kind))


def _short(found):
    return [r for r in found if r["name"].startswith(SHORT) and r["dtype"] == "float32"]


def _peers(r):
    """[(provider, time)] without our other backends, which have a column of their own."""
    return [(name, time) for name, time in r["times"].items() if name != r["ours"] and not records.is_ours(name)]


def _best(r):
    return f"{r['times'][r['best_peer']] / r['times'][records.fastest(r['times'])]:.2f}x {r['best_peer']}"


def title(r):
    return ", ".join(filter(None, [r["name"], markdown.shape(r["shape"]), r["dtype"]]))


def _row(r):
    what = title(r) + (f" {MARK}" if r.get("doubts") else "")
    if r["value"] is None:
        return [what, "failed", "", "", ""]
    notes = {name: f" ({peak / 1e6:,.0f} MB)" for name, peak in r.get("peaks", {}).items() if peak is not None}
    notes |= {
        name: f" (cosine {cosine:.4f})" for name, cosine in r.get("cosines", {}).items() if cosine < records.CLOSE
    }
    peers = [f"{time / r['times'][r['ours']]:.2f}x {name}{notes.get(name, '')}" for name, time in _peers(r)]
    share = f"{r['share_of_limit']:.0%}" if r["share_of_limit"] else ""
    memory = f", memory for {r['memory'] / r['size']:.2f} of its size" if r.get("memory") else ""
    ours = rate(r, r["times"][r["ours"]]) + memory + notes.get(r["ours"], "")
    if r["ours"] != "miniclip":
        ours += f" {r['ours'].removeprefix('miniclip ')}"
    fastest = records.fastest(r["times"])
    if fastest == r["ours"]:
        return [what, ours, share, "; ".join(peers), ""]
    other = f"{rate(r, r['times'][fastest])} {fastest.removeprefix('miniclip ')}{notes.get(fastest, '')}"
    return [what, ours, share, "; ".join(peers), other + (f": {_best(r)}" if r["best_peer"] else "")]


def rate(r, time):
    """The rate, such as "16.0 pictures/s"; for cases without a shape, the time: "120 ms"."""
    count = r["value"] * r["times"][r["ours"]] / 1e6
    if not r["shape"]:
        return f"{time / 1e3:,.0f} ms"
    return f"{count / time * 1e6:,.{0 if count / time * 1e6 >= 100 else 1}f} {r['unit']}"


def draw(found, directory, suffix=""):
    """Draw a picture for each kind of processor, <processor><suffix>.png in `directory`; returns [(title, path)].

    Needs matplotlib.
    """
    from matplotlib.figure import Figure

    drawn = []
    for kind in _kinds(found):
        rows = [r for r in found if records.kind(r) == kind and r["value"] is not None]
        if not rows:
            continue
        heights = [PANEL + max(map(_height, rows[i : i + 2])) for i in range(0, len(rows), 2)]  # of each row of panels
        figure = Figure(figsize=(11, sum(heights)), dpi=100, layout="constrained")
        panels = list(figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights).flat)
        for axes, r in zip(panels, rows):
            _bars(axes, r)
        for axes in panels[len(rows) :]:
            axes.set_axis_off()
        path = Path(directory) / f"{records.slug(' '.join(filter(None, kind)))}{suffix}.png"
        figure.savefig(path)
        drawn.append((f"Speed beside the peers in the same run, {_named(kind)}", path))
    return drawn


def _height(r):
    """The height of a record's bars in inches: each has room for the longest label, of one line or two."""
    return len(r["times"]) * BAR * (1.5 if any(", " in name for name in r["times"]) else 1)


def _bars(axes, r):
    """The speeds of a record's providers, the fastest one on top; ours in red."""
    names = sorted(r["times"], key=r["times"].get, reverse=True)
    speeds = [r["times"][r["ours"]] / r["times"][name] for name in names]
    colours = [OURS if name == r["ours"] or records.is_ours(name) else PEER for name in names]
    bars = axes.barh([name.replace(", ", ",\n") for name in names], speeds, color=colours)
    axes.bar_label(bars, [rate(r, r["times"][name]) for name in names], padding=4, fontsize=9)
    axes.set(xlim=(0, 1.5 * max(speeds)), xticks=[])
    meaning = "" if r["shape"] else ": a longer bar takes less time"  # bars are speeds
    doubt = f" {MARK} cannot be trusted" if r.get("doubts") else ""
    axes.set_title(textwrap.fill(title(r) + meaning + doubt, 48), loc="left", fontsize=10)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def write(found, directory=None, page=PAGE, readme=README):
    """Draw the pictures in `directory` (None: the package's own); write all to `page`, the short form to `readme`.

    Returns False without matplotlib: then there are no pictures. Raises InputError if one of the two has no markers.
    """
    directory = records.writable(directory or RESULTS)
    complete = markdown.fill(page, (BEGIN, END), lambda: draw(found, directory), lambda p: section(found, p))
    markdown.fill(readme, (BEGIN, END), lambda: draw(_short(found), directory, "-short"), lambda p: in_short(found, p))
    return complete
