#!/usr/bin/env python3
"""Draws the dashboard from what an operator measures, as SVG: for places without a Grafana, and to see that its queries answer.

  picture.py METRICS_URL OUT.svg [--seconds 90]

Starts a Prometheus of its own on 127.0.0.1 (from PATH, or the one that tests/promtool/build unpacks), which reads METRICS_URL
every two seconds; then asks it for every panel of dashboard.json. The panels are drawn by this script and not by Grafana.
Fails, with their names, when panels have no data.
"""

import argparse
import html
import json
import math
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
SCRAPE_SECONDS = 2
# Several scrapes long, as Grafana's own is.
RATE_INTERVAL = "15s"
COLUMN, ROW, GAP = 56, 30, 8
COLOURS = ["#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477", "#66aa00", "#b82e2e", "#316395"]
LEGENDS = 6
# So many characters of a name fit into half a panel; the end says more than the beginning.
LONGEST = 30
LIMIT_SECONDS = 60


def prometheus():
    """The program."""
    found = shutil.which("prometheus")
    if found:
        return found
    built = subprocess.run([HERE.parent.parent / "tests/promtool/build"], stdout=subprocess.PIPE, text=True, check=True)
    return str(pathlib.Path(built.stdout.strip()).with_name("prometheus"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(base, path, **parameters):
    """What its API answers."""
    url = f"{base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


def series(base, panel, begin, end):
    """Name and points of each line of a panel, in the order of its queries."""
    lines = []
    for target in panel.get("targets", []):
        query = target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$provider", ".*")
        found = ask(base, "query_range", query=query, start=begin, end=end, step=SCRAPE_SECONDS)["result"]
        for line in found:
            name = target.get("legendFormat", "")
            for label, value in line["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            points = [(at, float(value)) for at, value in line["values"]]
            lines.append((name, [(at, value) for at, value in points if math.isfinite(value)]))
    return [line for line in lines if line[1]]


def figure(value, unit):
    """A value as people read it."""
    if unit in ("bytes", "Bps"):
        for prefix in ("B", "KiB", "MiB", "GiB"):
            if value < 1024 or prefix == "GiB":
                return f"{value:.3g} {prefix}" + ("/s" if unit == "Bps" else "")
            value /= 1024
    suffix = {"s": " s", "reqps": "/s", "wps": "/s"}.get(unit, "")
    return f"{value:.3g}{suffix}"


def text(x, y, words, size=11, anchor="start", weight="normal", colour="#333"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">'
        f"{html.escape(words)}</text>"
    )


def draw(panel, lines, begin, end):
    """One panel."""
    at = panel["gridPos"]
    x, y = at["x"] * COLUMN, at["y"] * ROW
    width, height = at["w"] * COLUMN - GAP, at["h"] * ROW - GAP
    if panel["type"] == "row":
        return [text(x + 4, y + 20, panel["title"], 14, weight="bold")]
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#fff" stroke="#ccc"/>',
        text(x + 8, y + 17, panel["title"], 12, weight="bold"),
    ]
    if not lines:
        return parts + [text(x + width / 2, y + height / 2, "no data", anchor="middle", colour="#999")]
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
    legend = min(len(lines), LEGENDS)
    left, top, right, bottom = x + 62, y + 28, x + width - 10, y + height - 22 - 13 * math.ceil(legend / 2)
    highest = max(value for _, points in lines for _, value in points) or 1.0
    for share in (0.0, 0.5, 1.0):
        level = bottom - (bottom - top) * share
        parts.append(f'<line x1="{left}" y1="{level:.1f}" x2="{right}" y2="{level:.1f}" stroke="#eee"/>')
        parts.append(text(left - 5, level + 4, figure(highest * share, unit), 10, "end", colour="#777"))
    for when, anchor, place in ((begin, "start", left), (end, "end", right)):
        parts.append(text(place, bottom + 13, time.strftime("%H:%M:%S", time.gmtime(when)), 9, anchor, colour="#999"))
    for number, (name, points) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(
            f"{left + (right - left) * (when - begin) / (end - begin):.1f},{bottom - (bottom - top) * value / highest:.1f}"
            for when, value in points
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if number >= LEGENDS:
            continue
        column, row = number % 2, number // 2
        name = name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
        words = name if number < LEGENDS - 1 or len(lines) <= LEGENDS else f"{name}, and {len(lines) - LEGENDS} more"
        place = x + 10 + column * (width / 2), bottom + 27 + row * 13
        parts.append(f'<rect x="{place[0]:.1f}" y="{place[1] - 7:.1f}" width="8" height="8" fill="{colour}"/>')
        parts.append(text(place[0] + 12, place[1], words, 10))
    return parts


def gather(base, seconds):
    """Waits until so much has been measured, and returns from when to when."""
    limit = time.monotonic() + LIMIT_SECONDS
    while True:
        try:
            if ask(base, "query", query="up == 1")["result"]:
                break
        except OSError:
            pass
        if time.monotonic() > limit:
            sys.exit(f"picture: Prometheus has read nothing from there within {LIMIT_SECONDS} s")
        time.sleep(1)
    begin = time.time()
    time.sleep(seconds)
    return begin, time.time()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", help="http://127.0.0.1:PORT/metrics of a running operator")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=90, help="for how long it is measured")
    options = parser.parse_args()
    source = urllib.parse.urlsplit(options.metrics)
    panels = json.loads((HERE / "dashboard.json").read_text())["panels"]
    with tempfile.TemporaryDirectory() as place:
        scrape = {
            "job_name": "taskwatch",
            "scheme": source.scheme,
            "metrics_path": source.path,
            "static_configs": [{"targets": [source.netloc]}],
        }
        # JSON is YAML.
        config = {"global": {"scrape_interval": f"{SCRAPE_SECONDS}s"}, "scrape_configs": [scrape]}
        file = pathlib.Path(place, "prometheus.yml")
        file.write_text(json.dumps(config))
        address = f"127.0.0.1:{free_port()}"
        arguments = [f"--config.file={file}", f"--storage.tsdb.path={place}/data", f"--web.listen-address={address}", "--log.level=error"]
        server = subprocess.Popen([prometheus(), *arguments])
        try:
            base = f"http://{address}"
            begin, end = gather(base, options.seconds)
            drawn = [(panel, series(base, panel, begin, end)) for panel in panels]
        finally:
            server.terminate()
            server.wait(timeout=LIMIT_SECONDS)
    width = 24 * COLUMN
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {width + 8} {height}" font-family="sans-serif">',
        f'<rect x="-8" y="-8" width="{width + 8}" height="{height}" fill="#f7f7f7"/>',
    ]
    for panel, lines in drawn:
        parts += draw(panel, lines, begin, end)
    said = "Drawn by deploy/monitoring/picture.py from what a running operator measured, not by Grafana."
    parts += [text(0, height - 16, said, 10, colour="#777"), "</svg>"]
    options.out.write_text("\n".join(parts) + "\n")
    empty = [panel["title"] for panel, lines in drawn if panel["type"] != "row" and not lines]
    print(f"{options.out}: {len(panels)} panels and rows" + (f"; without data: {', '.join(empty)}" if empty else ""))
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
