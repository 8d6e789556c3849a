// Elements, numbers and charts. Everything that comes from a study goes through text nodes and attributes.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const FAR = Number.MAX_VALUE;
const exponential = (value, digits) => value.toExponential(digits).replace(/\.?0+e/, "e").replace("e+", "e");

function number(value) {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return text(value);
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e9) return exponential(value, 4);
  return String(Number(value.toPrecision(5)));
}
// A mean and the standard deviation of what it is the mean of, to two digits, where that is known.
function spread(value, deviation) {
  if (typeof deviation !== "number") return number(value);
  const plain = deviation >= 1e-4 && deviation < 99.5;
  return `${number(value)} ± ${plain ? deviation.toPrecision(2) : number(Number(deviation.toPrecision(2)))}`;
}
function text(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
// A parameter may be set to nothing, which is not the same as being inactive.
const setting = (value) => (value === null ? "null" : number(value));
const words = (state) => state.replaceAll("_", " ");

function duration(seconds) {
  const whole = Math.round(seconds);
  if (seconds < 10) return `${Number(seconds.toPrecision(2))} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

// -- axes -----------------------------------------------------------------------------------

function scale(low, high, from, to, log) {
  const f = log ? Math.log10 : (v) => v;
  if (low === high) { const pad = Math.abs(low) * 0.1 || 1; if (!log) { low = Math.max(low - pad, -FAR); high = Math.min(high + pad, FAR); } else { low /= 2; high *= 2; } }
  // The distance between the largest numbers is more than a number can be.
  const unit = Number.isFinite(f(high) - f(low)) ? 1 : 4;
  const [a, b] = [f(low) / unit, f(high) / unit];
  const at = (v) => from + ((f(v) / unit - a) / (b - a)) * (to - from);
  at.low = low; at.high = high;
  at.ticks = log ? logTicks(low, high) : evenTicks(low, high, Math.min(Math.max(Math.abs(to - from) / 45, 2), 8));
  at.names = tickNames(at.ticks);
  at.clamp = (v) => Math.min(Math.max(at(v), Math.min(from, to)), Math.max(from, to));
  return at;
}
function evenTicks(low, high, about) {
  const raw = high / about - low / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const steps = [0.2, 0.5, 1, 2, 5, 10].map((m) => m * power);
  const ends = (step) => [Math.ceil(low / step - 1e-9), Math.floor(high / step + 1e-9)];
  const count = (step) => ends(step)[1] - ends(step)[0] + 1;
  let at = steps.findIndex((step) => step >= raw * (1 - 1e-9));
  // One tick alone would be no scale.
  while (at > 0 && count(steps[at]) < 2) at -= 1;
  const [first, last] = ends(steps[at]);
  // Multiples, not sums, which miss the nought by their rounding; with the digits that tell neighbours apart.
  const digits = Math.min(String(Math.max(Math.abs(first), Math.abs(last))).length + 2, 17);
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * steps[at]).toPrecision(digits)));
  return [...new Set(ticks)];
}
function logTicks(low, high) {
  const ticks = [];
  for (let p = Math.ceil(Math.log10(low) - 1e-9); p <= Math.log10(high) + 1e-9; p += 1) ticks.push(10 ** p);
  if (ticks.length >= 2) return ticks.filter((_, i) => i % Math.ceil(ticks.length / 5) === 0);
  return [low, high];
}
// Names of ticks, with as many digits as tell them apart.
function tickNames(ticks) {
  let names = [];
  for (let digits = 2; digits <= 17 && new Set(names).size < ticks.length; digits += 1) names = ticks.map((v) => tick(v, digits));
  return names;
}
function tick(value, digits) {
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e6)) return exponential(value, digits - 1);
  // Round ones in full: neighbours may differ in the sixth digit only.
  return String(value).length <= 8 ? String(value) : String(Number(value.toPrecision(Math.max(digits, 5))));
}

// A drawing area with axes. The width is that of the page, so that text keeps its size.
function frame(place, { height, x, y, xName, yName, label, left = 56, room = place.clientWidth }) {
  const width = Math.max(room || 600, 200);
  const [top, bottom] = [12, height - 24 + (xName ? -14 : 0)];
  const sy = scale(y.low, y.high, bottom - 6, top + 4, y.log);
  left = Math.max(left, 12 + LETTER * longest(sy.names));
  const names = x.choices ? legible(x.choices, width - 12 - left) : null;
  const below = names?.upright ? 12 + LETTER * names.wide * longest(names.short) : xName ? 38 : 24;
  const box = { left, right: width - 12, top, bottom };
  height = box.bottom + below;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  const sx = x.choices ? choices(x.choices, box.left, box.right) : scale(x.low, x.high, box.left, box.right, x.log);
  for (const [i, v] of sy.ticks.entries()) {
    root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: sy(v), y2: sy(v) }));
    root.append(svg("text", { x: box.left - 6, y: sy(v) + 4, "text-anchor": "end" }, sy.names[i]));
  }
  const every = names ? names.every : spaced(sx.names, sx.ticks.map(sx));
  for (const [i, v] of sx.ticks.entries()) {
    if (i % every || (x.whole && !Number.isInteger(v))) continue;
    const name = names ? names.short[i] : sx.names[i];
    const at = names?.upright ? { x: sx(v) + 4, y: box.bottom + 6, "text-anchor": "end", transform: `rotate(-90 ${sx(v) + 4} ${box.bottom + 6})` }
      : { x: sx(v), y: box.bottom + 15, "text-anchor": sx(v) > box.right - 14 ? "end" : "middle" };
    root.append(svg("text", at, name, names && name !== v ? svg("title", null, v) : null));
  }
  root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  if (xName) root.append(svg("text", { x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, xName));
  if (yName) root.append(svg("text", { x: 2, y: 10 }, yName));
  return { root, sx, sy, box, width, points: [] };
}
// How the names of choices are written below that many pixels: side by side, or upright where that would leave too few
// letters; every so many of them where even those would overlap. The point's title says which it is.
const LETTER = 6.6;
const longest = (names) => Math.max(0, ...names.map((name) => [...name].length));
const UPRIGHT = 76;
function legible(names, width) {
  const slot = width / names.length;
  // Signs of East Asian scripts and emoji are twice as wide as letters.
  const wide = names.some((name) => /[^\u0000-\u2e7f]/.test(name)) ? 2 : 1;
  const letter = LETTER * wide;
  const across = Math.floor(slot / letter) - 1;
  const upright = across < 8 && names.some((name) => [...name].length > across);
  return { upright, wide, every: upright ? Math.ceil(12 / slot) : 1, short: shortened(names, upright ? Math.floor(UPRIGHT / letter) - 1 : across) };
}
// Every how many of the names side by side, each in the middle of its place, leaves room between them.
function spaced(names, places) {
  const reach = names.map((name) => name.length * LETTER / 2);
  let every = 1;
  while (places.some((x, i) => i % every === 0 && i + every < places.length && places[i + every] - x < reach[i] + reach[i + every])) every += 1;
  return every;
}
// Names of that many letters at most. What all of them begin and end with tells nothing, so it is left out first; then
// the middle. Letters, not halves of them: an emoji is two of a string's places.
function shortened(names, most) {
  const texts = names.map((name) => [...name]);
  const shared = (at, end) => { let n = 0; while (n < end && texts.every((t) => t.at(at(n)) === texts[0].at(at(n)))) n += 1; return n; };
  const least = Math.min(...texts.map((t) => t.length));
  const begin = texts.length > 1 ? shared((n) => n, least) : 0;
  const end = texts.length > 1 ? shared((n) => -1 - n, least - begin) : 0;
  return texts.map((t) => {
    if (t.length <= most) return t.join("");
    const room = Math.max(most - (t.length - begin - end), 0);
    const before = Math.min(begin, Math.max(Math.floor(room / 2), room - end));
    const after = Math.min(end, room - before);
    const rest = t.slice(begin - before, t.length - end + after);
    if (before < begin) rest.splice(0, before ? 1 : 0, "\u2026");
    if (after < end) rest.splice(after ? -1 : rest.length, after ? 1 : 0, "\u2026");
    if (rest.length <= most) return rest.join("");
    const last = Math.ceil((most - 1) / 2);
    return [...rest.slice(0, most - 1 - last), "\u2026", ...rest.slice(rest.length - last)].join("");
  });
}
function choices(names, from, to) {
  const at = (name) => from + ((names.indexOf(name) + 0.5) / names.length) * (to - from);
  at.ticks = names;
  at.clamp = at;
  return at;
}

// Points, each {x, y, kind, title, href, radius}: one path for each kind, as a node for each point would take the browser
// longer than everything else. The pointer finds the nearest; the table says the same to those who do not use one.
function marks(chart, points) {
  const kinds = new Map();
  for (const p of points) {
    p.cx = chart.sx.clamp(p.x);
    p.cy = chart.sy.clamp(p.y);
    const d = `M${(p.cx - p.radius).toFixed(1)} ${p.cy.toFixed(1)}a${p.radius} ${p.radius} 0 1 0 ${2 * p.radius} 0a${p.radius} ${p.radius} 0 1 0 ${-2 * p.radius} 0`;
    kinds.set(p.kind, (kinds.get(p.kind) || "") + d);
  }
  for (const [kind, d] of kinds) chart.root.append(svg("path", { class: kind, d }));
  chart.points.push(...points);
}

// Put the chart in its place; beside the pointer stands what the nearest point is, and a click goes there.
function hang(place, chart) {
  const { root, points, width } = chart;
  const ring = svg("circle", { class: "ring", r: 7, visibility: "hidden" });
  const tip = el("div", { class: "tip", hidden: true });
  const near = (e) => {
    const box = root.getBoundingClientRect();
    const [x, y] = [(e.clientX - box.left) * width / box.width, (e.clientY - box.top) * width / box.width];
    let [best, least] = [null, 18 ** 2];
    for (const p of points) {
      const far = (p.cx - x) ** 2 + (p.cy - y) ** 2;
      if (far <= least) [best, least] = [p, far];
    }
    return best;
  };
  const show = (p) => {
    root.classList.toggle("hit", Boolean(p));
    ring.setAttribute("visibility", p ? "visible" : "hidden");
    tip.hidden = !p;
    if (!p) return;
    ring.setAttribute("cx", p.cx);
    ring.setAttribute("cy", p.cy);
    tip.textContent = p.title;
    tip.style.top = `${p.cy + 12}px`;
    tip.style.left = `${Math.max(Math.min(p.cx + 12, width - tip.offsetWidth), 0)}px`;
  };
  root.append(ring);
  root.addEventListener("pointermove", (e) => show(near(e)));
  root.addEventListener("pointerleave", () => show(null));
  root.addEventListener("click", (e) => {
    const p = near(e);
    if (!p) return;
    if (e.ctrlKey || e.metaKey) open(p.href, "_blank", "noopener"); else go(p.href);
  });
  place.replaceChildren(root, tip);
}

function path(points, x, y) {
  return points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("");
}

// -- the charts -----------------------------------------------------------------------------

function historyChart(place, data, link) {
  const range = data.range || [0, 1];
  const last = data.steps.at(-1);
  const label = last
    ? `${data.places} finished trials; best ${data.metric} ${number(last[1])} by trial ${last[2]}`
    : `${data.places} finished trials, none complete`;
  const chart = frame(place, {
    height: 300, x: { low: 0, high: Math.max(data.places, 1), whole: true }, y: { low: range[0], high: range[1] },
    xName: "trials finished", yName: data.metric, label,
  });
  const { root, sx, sy, box } = chart;
  const failed = data.bad.map(([at, trial]) => ({ x: at, y: range[0], cx: sx(at), cy: box.bottom - 2, title: `trial ${trial}: no value that counts`, href: link(trial) }));
  if (failed.length) root.append(svg("path", { class: "failed", d: failed.map((p) => `M${p.cx.toFixed(1)} ${box.bottom - 5}V${box.bottom}`).join("") }));
  chart.points.push(...failed);
  const small = data.points.length > 200 ? 2.4 : 3.5;
  marks(chart, data.points.map(([at, value, trial, counts]) => ({
    x: at, y: value, kind: counts ? "point" : "stopped", title: `trial ${trial}: ${number(value)}${counts ? "" : ", stopped early"}`, href: link(trial), radius: small,
  })));
  if (data.steps.length) {
    let d = "";
    data.steps.forEach(([at, value], i) => { d += i ? `H${sx(at).toFixed(1)}V${sy.clamp(value).toFixed(1)}` : `M${sx(at).toFixed(1)} ${sy.clamp(value).toFixed(1)}`; });
    root.append(svg("path", { class: "record", d: `${d}H${box.right}` }));
    marks(chart, [{ x: last[0], y: last[1], kind: "leader", title: `best: trial ${last[2]}, ${number(last[1])}`, href: link(last[2]), radius: 5 }]);
  }
  hang(place, chart);
}

function scatterChart(place, data, link) {
  const [xs, ys] = [data.x_range || [0, 1], data.y_range || [0, 1]];
  const chart = frame(place, {
    height: 320, x: { low: xs[0], high: xs[1] }, y: { low: ys[0], high: ys[1] }, xName: data.x, yName: data.y,
    label: `${data.y} against ${data.x}; ${data.points.filter((p) => p[3]).length} trials on the Pareto front`,
  });
  marks(chart, [...data.points].sort((a, b) => a[3] - b[3]).map(([x, y, trial, front]) => ({
    x, y, kind: front ? "leader" : "point", title: `trial ${trial}: ${number(x)}, ${number(y)}`, href: link(trial), radius: front ? 4.5 : 3,
  })));
  hang(place, chart);
}

function sliceChart(place, data, link, room) {
  const range = data.range || [0, 1];
  const values = data.points.map((p) => p[0]);
  const x = data.numeric
    ? { low: Math.min(...values), high: Math.max(...values), log: data.log, whole: !data.log && values.every(Number.isInteger) }
    : { choices: data.choices };
  const chart = frame(place, {
    height: 150, left: 48, room, x, y: { low: range[0], high: range[1] },
    label: `${data.objective} against ${data.name}`,
  });
  marks(chart, [...data.points].sort((a, b) => a[3] - b[3]).map(([value, score, trial, best]) => ({
    x: value, y: score, kind: best ? "leader" : "point", title: `trial ${trial}: ${data.name} ${number(value)}, ${number(score)}`, href: link(trial), radius: best ? 5 : 2.3,
  })));
  hang(place, chart);
}

// ``series``: [{name, points: [[step, value], ..]}], each in its own colour.
function curveChart(place, series, name) {
  const all = series.flatMap((s) => s.points);
  const [xs, ys] = [all.map((p) => p[0]), all.map((p) => p[1])];
  const chart = frame(place, {
    height: 230, x: { low: Math.min(...xs), high: Math.max(...xs), whole: true }, y: { low: Math.min(...ys), high: Math.max(...ys) },
    xName: "step", label: `${name} by step, ${series.length} curve${series.length > 1 ? "s" : ""}`,
  });
  for (const one of series) {
    // A curve of one point would be invisible as a line.
    const line = one.points.length > 1
      ? svg("path", { class: "series", d: path(one.points, chart.sx, chart.sy) }, svg("title", null, one.name))
      : svg("circle", { class: "alone", cx: chart.sx(one.points[0][0]), cy: chart.sy(one.points[0][1]), r: 4 }, svg("title", null, one.name));
    chart.root.append(svg("g", { class: `s${one.colour}` }, line));
  }
  place.replaceChildren(chart.root);
}
