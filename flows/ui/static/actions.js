// What can be done to a study, each in a dialog: the question, its terms, and what came of it.
"use strict";

const DIALOG = document.getElementById("dialog");

const QUESTIONS = {
  cancel: (s) => [`Cancel ${s.name}?`, "What runs is stopped within seconds. Resume goes on with it.", "Cancel the study", []],
  resume: (s) => [`Resume ${s.name}?`, "It goes on on the server's machine, with the terms it was started with.", "Resume", []],
  extend: (s) => [`Extend ${s.name}`, "It goes on at once, on the server's machine.", "Extend", [["trials", "New total of trials", "number", 2 * (s.planned || s.done)]]],
  retry: (s) => [`Run the failed trials of ${s.name} once more?`, "It goes on at once, on the server's machine.", "Retry", []],
  promote: (s) => [`Promote a trial of ${s.name}`, "Its model gets the alias if it beats the model that has it now. A model that was not kept is fitted first, which takes as long as a trial.", "Promote",
    [["trial", "Trial", "number", s.best_trial], ["model", "Registered model (empty: the study's own)", "text", ""], ["alias", "Alias", "text", "champion"]]],
};

function openDialog(s, run, action) {
  const [title, about, verb, fields] = QUESTIONS[action](s);
  const message = el("p", { class: "message", role: "status" });
  const submit = el("button", { class: "main", type: "submit" }, verb);
  const close = el("button", { type: "button", onclick: () => DIALOG.close() }, "Close");
  const rehearse = action === "promote" ? el("button", { type: "button", onclick: () => send(true) }, "Only check") : null;
  const form = el("form", { method: "dialog", onsubmit: (e) => { e.preventDefault(); send(false); } },
    el("h2", { id: "dialog-title" }, title), el("p", { class: "quiet" }, about),
    fields.map(([name, label, type, value]) => [el("label", { for: `field-${name}` }, label),
      el("input", { id: `field-${name}`, name, type, value: value ?? "", min: type === "number" ? 0 : null, required: type === "number" })]),
    message, el("div", { class: "bar" }, close, rehearse, submit));
  async function send(dry) {
    if (submit.disabled) return;
    const body = dry ? { dry_run: true } : {};
    for (const [name, , type] of fields) {
      const value = form.elements[name].value.trim();
      if (value) body[name] = type === "number" ? Number(value) : value;
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
  DIALOG.replaceChildren(form);
  DIALOG.showModal();
}

