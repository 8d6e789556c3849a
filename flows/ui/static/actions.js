// What can be done to a study, each in a dialog: the question, its terms, and what came of it.
"use strict";

const DIALOG = document.getElementById("dialog");

// Fields are [name, label, type, value, when]; ``when``: the gate that they belong to.
// The totals that a study can have, by what its tag calls them: field, label, type.
const TOTALS = {
  trials: ["trials", "New total of trials", "number"],
  seconds: ["timeout", "New total of seconds", "decimal"],
  steps: ["max_total_steps", "New total of all trials' steps", "number"],
  cost: ["max_cost", "New total of all trials' seconds", "decimal"],
  failures: ["max_failures", "Failed trials after which it stops", "number"],
};

// One for each limit that the study has; the first of them is what most studies end by.
function totals({ limits }) {
  return Object.keys(TOTALS).filter((limit) => limits[limit]).map((limit, i) => {
    const [name, label, type] = TOTALS[limit];
    return [name, `${label} (now ${limits[limit]})`, type, i ? "" : 2 * limits[limit]];
  });
}

const QUESTIONS = {
  cancel: (s) => [`Cancel ${s.name}?`, "What runs is stopped within seconds. Resume goes on with it.", "Cancel the study", []],
  resume: (s) => [`Resume ${s.name}?`, "It goes on on the server's machine, with the terms it was started with.", "Resume", []],
  extend: (s) => [`Extend ${s.name}`, "It goes on at once, on the server's machine.", "Extend", totals(s)],
  retry: (s) => [`Run the failed trials of ${s.name} once more?`, "It goes on at once, on the server's machine.", "Retry", []],
  promote: (s) => [`Promote a trial of ${s.name}`, "Its model gets the alias if it beats the model that has it now. A model that was not kept is fitted first, which takes as long as a trial.", "Promote",
    [["trial", "Trial", "number", s.best_trial], ["model", "Registered model (empty: the study's own)", "text", ""], ["alias", "Alias", "text", "champion"],
      ["gate", "Gate: it must beat the alias's holder", "choice", [["margin", "in its score on the same held-out data"], ["folds", "in a paired test over the same folds"]]],
      ["margin", "by more than", "decimal", 0], ["metric", "in the metric (empty: the tuned one)", "text", "", "margin"], ["level", "with p at most", "decimal", 0.05, "folds"]]],
};

function field([name, label, type, value, when]) {
  const id = `field-${name}`;
  if (type === "choice") {
    return el("fieldset", null, el("legend", null, label), value.map(([choice, about], i) => el("label", { class: "choice" },
      el("input", { type: "radio", id: i ? `${id}-${choice}` : id, name, value: choice, checked: !i }), about)));
  }
  const numeric = type === "number" || type === "decimal";
  return el("div", { "data-when": when }, el("label", { for: id }, label), el("input", {
    id, name, type: numeric ? "number" : type, value: value ?? "", min: numeric ? 0 : null, step: type === "decimal" ? "any" : null, required: type === "number" && value !== "",
  }));
}

function openDialog(s, run, action) {
  const [title, about, verb, fields] = QUESTIONS[action](s);
  const parts = fields.map(field);
  // The terms of a gate stand with it.
  const gates = fields.findIndex(([, , type]) => type === "choice");
  if (gates >= 0) parts[gates].append(...parts.splice(gates + 1));
  const message = el("p", { class: "message", role: "status" });
  const submit = el("button", { class: "main", type: "submit" }, verb);
  const close = el("button", { type: "button", onclick: () => DIALOG.close() }, "Close");
  const rehearse = action === "promote" ? el("button", { type: "button", onclick: () => form.reportValidity() && send(true) }, "Only check") : null;
  const form = el("form", { method: "dialog", onsubmit: (e) => { e.preventDefault(); send(false); } },
    el("h2", { id: "dialog-title" }, title), el("p", { class: "quiet" }, about),
    parts,
    message, el("div", { class: "bar" }, close, rehearse, submit));
  async function send(dry) {
    if (submit.disabled) return;
    const body = dry ? { dry_run: true } : {};
    const gate = form.elements.gate?.value;
    for (const [name, , type, , when] of fields) {
      const value = form.elements[name].value.trim();
      if (value && (!when || when === gate)) body[name] = type === "number" || type === "decimal" ? Number(value) : value;
    }
    submit.disabled = true;
    message.className = "message";
    message.textContent = "Working ...";
    try {
      const answer = await fetch(`${BASE}/api/studies/${run}/actions/${action}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const said = await answer.json();
      message.className = `message ${answer.ok ? "good" : "bad"}`;
      message.textContent = said.message;
    } catch {
      message.className = "message bad";
      message.textContent = "The server does not answer.";
    }
    submit.disabled = false;
    update();
  }
  const fit = () => { for (const part of form.querySelectorAll("[data-when]")) part.hidden = part.dataset.when !== form.elements.gate.value; };
  form.addEventListener("change", fit);
  fit();
  // The button may have been drawn again meanwhile, which the browser would not find.
  DIALOG.onclose = () => document.querySelector(`[data-key="${action}"]`)?.focus();
  DIALOG.replaceChildren(form);
  DIALOG.showModal();
}

