"""`miniclip bench report`: the newest records as tables and pictures, and the targets that were measured."""

from pathlib import Path
from typing import NamedTuple

from miniclip.bench import markdown, records

README = Path(__file__).parents[1] / "README.md"
RESULTS = Path(__file__).with_name("results")
BEGIN, END = "<!-- results -->", "<!-- /results -->"
ALSO = ()  # fields that other records do not have
DEVICES, DTYPE = ("H100", "H200"), "bfloat16"  # of the targets: GPUs of the same generation, Hopper
HOW = (
    "`make gpu`, on a machine with an NVIDIA GPU, measures for 8 minutes and writes this section again; "
    "`miniclip bench kernels` and `miniclip bench models` measure everything, which takes longer."
)


class Target(NamedTuple):
    name: str
    shape: dict
    against: str  # a provider, "the best peer", or "the limit" (`least` is then a share of it)
    least: float


ENCODERS = [("ViT-B/32", 1.4), ("ViT-B/16", 1.4), ("ViT-L/14", 1.25), ("ViT-L/14@336px", 1.25)]
TARGETS = [
    Target("attention", {"B": 256, "T": 50, "H": 12, "K": 64}, "the best peer", 1.3),
    Target("attention", {"B": 256, "T": 77, "H": 8, "K": 64, "causal": True}, "the best peer", 1.3),
    Target("attention", {"B": 256, "T": 197, "H": 12, "K": 64}, "the best peer", 1.1),
    Target("attention", {"B": 256, "T": 257, "H": 16, "K": 64}, "the best peer", 1.3),
    Target("attention", {"B": 256, "T": 577, "H": 16, "K": 64}, "the best peer", 1.1),
    Target("layer_norm", {"rows": 50_000, "D": 768}, "the limit", 0.95),
    *(Target(f"encode_image {model}", {"B": 256}, "transformers", least) for model, least in ENCODERS),
    *(Target(f"encode_image {model}", {"B": 256}, "transformers, compiled", 1.05) for model, _ in ENCODERS),
    *(Target(f"encode_image {model}", {"B": 1}, "transformers", 5) for model, _ in ENCODERS),
]


def measured(target, found):
    """(a target's share or ratio in the records of one device, the peer or None); None if it was not measured."""
    for r in found:
        if (r["name"], r["shape"], r["dtype"]) == (target.name, target.shape, DTYPE) and r["value"] is not None:
            if target.against == "the limit":
                return None if r["share_of_limit"] is None else (r["share_of_limit"], None)
            if target.against == "the best peer":
                return None if r["best_peer"] is None else (r["ratio_to_best_peer"], r["best_peer"])
            # torch.compile has several modes: the fastest counts
            peers = [
                name for name in r["times"] if name == target.against or name.startswith(f"{target.against} with ")
            ]
            best = min(peers, key=r["times"].get, default=None)
            return None if best is None else (r["times"][best] / r["times"][r["ours"]], best)
    return None


# --------------------------------------------------------------------------------------------- tables


def section(found, pictures=()):
    """The text between the markers, in Markdown; pictures: [(what it shows, its path from the README)].

    Only targets that were measured are in it.
    """
    if not found:
        return f"Nothing has been measured yet. {HOW}"
    parts = []
    devices = sorted({r["device"] for r in found})
    for device in devices:
        here = [r for r in found if r["device"] == device and any(name in device for name in DEVICES)]
        rows = [_target_row(target, *measured(target, here)) for target in TARGETS if measured(target, here)]
        if rows:
            head = ["what", "target", "measured", "reached"]
            parts += [f"The targets, on {device} in {DTYPE}:", markdown.table(head, rows)]
    parts += [f"![{shown}]({path})" for shown, path in pictures]
    head = ["what", "shape", "dtype", "time", "rate", "of the limit", "against", "ratio"]
    for device in devices:
        rows = [r for r in found if r["device"] == device]
        newest = max(rows, key=lambda r: r["date"])
        parts += [f"### {device}", f"{records.stamp(newest)}. Ratios are to the fastest peer of the same run."]
        parts.append(markdown.table(head, [_row(r) for r in rows]))
    return "\n\n".join([*parts, HOW])


def _target_row(target, value, peer):
    share = target.against == "the limit"
    goal = f"{target.least:.0%} of the limit" if share else f"{target.least:.2f}x {target.against}"
    found = f"{value:.1%}" if share else f"{value:.3f}x {peer}"  # so many digits that a near miss shows
    return [
        f"{target.name}, {markdown.shape(target.shape)}",
        f"at least {goal}",
        found,
        "yes" if value >= target.least else "no",
    ]


def _row(r):
    what = [r["name"], markdown.shape(r["shape"]), r["dtype"]]
    if r["value"] is None:
        return [*what, "failed", *4 * [""]]
    share = f"{r['share_of_limit']:.0%}" if r["share_of_limit"] else ""
    ratio = f"{r['ratio_to_best_peer']:.2f}x" if r["best_peer"] else ""
    rate = f"{r['value']:,.0f} {r['unit']}"
    return [*what, f"{r['times'][r['ours']]:,.1f} µs", rate, share, r["best_peer"] or "no peer ran", ratio]


# ------------------------------------------------------------------------------------------- pictures


def draw(found, directory):
    """Draw the records, <device>-<what>.png in `directory`: -> [(what it shows, path)]. Needs matplotlib."""
    from matplotlib.figure import Figure

    drawn = []
    for device in sorted({r["device"] for r in found}):
        here = [r for r in found if r["device"] == device and r["value"] is not None]
        attention = [r for r in here if (r["name"], r["dtype"]) == ("attention", DTYPE)]
        for what, shown, plot, rows in [
            ("attention", "attention's share of the roofline, by tokens", _roofline, _of(attention, B=256)),
            ("speed-up", "attention's speed-up over the best peer, by batch and tokens", _speed_up, attention),
            ("models", "pictures per second, by batch", _models, [r for r in here if r["unit"] == "pictures/s"]),
        ]:
            if rows:
                figure = Figure(figsize=(8, 6 if what == "models" else 4.5), dpi=120, layout="constrained")
                plot(figure, rows)
                figure.suptitle(f"{shown} ({device}, {rows[0]['dtype']})", fontsize=11)
                path = Path(directory) / f"{records.slug(device)}-{what}.png"
                figure.savefig(path)
                drawn.append((f"{device}: {shown}", path))
    return drawn


def _of(found, **shape):
    return [r for r in found if shape.items() <= r["shape"].items()]


def _lines(axes, found, across, height):
    """Draw height(record, provider's time) over shape[across]: a line for each provider, ours first and boldest."""
    found = sorted(found, key=lambda r: r["shape"][across])
    ours, ticks = found[0]["ours"], [r["shape"][across] for r in found]
    for name in dict.fromkeys([ours, *(name for r in found for name in r["times"])]):
        heights = [height(r, r["times"][name]) if name in r["times"] else float("nan") for r in found]
        axes.plot(ticks, heights, "o-", label=name, linewidth=2.5 if name == ours else 1.2, zorder=2 + (name == ours))
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{n} causal" if "causal" in r["shape"] else n for n, r in zip(ticks, found)])
    axes.grid(alpha=0.3)


def _roofline(figure, found):
    axes = figure.subplots()
    _lines(axes, found, "T", lambda r, time: r["share_of_limit"] * r["times"][r["ours"]] / time)
    axes.set(xlabel="tokens T", ylabel="share of the limit", ylim=(0, None))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend()


def _speed_up(figure, found):
    axes = figure.subplots()
    batches, tokens = (sorted({r["shape"][name] for r in found}) for name in "BT")
    ratios = {(r["shape"]["B"], r["shape"]["T"]): r["ratio_to_best_peer"] for r in found if r["best_peer"]}
    values = [[ratios.get((B, T), float("nan")) for T in tokens] for B in batches]
    axes.imshow(values, cmap="RdBu", vmin=0, vmax=2, aspect="auto", alpha=0.7)  # white: no faster, no slower
    for (B, T), ratio in ratios.items():
        axes.text(tokens.index(T), batches.index(B), f"{ratio:.2f}x", ha="center", va="center")
    axes.set_xticks(range(len(tokens)), tokens)
    axes.set_yticks(range(len(batches)), batches)
    axes.set(xlabel="tokens T", ylabel="batch B")


def _models(figure, found):
    from matplotlib.ticker import LogLocator, NullFormatter

    names = list(dict.fromkeys(r["name"] for r in found))
    panels = figure.subplots(-(-len(names) // 2), min(2, len(names)), squeeze=False).flat
    for axes, name in zip(panels, names):
        rows = [r for r in found if r["name"] == name]
        _lines(axes, rows, "B", lambda r, time: r["shape"]["B"] / time * 1e6)
        axes.set(yscale="log", title=name.removeprefix("encode_image "), xlabel="batch B", ylabel="pictures/s")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    for axes in panels:  # the panels without a model
        axes.set_axis_off()
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=5)


# ------------------------------------------------------------------------------------------ the README


def write(found, directory=None, readme=None):
    """Draw the pictures in `directory` (None: the package's own) and write tables and pictures between the markers.

    Returns False without matplotlib: then there are only tables. Raises InputError if `readme` has no markers.
    """
    directory = records.writable(directory or RESULTS)
    return markdown.fill(readme or README, (BEGIN, END), lambda: draw(found, directory), lambda p: section(found, p))
