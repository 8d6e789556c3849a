// The pages: list, study, trial, comparison. Each asks the server again every two seconds and redraws what changed.
"use strict";

const MAIN = document.getElementById("main");
const EVERY = 2000;
const MOST = 8;

const link = (run) => `${BASE}/studies/${encodeURIComponent(run)}`;
const trialLink = (run, trial) => `${link(run)}/trials/${trial}`;
const runLink = (experiment, run) => `${PREFIX}/#/experiments/${encodeURIComponent(experiment)}/runs/${encodeURIComponent(run)}`;
const state = (name) => el("span", { class: `state ${name}` }, words(name));
const scores = (values, spreads = {}) => Object.entries(values || {}).map(([n, v]) => `${n} ${spread(v, spreads[n])}`).join(", ");
const MEAN = "mean ± standard deviation over";

// -- asking ---------------------------------------------------------------------------------

let feeds = [];
let timer = 0;
let failures = 0;
let missing = false;
async function update() {
  clearTimeout(timer);
  const live = document.getElementById("live");
  try {
    await Promise.all(feeds.map((feed) => feed.ask()));
    failures = 0;
    live.textContent = "live";
    live.className = "";
    if (missing) route();
  } catch (error) {
    failures += 1;
    if (!(error instanceof TypeError) && !feeds.some((feed) => feed.shown)) nothing(error.message);
    live.textContent = error instanceof TypeError ? "the server does not answer" : error.message;
    live.className = "lost";
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(update, Math.min(EVERY * 2 ** failures, 30000));
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });

// In the place of a page of which the server has nothing, until it has.
function nothing(message) {
  missing = true;
  MAIN.replaceChildren(el("div", { class: "card" }, el("p", { class: "empty" }, `${message}. `, el("a", { href: BASE }, "All studies"))));
}

// Redraw a part and leave the keyboard where it was.
function redraw(place, ...children) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...children);
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

function crumbs(...parts) {
  document.title = parts.map((p) => p[0]).reverse().concat(parts.length ? [] : ["Studies"]).join(" · ");
  const all = [["Studies", BASE], ...parts];
  const shown = all.map(([name, href], i) => [
    i ? el("span", { "aria-hidden": "true" }, "/") : null,
    i === all.length - 1 ? el("b", { "aria-current": "page" }, name) : el("a", { href }, name),
  ]);
  document.getElementById("crumbs").replaceChildren(...shown.flat().filter(Boolean));
}

function say(message) { document.getElementById("said").textContent = message; }

// Charts are as wide as their place, so they are drawn again when that changes.
const charts = new Map();
function draw(place, make) { charts.set(place, make); make(); }

const rest = () => new Promise((done) => setTimeout(done));

// Show a page: what is known of it at once, the rest as it is answered.
function begin(...all) {
  feeds = all;
  for (const feed of all) feed.recall();
}
addEventListener("resize", () => { for (const [place, make] of charts) if (place.isConnected) make(); else charts.delete(place); });

// -- the list -------------------------------------------------------------------------------

function listPage() {
  crumbs();
  const body = el("div");
  MAIN.replaceChildren(el("div", { class: "head" }, el("h1", null, "Studies")), el("div", { class: "card" }, body));
  const feed = new Feed(() => "studies", (studies) => {
    if (!studies.length) {
      redraw(body, el("p", { class: "empty quiet" }, "No studies yet. ", el("code", null, "hpo tune lgbm --data sklearn:breast_cancer --target target"), " makes one."));
      return;
    }
    redraw(body, el("div", { class: "scroll" }, el("table", null,
      el("thead", null, el("tr", null, ["study", "state", "trials", "best", "strategy", "experiment", "started"].map((h) => el("th", { scope: "col" }, h)))),
      el("tbody", null, studies.map((s) => el("tr", null,
        el("td", { class: "name" }, el("a", { href: link(s.run_id), "data-key": s.run_id }, s.name)),
        el("td", { title: s.reason }, state(s.state)),
        el("td", null, `${s.done}${s.planned ? ` of ${s.planned}` : ""}`),
        el("td", { class: "name" }, s.best ? scores(s.best) : "–"),
        el("td", { class: "name" }, s.strategy),
        el("td", { class: "name" }, s.experiment),
        el("td", null, new Date(s.start).toLocaleString()),
      ))))));
  });
  begin(feed);
}

// -- a study --------------------------------------------------------------------------------

const ACTIONS = { cancel: "Cancel", resume: "Resume", extend: "Extend ...", retry: "Retry failed", promote: "Promote ..." };

// Pages of studies as they were left, those with the present width: going back draws nothing anew.
const studyPages = new Map();
const MOST_PAGES = 4;

function studyPage(run) {
  let page = studyPages.get(run);
  studyPages.delete(run);
  const fresh = page?.width !== innerWidth;
  if (fresh) page = makeStudyPage(run);
  studyPages.set(run, page);
  if (studyPages.size > MOST_PAGES) studyPages.delete(studyPages.keys().next().value);
  MAIN.replaceChildren(page.body);
  if (known(`studies/${run}`)) crumbs([known(`studies/${run}`).name]);
  if (fresh) begin(page.study, page.table.feed);
  else feeds = [page.study, page.table.feed];
  const trials = trialsOf(run);
  // A failure is told by the study's own request, which goes on asking.
  if (!trials.ready) trials.follow().then(() => { page.table.show(); if (trials.elsewhere) update(); }, () => {});
  // What has changed since it was left is drawn once it is on the screen.
  const news = () => { page.study.recall(); if (trialsOf(run).ready && feeds.includes(page.study)) page.table.show(); };
  if (fresh) news(); else requestAnimationFrame(() => setTimeout(news));
}

function makeStudyPage(run) {
  const places = Object.fromEntries(["head", "best", "chart", "slices", "trials"].map((n) => [n, el("div")]));
  const slices = el("details", { class: "card", open: true }, el("summary", null, "Parameters"), places.slices);
  const body = el("div", null,
    el("div", { class: "card" }, places.head),
    el("div", { class: "columns" }, el("section", { class: "card", "aria-label": "History" }, places.chart), el("section", { class: "card", "aria-label": "Best" }, places.best)),
    slices,
    el("section", { class: "card", "aria-label": "Trials" }, places.trials),
  );
  let best = null;
  const table = trialTable(run, places.trials);
  const study = new Feed(() => `studies/${run}`, (s) => {
    crumbs([s.name]);
    redraw(places.head, ...headOf(s, run));
    redraw(places.best, ...bestOf(s, run));
    historyOf(s, run, places.chart);
    slices.hidden = !s.slices.length;
    slicesOf(s, run, places.slices);
    if (best !== null && s.best_trial !== best && s.best_trial !== null) say(`New best: trial ${s.best_trial}, ${scores(s.best, s.best_spread)}`);
    best = s.best_trial;
    return follow(run, s, table.show).then(beforehand);
  });
  return { body, study, table, width: innerWidth };
}

// The way back to the list has its answer before it is taken.
async function beforehand() {
  if (!known("studies")) remember("studies", await get("studies"));
}

// Bring the trials up to date with the study.
async function follow(run, s, show) {
  if (await trialsOf(run).follow(s)) show();
}

function headOf(s, run) {
  const aims = Object.entries(s.objectives).map(([n, d]) => `${d === "max" ? "maximise" : "minimise"} ${n}`).join(", ");
  // Time in which nobody drove it is nobody's, as in `hpo show`.
  const running = s.since ? (Date.now() - s.since) / 1000 : 0;
  const seconds = s.seconds === null ? ((s.end || Date.now()) - s.start) / 1000 : s.seconds + running;
  const planned = s.planned ? ` of ${s.planned}` : "";
  const where = s.constraints.length ? ` where ${s.constraints.join(", ")},` : "";
  const seeds = s.repeats > 1 ? `, each with ${s.repeats} seeds` : "";
  return [
    el("div", { class: "head" }, el("h1", null, s.name), state(s.state), el("span", { class: "spring" }),
      el("div", { class: "actions" }, Object.entries(ACTIONS).map(([a, label]) => actionButton(s, run, a, label)))),
    el("p", { class: "quiet" }, `${aims}${where} by ${s.strategy} · ${s.done}${planned} trials finished${seeds} · ${duration(seconds)}${s.reason ? ` · ${s.reason}` : ""} · `,
      el("a", { href: runLink(s.experiment_id, run), "data-key": "mlflow" }, "runs, report and artifacts in MLflow")),
    s.planned ? el("progress", { max: s.planned, value: Math.min(s.done, s.planned), "aria-label": "Trials finished" }) : null,
    el("ul", { class: "counts" }, Object.entries(s.counts).sort().map(([name, n]) => el("li", null, el("span", { class: `state ${name}` }, `${n} ${words(name)}`)))),
    s.failures.length ? el("ul", { class: "failures", "aria-label": "Why trials failed" }, s.failures.map((line) => el("li", null, line))) : null,
    refusal(s),
  ].filter(Boolean);
}

// One sentence where nothing at all can be done; otherwise each button says why it cannot.
function refusal(s) {
  const reasons = [...new Set(Object.values(s.actions))];
  return reasons.length === 1 && reasons[0] ? el("p", { class: "note" }, `Actions are off: ${reasons[0]}.`) : null;
}

function actionButton(s, run, action, label) {
  const why = s.actions[action];
  return el("button", {
    type: "button", "data-key": action, "aria-disabled": why ? "true" : null, title: why || null,
    onclick: (e) => (why ? refuse(e.target.closest(".card"), `${label.replace(" ...", "")} is not possible: ${why}.`) : openDialog(s, run, action)),
  }, label, why ? el("span", { class: "unseen" }, ` (not possible: ${why})`) : null);
}

// Said to those who listen, and shown until the head is drawn again.
function refuse(card, message) {
  say(message);
  card.querySelector(".refused")?.remove();
  card.firstChild.append(el("p", { class: "note refused" }, message));
}

function bestOf(s, run) {
  if (s.best_trial === null) return [el("h2", null, "Best"), el("p", { class: "quiet" }, "No trial is complete."), verdict(s)].filter(Boolean);
  const several = Object.keys(s.objectives).length > 1;
  const [name] = Object.keys(s.objectives);
  const trials = several ? s.front : [s.best_trial];
  return [
    el("h2", null, several ? `Pareto front, ${s.front.length} trials` : "Best"),
    several ? null : el("p", { class: "big" }, spread(s.best[name], s.best_spread[name])),
    el("p", null, several ? "" : `${name} by `, trials.slice(0, 30).map((t, i) => [i ? ", " : "", el("a", { href: trialLink(run, t), "data-key": `best-${t}` }, several ? t : `trial ${t}`)]), trials.length > 30 ? ` and ${trials.length - 30} more, the first in the table` : null, s.repeats > 1 && !several ? `, ${MEAN} ${s.repeats} seeds` : null),
    verdict(s),
    several ? null : configuration(s.best_params, s.params),
  ].filter(Boolean);
}

// What fresh seeds said of the best trial, on the page of the study and of the one that ran them.
function verdict(s) {
  const found = s.confirmation;
  if (!found) return null;
  const other = found.run_id ? el("a", { href: link(found.run_id), "data-key": "confirmation" }, found.study) : found.study;
  return el("p", { class: "verdict" }, found.before, other, found.after);
}

function configuration(params, order) {
  return el("dl", null, ordered(params || {}, order).map((n) => [el("dt", null, n), el("dd", null, setting(params[n]))]));
}
// The names in the order of the space, not of the alphabet, which MLflow's copy of a configuration is in.
function ordered(params, order) {
  return [...order.filter((n) => Object.hasOwn(params, n)), ...Object.keys(params).filter((n) => !order.includes(n))];
}

function historyOf(s, run, place) {
  if (!place.firstChild) place.append(el("h2"), el("figure"), el("p", { class: "note" }));
  const [title, figure, note] = place.children;
  const go = (t) => trialLink(run, t);
  const shown = s.history || s.scatter;
  title.textContent = s.history ? "History" : "Objectives";
  if (!s.history) draw(figure, () => scatterChart(figure, shown, go));
  else draw(figure, () => historyChart(figure, shown, go));
  const many = s.history ? shown.places : shown.points.length;
  const parts = s.history ? ["line: best so far", `open circles: stopped early${s.history.edited ? ", or outside of the space since its edit" : ""}`, "red ticks: no value that counts"] : ["large: on the Pareto front", Object.keys(s.objectives).length > 2 ? `the first two of ${Object.keys(s.objectives).length} objectives` : null].filter(Boolean);
  note.textContent = `${parts.join(", ")}${many > 600 ? `; ${shown.points.length} of ${many} points are drawn` : ""}; far values lie on the edge`;
}

// One after the other, so that a click waits for none but the one that is being drawn.
async function slicesOf(s, run, place) {
  const key = [s.params.length, ...s.slices.map((p) => p.name)].join("\n");
  if (place.dataset.names !== key) {
    place.dataset.names = key;
    place.replaceChildren(
      el("p", { class: "note" }, `${Object.keys(s.objectives)[0]} of the complete trials against each parameter; the best in another colour${s.slices.length < s.params.length ? `; ${s.slices.length} of ${s.params.length} parameters` : ""}`),
      el("div", { class: "slices" }, s.slices.map((p) => el("div", null, el("h3", null, p.name + (p.log ? " (log)" : "")), el("figure")))));
  }
  const figures = [...place.querySelectorAll("figure")];
  // Measured before the first is drawn: after that the page would be laid out for each.
  const widths = figures.map((figure) => figure.clientWidth);
  const turn = (place.turn || 0) + 1;
  place.turn = turn;
  for (const [i, data] of s.slices.entries()) {
    await rest();
    if (place.turn !== turn) return;
    const chart = (width) => { if (width) sliceChart(figures[i], data, (t) => trialLink(run, t), width); };
    charts.set(figures[i], () => chart(figures[i].clientWidth));
    chart(widths[i]);
  }
}

// -- the table of trials --------------------------------------------------------------------

// Sorting, page and choice, as they were left.
const tables = new Map();

function trialTable(run, place) {
  if (!tables.has(run)) tables.set(run, { view: { state: "", sort: "rank", order: "asc", offset: 0, limit: 25 }, chosen: new Set() });
  const { view, chosen } = tables.get(run);
  const trials = trialsOf(run);
  let last = null;
  let waits = false;
  const feed = new Feed(() => (trials.elsewhere ? `studies/${run}/trials?${new URLSearchParams(view)}` : null), (data) => { last = data; waits = false; paint(); });
  // What was asked for stands at once in the headings, whoever sorts.
  const change = (more) => {
    Object.assign(view, more);
    waits = trials.elsewhere;
    show();
    if (!waits) return;
    feed.recall();
    update();
  };
  const sorted = (name) => (view.sort === name ? { asc: "ascending", desc: "descending" }[view.order] : null);
  const column = (name, label, numeric, title) => el("th", { scope: "col", title, class: numeric ? "number" : null, "aria-sort": sorted(name) },
    el("button", { type: "button", "data-key": `sort-${name}`, onclick: () => change({ sort: name, offset: 0, order: view.sort === name && view.order === "asc" ? "desc" : "asc" }) }, label));
  const choose = (trial, on) => {
    if (on && chosen.size < MOST) chosen.add(trial); else chosen.delete(trial);
    show();
  };
  function show() {
    if (trials.ready) last = trials.page(view);
    if (last) paint();
  }
  function paint() {
    const numeric = Object.fromEntries(last.params.map((p) => [p, last.rows.every((r) => typeof r.params[p] !== "string")]));
    const header = el("tr", null, el("th", { scope: "col" }, el("span", { class: "unseen" }, "compare")),
      column("rank", "rank", true), column("trial", "trial", true), column("state", "state"),
      last.objectives.map((o) => column(`value:${o}`, o, true, last.repeats > 1 ? `${MEAN} the trial's seeds` : null)), column("step", last.repeats > 1 ? "seeds" : "step", true), column("seconds", "time", true, "how long it ran, without the pauses between"),
      last.params.map((p) => column(`param:${p}`, p, numeric[p])));
    const rows = last.rows.map((r) => el("tr", { class: r.rank === 1 ? "leader" : null },
      el("td", null, el("input", { type: "checkbox", "data-key": `choose-${r.trial}`, "aria-label": `Compare trial ${r.trial}`, onchange: (e) => choose(r.trial, e.target.checked) })),
      el("td", { class: "number" }, r.rank ?? "–"),
      el("td", { class: "number" }, el("a", { href: trialLink(run, r.trial), "data-key": `trial-${r.trial}` }, r.trial)),
      el("td", null, state(r.state)),
      last.objectives.map((o) => el("td", { class: "number" }, spread(r.values[o], r.spread[o]))),
      el("td", { class: "number" }, r.step),
      el("td", { class: "number" }, duration(r.seconds)),
      last.params.map((p) => el("td", { class: numeric[p] ? "number" : null }, setting(r.params[p])))));
    const ready = chosen.size > 1;
    redraw(place,
      el("div", { class: "head" }, el("h2", null, "Trials"), el("span", { class: "spring" }),
        el("label", null, "state ", el("select", { "data-key": "filter", onchange: (e) => change({ state: e.target.value, offset: 0 }) },
          ["", ...last.states].map((n) => el("option", { value: n, selected: n === view.state }, n ? words(n) : "all")))),
        el("a", { class: "button", "data-key": "compare", role: "link", "aria-disabled": ready ? null : "true", tabindex: 0,
          href: ready ? `${link(run)}/compare?trials=${[...chosen].sort((a, b) => a - b)}` : null,
          title: ready ? null : "choose two to eight trials in the table" }, ready ? `Compare ${chosen.size} trials` : "Compare")),
      el("div", { class: "scroll" }, el("table", { "aria-busy": waits ? "true" : null }, el("caption", { class: "unseen" }, "Trials"), el("thead", null, header), el("tbody", null, rows))),
      el("div", { class: "bar" },
        el("button", { type: "button", "data-key": "before", "aria-disabled": view.offset ? null : "true", onclick: () => view.offset && change({ offset: Math.max(view.offset - view.limit, 0) }) }, "Previous"),
        el("span", { class: "quiet" }, last.total ? `${last.offset + 1} to ${last.offset + last.rows.length} of ${last.total}` : "none"),
        el("button", { type: "button", "data-key": "after", "aria-disabled": view.offset + view.limit < last.total ? null : "true", onclick: () => view.offset + view.limit < last.total && change({ offset: view.offset + view.limit }) }, "Next")));
    for (const box of place.querySelectorAll("input[type=checkbox]")) box.checked = chosen.has(Number(box.dataset.key.slice(7)));
  }
  return { feed, show };
}

// -- a trial --------------------------------------------------------------------------------

function trialPage(run, trial) {
  const body = el("div");
  MAIN.replaceChildren(body);
  const path = `studies/${run}/trials/${trial}`;
  const show = (t) => {
    crumbs([t.study.name, link(run)], [`Trial ${t.trial}`]);
    const scroll = document.documentElement.scrollTop;
    redraw(body, ...trialParts(t, run));
    document.documentElement.scrollTop = scroll;
    for (const [name, points] of Object.entries(t.curves)) {
      const place = body.querySelector(`figure[data-curve="${CSS.escape(name)}"]`);
      draw(place, () => curveChart(place, [{ name, points, colour: 0 }], name));
    }
  };
  const soon = known(path) ? null : trialsOf(run).view(trial);
  if (soon) show(soon);
  begin(new Feed(() => path, show), new Feed(() => `studies/${run}`, (s) => follow(run, s, () => {})));
}

function trialParts(t, run) {
  const step = (label, n, key) => (n === null ? null : el("a", { class: "button", href: trialLink(run, n), "data-key": key }, label));
  const other = t.best && t.best.trial !== t.trial ? t.best : null;
  const tags = t.tags || {};
  const facts = { state: words(t.state), reason: tags["hpo.reason"], started: new Date(t.start).toLocaleString(), time: duration(t.seconds), [t.study.repeats > 1 ? "seeds" : "steps"]: t.step,
    attempt: tags["hpo.attempt"], worker: tags["hpo.worker"], seed: t.study.repeats > 1 ? null : tags["hpo.seed"], "goes on from trial": tags["hpo.parent_trial"],
    "checkpoint at step": tags["hpo.checkpoint_step"], "why this configuration": tags["hpo.note"] };
  const names = ordered({ ...t.params, ...other?.params }, t.study.params || []);
  return [
    el("div", { class: "card" },
      el("div", { class: "head" }, el("h1", null, `Trial ${t.trial}`), state(t.state), el("span", { class: "spring" }),
        step("Previous", t.before, "before"), step("Next", t.after, "after"),
        other ? el("a", { class: "button", "data-key": "compare", href: `${link(run)}/compare?trials=${t.trial},${other.trial}` }, `Compare with the best (${other.trial})`) : null),
      el("p", { class: "big" }, scores(t.values, t.spread) || "no value"),
      Object.keys(t.spread).length ? el("p", null, `${MEAN} ${t.step < t.study.repeats ? `the first ${t.step} of ` : ""}${t.study.repeats} seeds`) : null,
      el("p", { class: "quiet" }, t.rank ? `place ${t.rank} of ${t.of} complete trials · ` : "", tags["hpo.outside_space"] ? "outside of the space since its edit · " : "", el("a", { href: runLink(t.study.experiment_id, t.run_id), "data-key": "mlflow" }, "run in MLflow"))),
    el("div", { class: "columns" },
      el("section", { class: "card" }, el("h2", null, "Configuration"), el("div", { class: "scroll" }, el("table", null,
        el("thead", null, el("tr", null, el("th", { scope: "col" }, "parameter"), el("th", { scope: "col", class: "number" }, "value"), other ? el("th", { scope: "col", class: "number" }, `best (trial ${other.trial})`) : null)),
        el("tbody", null, names.map((n) => el("tr", null, el("th", { scope: "row" }, n), el("td", { class: "number wide" }, setting(t.params[n])), other ? el("td", { class: "number wide" }, setting(other.params[n])) : null)))))),
      el("section", { class: "card" }, el("h2", null, "Facts"), el("dl", { class: "left" }, Object.entries(facts).filter(([, v]) => v).map(([n, v]) => [el("dt", null, n), el("dd", null, text(v))])))),
    Object.keys(t.curves).length ? el("section", { class: "card" }, el("h2", null, "Curves"), el("div", { class: "curves" }, Object.keys(t.curves).map((n) => el("div", null, el("h3", null, n), el("figure", { "data-curve": n }))))) : null,
    el("section", { class: "card" }, el("h2", null, "Metrics"), el("dl", { class: "left" }, Object.entries(t.metrics).map(([n, v]) => [el("dt", null, n), el("dd", null, number(v))]))),
  ].filter(Boolean);
}

// -- comparison -----------------------------------------------------------------------------

function comparePage(run, query) {
  const body = el("div");
  MAIN.replaceChildren(body);
  const chosen = new URLSearchParams(query).get("trials") || "";
  const path = `studies/${run}/compare?trials=${encodeURIComponent(chosen)}`;
  const show = (data) => {
    crumbs([data.study.name, link(run)], [`Trials ${data.trials.map((t) => t.trial).join(", ")}`]);
    const curves = [...new Set(data.trials.flatMap((t) => Object.keys(t.curves)))];
    redraw(body, el("div", { class: "head" }, el("h1", null, "Compare trials")), el("section", { class: "card" }, comparison(data, run)),
      curves.length ? el("section", { class: "card" }, el("h2", null, "Curves"),
        el("ul", { class: "legend" }, data.trials.map((t, i) => el("li", { class: `swatch s${i}` }, `trial ${t.trial}`))),
        el("div", { class: "curves" }, curves.map((n) => el("div", null, el("h3", null, n), el("figure", { "data-curve": n }))))) : "");
    for (const name of curves) {
      const place = body.querySelector(`figure[data-curve="${CSS.escape(name)}"]`);
      const series = data.trials.map((t, colour) => ({ name: `trial ${t.trial}`, points: t.curves[name], colour })).filter((s) => s.points);
      draw(place, () => curveChart(place, series, name));
    }
  };
  const soon = known(path) ? [] : chosen.split(",").map((n) => trialsOf(run).view(Number(n)));
  if (soon.length && soon.every(Boolean)) show({ study: soon[0].study, params: soon[0].study.params, trials: soon });
  begin(new Feed(() => path, show), new Feed(() => `studies/${run}`, (s) => follow(run, s, () => {})));
}

function comparison(data, run) {
  const row = (name, values, mark) => {
    const differs = mark && new Set(values.map((v) => JSON.stringify(v))).size > 1;
    return el("tr", { class: differs ? "differs" : null }, el("th", { scope: "row" }, name, differs ? el("span", { class: "unseen" }, " (differs)") : null),
      values.map((v) => el("td", { class: "number wide" }, v instanceof Node ? v : number(v))));
  };
  const objectives = Object.keys(data.study.objectives);
  const declared = data.params.concat([...new Set(data.trials.flatMap((t) => Object.keys(t.params)))].filter((p) => !data.params.includes(p)));
  const used = declared.filter((p) => data.trials.some((t) => p in t.params));
  const group = (name) => el("tr", null, el("th", { scope: "colgroup", colspan: data.trials.length + 1 }, el("h2", null, name)));
  return el("div", { class: "scroll" }, el("table", null,
    el("caption", { class: "note" }, "Parameters that differ are marked"),
    el("thead", null, el("tr", null, el("th", { scope: "col" }, ""), data.trials.map((t, i) => el("th", { scope: "col", class: "number" }, el("a", { class: `swatch s${i}`, href: trialLink(run, t.trial), "data-key": `t${t.trial}` }, `trial ${t.trial}`))))),
    el("tbody", null,
      row("state", data.trials.map((t) => state(t.state))), row("rank", data.trials.map((t) => t.rank)),
      objectives.map((o) => row(o, data.trials.map((t) => spread(t.values[o], t.spread[o])))), row("time", data.trials.map((t) => duration(t.seconds))), row(data.study.repeats > 1 ? "seeds" : "step", data.trials.map((t) => t.step)),
      group("Parameters"), used.map((p) => row(p, data.trials.map((t) => setting(t.params[p])), true)))));
}

// -- which page -----------------------------------------------------------------------------

function route() {
  const [, run, kind, trial] = location.pathname.slice(BASE.length).match(/^\/studies\/([^/]+)(?:\/(trials|compare)(?:\/(\d+))?)?$/) || [];
  const kept = [...studyPages.values()].map((page) => page.body);
  for (const place of charts.keys()) if (!kept.some((body) => body.contains(place))) charts.delete(place);
  if (DIALOG.open) DIALOG.close();
  missing = false;
  // Until it is known whose page this is.
  if (run) crumbs(["\u2026"]);
  if (!run) listPage();
  else if (kind === "trials") trialPage(run, Number(trial));
  else if (kind === "compare") comparePage(run, location.search);
  else studyPage(run);
  update();
}

// Our own pages replace each other without loading anything; what they have in common stays.
function go(href) {
  history.pushState(null, "", href);
  route();
  scrollTo(0, 0);
  MAIN.focus({ preventScroll: true });
}

addEventListener("popstate", route);
document.addEventListener("click", (e) => {
  const a = e.target.closest("a[href]");
  if (!a || e.defaultPrevented || e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
  const url = new URL(a.href);
  const ours = url.origin === location.origin && !url.hash && (url.pathname === BASE || url.pathname.startsWith(`${BASE}/studies/`));
  if (!ours) return;
  e.preventDefault();
  go(url.pathname + url.search);
});
route();
