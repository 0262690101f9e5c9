# SPDX-License-Identifier: MIT
"""From samples to medians, ratios and verdicts; as a table, CSV, Markdown, chart."""

import csv
import statistics
from collections import namedtuple

# One figure of one run. cpu: CPU seconds of client, server and canald.
Sample = namedtuple("Sample", "row metric placement round value cpu")

# judge: min or max of the ratio to native, or of the value itself, or None.
Metric = namedtuple("Metric", "name unit judge target")

Line = namedtuple(
    "Line", "work placement unit native canal ratio low high cpu_native "
    "cpu_canal target verdict judge row")

PLACEMENT_TEXT = {
    "native": "native",
    "both": "canal, both ends",
    "client": "canal client, native server",
    "server": "native client, canal server",
}


def number(value):
    if value is None:
        return "-"
    if value != 0 and abs(value) < 0.01:
        return f"{value:.5f}"
    if abs(value) < 100:
        return f"{value:.2f}"
    return f"{value:,.0f}"


def target_text(metric):
    if not metric.judge:
        return ""
    sign = ">=" if metric.judge.endswith("min") else "<="
    unit = "x" if metric.judge.startswith("ratio") else " " + metric.unit
    return f"{sign} {metric.target:g}{unit.rstrip()}"


def is_compared(metric):
    """Rates and times have a ratio to native; shares and memory stand alone."""
    if metric.judge:
        return metric.judge.startswith("ratio")
    return metric.unit in ("us", "MB/s", "1/s")


def verdict(metric, value, ratio):
    if not metric.judge:
        return ""
    judged = ratio if metric.judge.startswith("ratio") else value
    if judged is None:
        return ""
    if metric.judge.endswith("min"):
        return "met" if judged >= metric.target else "missed"
    return "met" if judged <= metric.target else "missed"


class Results:
    """All samples of a run. @rows maps a row's name to (title, metrics)."""

    def __init__(self, rows):
        self.rows = rows
        self.samples = []
        self.failures = []

    def add(self, row, placement, round_, values, cpu):
        for metric, value in values.items():
            self.samples.append(Sample(row, metric, placement, round_, value, cpu))

    def _pick(self, row, metric, placement):
        return {s.round: s for s in self.samples
                if (s.row, s.metric, s.placement) == (row, metric, placement)}

    @staticmethod
    def _median(samples, key):
        return statistics.median(key(s) for s in samples.values()) if samples else None

    def _line(self, row, title, metric, placement):
        native = self._pick(row, metric.name, "native")
        canal = self._pick(row, metric.name, placement)
        if not canal:
            return None
        base = self._median(native, lambda s: s.value)
        value = self._median(canal, lambda s: s.value)
        pairs = [canal[r].value / native[r].value for r in canal
                 if r in native and native[r].value]
        is_native = placement == "native"
        ratio = None
        if pairs and not is_native and is_compared(metric):
            ratio = value / base
        return Line(
            work=f"{title}, {metric.name}", placement=placement,
            unit=metric.unit, native=base, canal=None if is_native else value,
            ratio=ratio, low=min(pairs) if ratio else None,
            high=max(pairs) if ratio else None,
            cpu_native=self._median(native, lambda s: sum(s.cpu)),
            cpu_canal=None if is_native else
            self._median(canal, lambda s: sum(s.cpu)),
            target=target_text(metric),
            verdict="" if is_native else verdict(metric, value, ratio),
            judge=metric.judge, row=row)

    def lines(self):
        """One line per metric and placement; native alone only without canal."""
        found = []
        for row, (title, metrics) in self.rows.items():
            for metric in metrics:
                lines = [self._line(row, title, metric, p)
                         for p in ("both", "client", "server")]
                lines = [line for line in lines if line]
                if not lines:
                    lines = [self._line(row, title, metric, "native")]
                found += [line for line in lines if line]
        return found


HEAD = ("work", "placement", "unit", "native", "canal", "ratio",
        "range of ratio", "CPU s native", "CPU s canal", "target", "")


def _cells(line):
    span = f"{line.low:.2f} to {line.high:.2f}" if line.ratio else "-"
    return (line.work, PLACEMENT_TEXT[line.placement], line.unit,
            number(line.native), number(line.canal),
            f"{line.ratio:.2f}x" if line.ratio else "-", span,
            number(line.cpu_native), number(line.cpu_canal), line.target,
            line.verdict)


def table(results):
    """What has a target; the other figures are in the Markdown and CSV files."""
    rows = [HEAD] + [_cells(line) for line in results.lines() if line.judge]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    left = {0, 1, 2, 9, 10}
    text = []
    for row in rows:
        text.append("  ".join(
            cell.ljust(w) if i in left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths))).rstrip())
    return "\n".join(text)


def write_csv(results, path):
    with open(path, "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(Sample._fields[:-1] +
                        ("cpu_client", "cpu_server", "cpu_canald"))
        for sample in results.samples:
            writer.writerow(list(sample[:-1]) + [f"{c:.3f}" for c in sample.cpu])


def write_markdown(results, machine, path):
    with open(path, "w") as out:
        for key, value in machine.items():
            out.write(f"* {key}: {value}\n")
        out.write("\nMedians; the ratio is canal / native, its range that of the "
                  "single rounds. CPU seconds are those of client, server and "
                  "canald together.\n\n")
        out.write("| " + " | ".join(HEAD) + " |\n")
        out.write("|" + " --- |" * len(HEAD) + "\n")
        for line in results.lines():
            out.write("| " + " | ".join(_cells(line)) + " |\n")
        for failure in results.failures:
            out.write(f"\nFailed: {failure}\n")


def _speedups(results):
    """(work, placement) -> how many times faster than native."""
    found = {}
    for line in results.lines():
        if line.ratio and line.judge in ("ratio_min", "ratio_max"):
            faster = line.ratio if line.judge == "ratio_min" else 1 / line.ratio
            found[line.work, line.placement] = faster
    return found


def write_chart(results, machine, path):
    """Return: None, or why there is no chart."""
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return "no chart: apt-get install python3-matplotlib"
    speedups = _speedups(results)
    if not speedups:
        return "no chart: nothing was compared with native"
    works = list(dict.fromkeys(work for work, _ in speedups))
    placements = [p for p in ("both", "client", "server")
                  if any(key[1] == p for key in speedups)]
    height = 0.8 / len(placements)
    fig, axes = pyplot.subplots(figsize=(9, 1.5 + 0.55 * len(works)))
    for i, placement in enumerate(placements):
        at = [(y + i * height, speedups[work, placement])
              for y, work in enumerate(works) if (work, placement) in speedups]
        bars = axes.barh([y for y, _ in at], [v - 1 for _, v in at], height, left=1,
                         label=PLACEMENT_TEXT[placement])
        axes.bar_label(bars, [f"{v:.2f}x" for _, v in at], fontsize=7, padding=2)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([y + 0.4 - height / 2 for y in range(len(works))], works)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as native (log scale)")
    axes.set_title(f"{machine['CPU']}, Linux {machine['kernel']}", fontsize=9)
    axes.legend(fontsize=8)
    fig.tight_layout()
    fig.savefig(path, dpi=150)
    return None
