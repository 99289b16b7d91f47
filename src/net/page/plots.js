
// The last minutes of the chosen replica, from its counters.

/** The shortest time that a plot has room for, in milliseconds. */
const SHORTEST = 30000;

/** How a plot is drawn, in units of its own. */
const [WIDE, HIGH] = [300, 100];

/** What is plotted: rates of counters that only grow, or values as they are. */
const PLOTS = [
  { title: "Puts and deletes a second", lines: [{ of: "puts", rate: true }] },
  { title: "Gets a second", lines: [{ of: "gets", rate: true }] },
  { title: "Pulls a second: completed, and failed (red)", lines: [{ of: "pulls", rate: true }, { of: "failed", rate: true }] },
  { title: "Lag: for how long the peer that is not equal for longest is not, seconds", lines: [{ of: "lag" }] },
  { title: "Updates that wait for the disk or to settle", lines: [{ of: "waiting" }] },
];

/** The points of a line: times, and values. A counter that begins anew has no rate there. */
function pointsOf(samples, { of, rate }) {
  if (!rate) return samples.map((sample) => [sample.at, sample[of]]);
  const points = [];
  for (let i = 1; i < samples.length; i++) {
    const [before, after] = [samples[i - 1], samples[i]];
    const grown = after[of] - before[of];
    if (grown >= 0 && after.at > before.at) points.push([after.at, (1000 * grown) / (after.at - before.at)]);
  }
  return points;
}

const rounded = (value) => (value >= 100 ? count(Math.round(value)) : String(Math.round(value * 10) / 10));

function makePlot(plot) {
  const space = document.querySelector("svg.pattern").namespaceURI;
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  plot.drawing = drawing;
  plot.paths = plot.lines.map((_, place) => {
    const path = document.createElementNS(space, "path");
    if (place) path.setAttribute("class", "second");
    drawing.append(path);
    return path;
  });
  plot.caption = element("figcaption");
  return element("figure", {}, plot.caption, drawing);
}

function drawPlots() {
  const place = byId("figures");
  if (!place.children.length) place.append(...PLOTS.map(makePlot));
  const samples = chosen?.samples ?? [];
  const now = performance.now();
  const width = Math.min(PAST, Math.max(SHORTEST, now - (samples[0]?.at ?? now)));
  show(byId("plotted"), `The last ${span(width)} of the chosen replica.`);
  for (const plot of PLOTS) {
    const lines = plot.lines.map((line) => pointsOf(samples, line));
    const top = Math.max(1, ...lines.flat().map(([, value]) => value));
    lines.forEach((points, i) => {
      const drawn = points.map(([at, value], j) => {
        const x = WIDE * (1 - (now - at) / width);
        const y = HIGH - 2 - (HIGH - 4) * (value / top);
        return `${j ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      });
      plot.paths[i].setAttribute("d", drawn.join(""));
    });
    const last = lines.map((points) => (points.length ? rounded(points.at(-1)[1]) : "not known yet"));
    const text = `${plot.title}: ${last.join(", ")}; at the most ${rounded(lines.flat().length ? Math.max(...lines.flat().map(([, value]) => value)) : 0)}`;
    show(plot.caption, text);
    plot.drawing.setAttribute("aria-label", text);
  }
}
