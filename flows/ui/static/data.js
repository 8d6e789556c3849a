// What the pages know: answers kept by address, and a study's trials, so that a click needs no server.
"use strict";

const PREFIX = document.querySelector('meta[name="prefix"]').content;
const BASE = `${PREFIX}/hpo`;
const KEPT = 60;
const AT_ONCE = 25;

// Newest answers by path, the one used longest ago first: a page that was seen is drawn again at once.
const answers = new Map();
function remember(path, answer) {
  answers.delete(path);
  answers.set(path, answer);
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
}
const known = (path) => answers.get(path)?.data;

async function get(path, tag) {
  const headers = tag ? { "If-None-Match": tag } : {};
  const answer = await fetch(`${BASE}/api/${path}`, { headers, cache: "no-store" });
  if (answer.status === 304) return null;
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.message || `the server said ${answer.status}`);
  return { tag: answer.headers.get("ETag"), data };
}

// One address that is asked for again and again; ``draw`` is called with what is new. ``path`` may say null: not now.
class Feed {
  constructor(path, draw) { this.path = path; this.draw = draw; this.shown = null; this.asked = null; }
  // What was answered before, without asking.
  recall() {
    const answer = answers.get(this.path());
    if (!answer || answer === this.shown || !feeds.includes(this)) return null;
    this.shown = answer;
    return this.draw(answer.data);
  }
  // Whoever asks while the answer is under way waits for that one.
  ask() {
    const path = this.path();
    if (path === null) return null;
    if (this.asked?.path !== path) {
      const asked = { path, answer: this.fetch(path).finally(() => { if (this.asked === asked) this.asked = null; }) };
      this.asked = asked;
    }
    return this.asked.answer;
  }
  async fetch(path) {
    const before = answers.get(path);
    const answer = await get(path, before?.tag);
    if (answer) remember(path, answer);
    if (path !== this.path()) return;
    // What was not drawn whole is drawn again.
    try { await this.recall(); } catch (error) { this.shown = null; throw error; }
  }
}

// -- a study's trials -----------------------------------------------------------------------

// Every trial of a study, in blocks by number. All are asked for when its page opens, beside the study and not after it, and
// the table is drawn of them: whatever can be clicked has its answer here. The study's page names the content of each block;
// those that changed are fetched, whichever of the server's processes answers. Larger studies are sorted and filtered by
// the server.
class Trials {
  constructor(run) { this.run = run; this.study = null; this.work = null; this.blocks = new Map(); this.ready = false; this.late = 0; this.forget(); }
  forget() { this.orders = new Map(); this.flat = null; this.ranked = null; this.rank = null; }

  // Too many of them, or none.
  get elsewhere() { return this.study !== null && !this.study.blocks; }

  // Bring the trials up to date with the study; without one, ask for all of them. Whoever comes while that is under way
  // waits for it too. Whether anything changed.
  follow(study = null) {
    this.study = study ?? this.study;
    this.work ??= this.catchUp().finally(() => { this.work = null; });
    return this.work;
  }

  async catchUp() {
    let changed = !this.ready;
    if (!this.study) await this.fetch();
    for (let seen = null; seen !== this.study;) { seen = this.study; changed = (await this.update(seen.blocks || {})) || changed; }
    const front = this.study.front.join();
    changed ||= front !== this.front;
    this.front = front;
    this.ready = !this.elsewhere;
    if (changed) this.forget();
    return changed;
  }

  async update(tags) {
    const gone = [...this.blocks.keys()].filter((i) => !(i in tags));
    for (const i of gone) this.blocks.delete(i);
    const stale = Object.keys(tags).filter((i) => this.blocks.get(i)?.tag !== tags[i]);
    for (let at = 0; at < stale.length; at += AT_ONCE) await this.fetch(`?of=${stale.slice(at, at + AT_ONCE)}`);
    return gone.length + stale.length > 0;
  }

  async fetch(some = "") {
    const { data } = await get(`studies/${this.run}/blocks${some}`);
    this.late = data.now - Date.now();
    this.study ??= data.study;
    for (const [i, [tag, rows]] of Object.entries(data.blocks)) this.blocks.set(i, { tag, rows: rows.map(asTrial) });
  }

  get all() {
    this.flat ??= [...this.blocks.entries()].sort((a, b) => a[0] - b[0]).flatMap(([, block]) => block.rows);
    return this.flat;
  }

  // The trials that may be the best, as the server ranks them: the Pareto front, then by the first objective. Those that
  // the space cannot have since its edit rank while there are no others.
  get best() {
    if (this.ranked) return this.ranked;
    const objectives = Object.entries(this.study.objectives);
    const [first, direction] = objectives[0] || [];
    const sign = direction === "max" ? -1 : 1;
    const front = new Set(this.study.front);
    const full = this.all.filter((t) => t.state === "complete" && objectives.every(([n]) => n in t.values));
    const inside = full.filter((t) => !t.outside);
    const late = (t) => (front.size && !front.has(t.trial) ? 1 : 0);
    this.ranked = (inside.length ? inside : full).sort((a, b) => late(a) - late(b) || sign * (a.values[first] - b.values[first]) || a.trial - b.trial);
    return this.ranked;
  }

  get places() {
    this.rank ??= new Map(this.best.map((t, i) => [t.trial, i + 1]));
    return this.rank;
  }

  // How long it has run, without the pauses between its segments.
  seconds(t) {
    const begin = t.busy === undefined ? t.start : t.since;
    const running = begin === undefined ? 0 : Math.max((t.end ?? Date.now() + this.late) - begin, 0) / 1000;
    return (t.busy ?? 0) + running;
  }
  row(t) { return { ...t, rank: this.places.get(t.trial) ?? null, seconds: this.seconds(t) }; }
  find(number) { return this.all.find((t) => t.trial === number); }

  key(sort) {
    const [kind, ...rest] = sort.split(":");
    const name = rest.join(":");
    if (kind === "value") return (t) => t.values[name];
    if (kind === "param") return (t) => t.params[name];
    return kind === "seconds" ? (t) => this.seconds(t) : (t) => t[kind];
  }

  // All trials in that order, those without the value last; kept until something changes. Sorting ten thousand takes
  // longer than a click may, so the other order is this one read backwards.
  ordered(sort, order) {
    if (!this.orders.has(sort)) this.orders.set(sort, sort === "rank" ? this.byRank() : this.byKey(this.key(sort)));
    const [have, lack] = this.orders.get(sort);
    return [...(order === "desc" ? [...have].reverse() : have), ...lack];
  }

  byRank() { return [this.best, this.all.filter((t) => !this.places.has(t.trial)).reverse()]; }

  byKey(key) {
    const keyed = this.all.map((t) => [comparable(key(t)), t]);
    const have = keyed.filter(([k]) => k !== undefined);
    have.sort(([a, t], [b, u]) => compare(a, b) || t.trial - u.trial);
    const lack = keyed.filter(([k]) => k === undefined).reverse();
    return [have, lack].map((pairs) => pairs.map(([, t]) => t));
  }

  // One page of the table, as the server would make it.
  page({ sort, order, state: only, offset, limit }) {
    const found = only ? this.ordered(sort, order).filter((t) => t.state === only) : this.ordered(sort, order);
    return {
      total: found.length, offset, params: this.study.params, objectives: Object.keys(this.study.objectives), repeats: this.study.repeats,
      states: [...new Set(this.all.map((t) => t.state))].sort(), rows: found.slice(offset, offset + limit).map((t) => this.row(t)),
    };
  }

  // A trial's page but for what only its run has: curves, tags, other metrics.
  view(number) {
    const t = this.ready ? this.find(number) : undefined;
    if (!t) return null;
    const [best] = this.best;
    const numbers = this.all;
    const at = numbers.indexOf(t);
    return {
      ...this.row(t), of: this.places.size, study: this.study, curves: {}, metrics: t.values, tags: null,
      best: best ? { trial: best.trial, params: best.params } : null, before: numbers[at - 1]?.trial ?? null, after: numbers[at + 1]?.trial ?? null,
    };
  }
}

const asTrial = ([trial, run_id, state, start, end, step, values, params, { spread = {}, busy, since, outside = false } = {}]) => ({ trial, run_id, state, start, end, step, values, params, spread, busy, since, outside });

// Numbers by size, before everything else by its text.
function comparable(value) {
  if (value === null || value === undefined || typeof value === "number") return value ?? undefined;
  return typeof value === "string" ? value : JSON.stringify(value);
}
function compare(a, b) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

const stores = new Map();
const MOST_STORES = 4;
function trialsOf(run) {
  const found = stores.get(run) || new Trials(run);
  stores.delete(run);
  stores.set(run, found);
  if (stores.size > MOST_STORES) stores.delete(stores.keys().next().value);
  return found;
}
