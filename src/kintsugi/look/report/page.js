"use strict";
// Everything that a model or a data set wrote reaches the page as text nodes and attribute values: never as markup.
(async () => {
  const PAGE = 10, KEPT_BLOCKS = 60, LONG = 1500, NEAR = 40;
  const $ = (selector) => document.querySelector(selector);
  const root = document.documentElement;

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function el(name, properties, ...children) {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
  }

  // What cannot be seen, or would turn the text around, is written out.
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
  const visible = (text) => String(text).replace(HIDDEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
  const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

  // Credit comes by reason: {"seam": [0, -10, 0], "group": [0.7, 0.7, 0.7]}; null where a text has no training row.
  const total = (credit) => Object.values(credit || {}).reduce((sum, values) => values.map((v, i) => v + (sum[i] || 0)), []);
  function reasons(credit, n) {
    const given = Object.entries(credit).filter(([, values]) => values[n]);
    const words = given.map(([why, values]) => `${why} ${signed(values[n])}`).join(", ");
    return words ? `credit ${words}` + (given.length > 1 ? ` = ${signed(total(credit)[n])}` : "") : "no credit";
  }

  const data = await unpack($("#data").textContent);
  const packed = new Map([...document.querySelectorAll(".block")].map((n) => [Number(n.dataset.step), n.textContent]));
  const opened = new Map();
  async function problemsOf(step) {
    if (!opened.has(step)) {
      if (opened.size >= KEPT_BLOCKS) opened.delete(opened.keys().next().value);
      opened.set(step, await unpack(packed.get(step)));
    }
    return opened.get(step);
  }

  // The address holds what is looked at: a link to a seam can be sent to someone.
  const FILTERS = ["step", "verdict", "fate", "audit", "problem", "q", "order"];
  // Entries are [step, problem, rollout, id, verdict, fate, audits, suspicions, distance, edits].
  const ORDERS = {
    "suspicious first": (a, b) => b[7].length - a[7].length, step: (a, b) => a[0] - b[0],
    "distance, largest first": (a, b) => b[8] - a[8], "edits, most first": (a, b) => b[9] - a[9],
  };
  const form = $("#filters");
  const SECTIONS = ["", "overview", "seams", "about"];
  const start = data.index.some((e) => e[5] === "mended") ? "mended" : "";
  let page = 0, turn = 0, found = [];

  function address() {
    const hash = location.hash.slice(1);
    if (SECTIONS.includes(hash)) return { fate: start };
    const said = Object.fromEntries(new URLSearchParams(hash));
    const whole = "rollout" in said || FILTERS.some((k) => k !== "step" && k !== "order" && k in said);
    if (!whole) said.fate = data.index.some((e) => e[0] === Number(said.step) && e[5] === "mended") ? "mended" : "";
    return said;
  }

  function fill(name, values, all) {
    form.elements[name].append(el("option", { value: "", textContent: all }), ...values.map((v) => el("option", { value: v, textContent: v })));
  }
  const distinct = (values) => [...new Set(values)];
  fill("step", data.steps.map(String), "all");
  fill("verdict", distinct(data.index.map((e) => e[4])), "any");
  fill("fate", distinct(data.index.map((e) => e[5])).filter(Boolean), "any");
  fill("audit", distinct(data.index.flatMap((e) => e[6])), "any");
  form.elements.order.append(...Object.keys(ORDERS).map((v, i) => el("option", { value: i ? v : "", textContent: v })));
  $("#problems").append(...distinct(data.index.map((e) => e[3])).slice(0, 500).map((v) => el("option", { value: v })));

  function filtered(said) {
    return data.index.filter((e) =>
      (!said.step || e[0] === Number(said.step)) && (!said.verdict || e[4] === said.verdict) && (!said.fate || e[5] === said.fate) &&
      (!said.audit || e[6].includes(said.audit)) && (said.rollout === undefined || e[2] === Number(said.rollout)) &&
      (!said.problem || (said.rollout === undefined ? e[3].includes(said.problem) : e[3] === said.problem)));
  }

  async function searched(entries, wanted, mine) {
    const hits = [], low = wanted.toLowerCase();
    for (const entry of entries) {
      if (mine !== turn) return [];
      const problem = (await problemsOf(entry[0]))[entry[1]];
      const mends = problem.mends.filter((m) => m.failed === problem.rollouts[entry[2]].index);
      const texts = [problem.id, problem.question, problem.rollouts[entry[2]].text, ...mends.map((m) => m.text)];
      if (texts.some((t) => t.toLowerCase().includes(low))) hits.push(entry);
    }
    return hits;
  }

  function tokens(pieces, credit, seam, edits, mask, wrong) {
    const box = el("div", { className: "text" });
    const sum = total(credit), most = Math.max(...sum.map(Math.abs), 1e-9);
    const marked = pieces.map((_, i) => i === wrong || edits.has(i) || (mask && mask[i]));
    const near = pieces.length <= LONG ? null : pieces.map((_, i) => marked.slice(Math.max(0, i - NEAR), i + NEAR).some(Boolean));
    for (let i = 0; i < pieces.length; i++) {
      if (near && !near[i]) { // far from any edit a long text is one piece: a node a token would make the page slow
        let text = "";
        while (i < pieces.length && !near[i]) text += pieces[i++];
        i--;
        box.append(visible(text));
        continue;
      }
      const value = sum[i] || 0, inSeam = Boolean(mask && mask[i]);
      const node = el("span", { className: "tok", textContent: visible(marked[i] ? pieces[i].replaceAll("\n", "⏎\n") : pieces[i]), tabIndex: marked[i] ? 0 : -1 });
      node.dataset.n = i;
      node.dataset.side = seam;
      if (value) {
        node.classList.add(value < 0 ? "blame" : "praise");
        node.style.setProperty("--a", `${Math.round(12 + 58 * Math.abs(value) / most)}%`);
      }
      if (edits.has(i)) node.classList.add("edit");
      if (i === wrong) node.classList.add("wrong");
      if (inSeam) node.classList.add("seam");
      if (marked[i]) {
        node.setAttribute("role", "button");
        node.setAttribute("aria-label", `${pieces[i]}, token ${i}, ${inSeam ? `in the seam, ${reasons(credit || {}, i)}` : "differs, not trained on"}`);
      }
      box.append(node);
    }
    return box;
  }

  function side(title, text, pieces, credit, name, edits, mask, wrong) {
    const body = pieces && pieces.length ? tokens(pieces, credit, name, edits, mask, wrong) : el("div", { className: "text", textContent: visible(text) });
    const one = !(pieces && pieces.length) && total(credit).length === 1 ? `, advantage ${signed(total(credit)[0])}` : "";
    return el("div", {}, el("h4", { textContent: title + one }), body);
  }

  function folded(title, text) {
    return el("details", {}, el("summary", { textContent: title }), el("div", { className: "text", textContent: visible(text) }));
  }

  function describe(facts, node) {
    const n = Number(node.dataset.n), own = facts[node.dataset.side];
    const words = [`token ${n} “${visible(own.pieces[n])}”`, `id ${own.ids[n]}`];
    const logprob = own.logprobs && own.logprobs[n];
    if (typeof logprob === "number") words.push(`log-probability ${logprob.toFixed(3)} (p = ${Math.exp(logprob).toFixed(3)})`);
    if (own.mask) words.push(own.mask[n] ? "in the seam" : "outside the seam");
    words.push(own.credit ? reasons(own.credit, n) : "no training row");
    const edit = own.edits.find((e) => e[own.at] === n && e[0] !== (own.at === 1 ? "insert" : "delete"));
    if (edit) {
      const other = facts[own.at === 1 ? "repaired" : "failed"], there = edit[own.at === 1 ? 2 : 1];
      const what = edit[0] === "replace" ? `${own.at === 1 ? "replaced by" : "in place of"} “${visible(other.pieces[there] ?? "")}”` : edit[0] === "delete" ? "left out of the repair" : "put in by the repair";
      words.push(`${what}, edit ${own.edits.indexOf(edit) + 1} of ${own.edits.length}`);
    }
    return words.join(" · ");
  }

  function corrected(rollout, seam) {
    const words = seam.edits.slice(0, seam.kept).map(([kind, i, k]) => {
      const old = `“${visible((rollout.pieces || [])[i] ?? "")}”`, fresh = `“${visible(seam.pieces[k] ?? "")}”`;
      return kind === "replace" ? `token ${i}: ${old} became ${fresh}` : kind === "delete" ? `token ${i}: ${old} was left out` : `before token ${i}: ${fresh} was put in`;
    });
    return words.slice(0, 3).join("; ") + (words.length > 3 ? `; and ${words.length - 3} more` : "");
  }

  function card(entry, problem) {
    const [step, , j, id, verdict, fate] = entry, rollout = problem.rollouts[j];
    const link = new URLSearchParams({ step, problem: id, rollout: j });
    const mends = problem.mends.filter((m) => m.failed === rollout.index), mend = mends.find((m) => m.seam), seam = mend && mend.seam;
    const laid = !seam && mends.length ? mends[0].laid : null, pair = seam || laid;
    const at = (k, kind) => new Set(pair ? pair.edits.filter((e) => e[0] !== kind).map((e) => e[k]) : []);
    const facts = {
      failed: { pieces: rollout.pieces || [], ids: rollout.ids || [], logprobs: rollout.logprobs, credit: rollout.credit, mask: seam && seam.failed, edits: pair ? pair.edits : [], at: 1, wrong: rollout.wrong },
      repaired: pair && { pieces: pair.pieces, ids: pair.ids, logprobs: pair.logprobs, credit: pair.credit, mask: pair.repaired, edits: pair.edits, at: 2 },
    };
    const sides = el("div", { className: "sides" }, side(pair ? "failed" : "rollout", rollout.text, rollout.pieces, rollout.credit, "failed", at(1, "insert"), seam && seam.failed, rollout.wrong));
    if (laid) sides.append(side("the repair that was not taken", mends[0].text, laid.pieces, null, "repaired", at(2, "delete"), null));
    if (seam) sides.append(side(mend.sibling === null ? "its repair" : `its repair: a passing sibling, rollout ${mend.sibling}`, mend.text, seam.pieces, seam.credit, "repaired", at(2, "delete"), seam.repaired));
    const detail = el("output", { className: "detail" });
    const node = el("article", { className: `card ${fate}` },
      el("header", {}, el("h3", {}, el("a", { href: `#${link}`, textContent: visible(`step ${step} · ${id} · rollout ${j}`) })),
        el("span", { className: `badge ${verdict}`, textContent: verdict }), fate ? el("span", { className: `badge ${fate}`, textContent: fate }) : null,
        ...entry[7].map((sign) => el("span", { className: "badge suspect", textContent: sign })),
        rollout.cut ? el("span", { className: "badge fail", textContent: "cut off" }) : null, data.own ? null : el("span", { textContent: `reward ${rollout.reward}` })),
      el("div", { className: "question text", textContent: visible(problem.question) + (problem.gold ? `\ngold answer: ${visible(problem.gold)}` : "") + (data.own ? `\n${problem.rollouts.filter((r) => r.verdict === "pass").length} of ${problem.rollouts.length} rollouts of the group pass` : "") }), sides, detail);
    if (Number.isInteger(rollout.wrong)) {
      const away = seam && seam.edits.length ? seam.edits[0][1] - rollout.wrong : null;
      const where = away === null ? "" : away === 0 ? ": the seam begins there" : `: the seam begins ${Math.abs(away)} ${Math.abs(away) === 1 ? "token" : "tokens"} ${away < 0 ? "before it" : "after it"}`;
      node.append(el("p", { className: "why" }, el("b", { textContent: "True first error: " }), `token ${rollout.wrong} “${visible(rollout.pieces[rollout.wrong])}”${where}.`));
    }
    if (seam) {
      node.append(el("p", { className: "why" }, el("b", { textContent: "Corrected at " }), corrected(rollout, seam) + `. ${seam.kept} of ${seam.edits.length} ${seam.edits.length === 1 ? "edit" : "edits"} trained on (K* = ${seam.kept}).`));
      if (seam.reach) node.append(el("p", { className: "why" }, el("b", { textContent: "Reach: " }), seam.reach + "."));
      node.append(el("p", { className: "why" }, el("b", { textContent: "Why: " }), visible(mend.why) + "."));
    } else if (mends.length) {
      node.append(el("p", { className: "why" }, el("b", { textContent: "Not mended: " }), visible(distinct(mends.map((m) => m.why)).join("; ")) + "."));
    }
    if (mend) node.append(...mend.mode.map((m) => el("p", { className: "why" }, el("b", { textContent: "In repair mode: " }), `${signed(m.credit)} on every token that was written under the repair prompt, weight ${m.weight}.`)));
    if (rollout.message) node.append(folded("what the verifier said", rollout.message));
    const anchors = distinct((mend ? [mend] : mends).map((m) => m.anchor).filter((a) => a !== null));
    node.append(...anchors.map((a) => folded("the anchor that the repair was shown", a)));
    if (mend) node.append(...mend.checks.map((c) => folded(`check with ${c.edits} edits: ${c.verdict}`, c.text)));
    node.append(...mends.filter((m) => m !== mend && !(laid && m === mends[0])).map((m) => folded(`${mend ? "another repair" : "the repair"}: ${visible(m.why)}`, m.text)));
    node.choose = (token, keep) => {
      node.querySelectorAll(".chosen").forEach((t) => t.classList.remove("chosen"));
      token.classList.add("chosen");
      detail.textContent = describe(facts, token);
      if (keep) history.replaceState(null, "", `#${link}&side=${token.dataset.side}&token=${token.dataset.n}`);
    };
    return node;
  }

  async function render() {
    const mine = ++turn, said = address();
    for (const name of FILTERS) form.elements[name].value = said[name] ?? "";
    found = filtered(said).sort(ORDERS[said.order] || ORDERS["suspicious first"]);
    if (said.q) {
      $("#count").textContent = "searching …";
      found = await searched(found, said.q, mine);
    }
    if (mine !== turn) return;
    if (said.page) page = Math.max(0, Number(said.page) - 1 || 0);
    page = Math.min(page, Math.max(0, Math.ceil(found.length / PAGE) - 1));
    const shown = found.slice(page * PAGE, page * PAGE + PAGE), made = [];
    for (const entry of shown) made.push(card(entry, (await problemsOf(entry[0]))[entry[1]]));
    if (mine !== turn) return;
    $("#cards").replaceChildren(...made);
    $("#count").textContent = `${found.length.toLocaleString("en")} of ${data.index.length.toLocaleString("en")} rollouts` + (found.length ? "" : ": none matches these filters");
    $("#page").textContent = `${page + 1} / ${Math.max(1, Math.ceil(found.length / PAGE))}`;
    $("#pages").hidden = found.length <= PAGE;
    $("#back").disabled = page === 0;
    $("#next").disabled = (page + 1) * PAGE >= found.length;
    if (said.token !== undefined && made.length === 1) {
      const token = [...made[0].querySelectorAll(".tok")].find((t) => t.dataset.n === said.token && t.dataset.side === (said.side || "failed"));
      if (token) {
        made[0].choose(token, false);
        token.focus({ preventScroll: true });
        token.scrollIntoView({ block: "center" });
      }
    }
    root.dataset.ready = String(mine);
  }

  // A link to one rollout stops at its card, another at the seams.
  const stop = () => ("rollout" in address() && $(".card") || $("#seams")).scrollIntoView();
  const onToken = () => Boolean(document.activeElement && document.activeElement.classList.contains("tok"));
  form.addEventListener("input", (event) => {
    const said = {};
    for (const name of FILTERS) if (form.elements[name].value) said[name] = form.elements[name].value;
    said.fate ??= "";
    if (event.target.name === "step") delete said.problem; // what led to one card would hide every other step
    page = 0;
    history.replaceState(null, "", `#${new URLSearchParams(said)}`);
    render();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => { page = 0; history.replaceState(null, "", "#fate="); setTimeout(render); });
  addEventListener("hashchange", async () => {
    if (SECTIONS.includes(location.hash.slice(1))) return;
    page = 0;
    await render();
    if (onToken()) return;
    stop();
    $("#seams").focus({ preventScroll: true });
  });
  const turnTo = (by) => {
    page += by;
    history.replaceState(null, "", `#${new URLSearchParams({ ...address(), page: page + 1 })}`);
    render().then(() => { $("#seams").scrollIntoView(); $("#seams").focus({ preventScroll: true }); });
  };
  $("#back").addEventListener("click", () => turnTo(-1));
  $("#next").addEventListener("click", () => turnTo(1));
  $("#cards").addEventListener("click", (event) => { if (event.target.classList.contains("tok")) event.target.focus(); });
  $("#cards").addEventListener("focusin", (event) => {
    if (event.target.classList.contains("tok")) event.target.closest(".card").choose(event.target, true);
  });
  $("#cards").addEventListener("keydown", (event) => {
    if (!event.target.classList.contains("tok")) return;
    const next = event.key === "ArrowRight" ? event.target.nextElementSibling : event.key === "ArrowLeft" ? event.target.previousElementSibling : null;
    if (next) { next.focus(); event.preventDefault(); }
  });
  $("#theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  // A page that is watched renews itself where it is, whenever the run has written something.
  if (root.dataset.watch) setInterval(async () => {
    const answer = await fetch("version").catch(() => null);
    if (answer && answer.ok && await answer.text() !== root.dataset.watch) location.reload();
  }, 3000);
  await render();
  const hash = location.hash.slice(1);
  if (!SECTIONS.includes(hash) && !onToken()) stop();
})();
