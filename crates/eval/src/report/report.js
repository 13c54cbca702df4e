"use strict";
// The sample browser: filter, search and diff over the JSON in the page. Rows are made as they are scrolled to, and only
// from text nodes, so that nothing in a sample can become markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const controls = document.querySelector(".controls");
  const list = document.querySelector(".list");
  if (!data || !controls || data.samples.length === 0) return;
  const buttons = [...controls.querySelectorAll("button")];
  const by = controls.querySelector(".by");
  const candidate = controls.querySelector(".candidate");
  const search = controls.querySelector("input");
  const count = controls.querySelector(".count");
  const nothing = document.querySelector(".nothing");
  const more = document.querySelector(".further-samples");
  const STEP = 25;
  const SHORT_INPUT = 240;
  const state = { show: "all", by: "", candidate: data.subject, search: "" };
  let found = [];
  let shown = 0;

  // Control characters as their pictures: a browser would drop them.
  const pictured = (text) =>
    text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, (c) =>
      c === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0)));
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const element = (tag, name, ...children) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...children.map((child) => (typeof child === "string" ? pictured(child) : child)));
    return made;
  };

  // 1 passed, 0 failed, null nothing to say; by the score, a metric or a check.
  const passed = (answer) => {
    if (!answer) return null;
    if (state.by === "") return answer.s === null ? null : Number(answer.s === 1);
    const failed = (answer.f || []).map(([index]) => index);
    const [kind, name] = [state.by[0], state.by.slice(2)];
    const of = kind === "m" ? data.metrics[Number(name)][1] : [Number(name)];
    if (of.some((index) => failed.includes(index))) return 0;
    return of.every((index) => (answer.u || []).includes(index)) ? null : 1;
  };
  const grade = (answer) => (!answer ? null : state.by === "" ? answer.s : passed(answer));
  const fits = (sample) => {
    const answer = sample.answers[state.candidate];
    switch (state.show) {
      case "failed": return passed(answer) === 0;
      case "passed": return passed(answer) === 1;
      case "gained":
      case "lost": {
        const other = data.against === state.candidate ? data.subject : data.against;
        const [now, then] = [grade(answer), grade(sample.answers[other])];
        if (now === null || then === null) return false;
        return state.show === "gained" ? now > then : now < then;
      }
      default: return true;
    }
  };

  const words = new Map();
  const wordsOf = (sample) => {
    if (!words.has(sample)) {
      const answers = sample.answers.flatMap((a) => (a ? [a.o || "", a.e || "", ...(a.f || []).map(([, why]) => why)] : []));
      const meta = Object.values(sample.meta || {});
      words.set(sample, [sample.id, sample.input, text(sample.expected), ...meta, ...answers].join("\n").toLowerCase());
    }
    return words.get(sample);
  };

  // Which words of `given` are not in `expected`, by the longest common subsequence.
  const diff = (expected, given) => {
    const [a, b] = [expected, given].map((side) => side.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || []);
    if (a.length * b.length > 250000 || expected === given) return null;
    const width = b.length + 1;
    const lengths = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i -= 1) {
      for (let j = b.length - 1; j >= 0; j -= 1) {
        lengths[i * width + j] = a[i] === b[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
      }
    }
    const parts = [];
    const put = (kind, word) => {
      const last = parts[parts.length - 1];
      if (last && last[0] === kind) last[1] += word; else parts.push([kind, word]);
    };
    let [i, j] = [0, 0];
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) { put("", a[i]); i += 1; j += 1; }
      else if (j < b.length && (i === a.length || lengths[i * width + j + 1] >= lengths[(i + 1) * width + j])) { put("ins", b[j]); j += 1; }
      else { put("del", a[i]); i += 1; }
    }
    return lengths[0] > 0 ? parts : null;
  };
  const difference = (expected, given, isRight) => {
    const parts = isRight ? null : diff(expected, given);
    if (!parts) return [given === "" ? "—" : given];
    return parts.map(([kind, word]) => (kind ? element(kind, "", word) : pictured(word)));
  };

  const MARKS = { r: ["right", "✓"], p: ["partly", "◐"], w: ["wrong", "✗"], "-": ["none", "·"] };
  const mark = (letter) => {
    const [name, sign] = MARKS[letter];
    return element("span", `mark ${name}`, sign, element("span", "unseen", ` ${name === "none" ? "" : name}`));
  };
  const letterOf = (score) => (score === null ? "-" : score === 1 ? "r" : score > 0 ? "p" : "w");
  const objectOf = (answer) => {
    try {
      const value = JSON.parse(answer.o);
      return value && typeof value === "object" && !Array.isArray(value) ? value : null;
    } catch { return null; }
  };

  const fieldTable = (sample) => {
    const fields = typeof sample.expected === "string" ? null : Object.keys(sample.expected);
    const objects = sample.answers.map((answer) => (fields && answer && answer.o ? objectOf(answer) : null));
    const rows = (fields || ["answer"]).map((field, index) => {
      const expected = fields ? sample.expected[field] : sample.expected;
      const cells = sample.answers.map((answer, at) => {
        let given = "";
        let letter = "-";
        if (answer && fields) {
          letter = (answer.m || "")[index] || "-";
          const value = objects[at] ? objects[at][field] : undefined;
          given = value === undefined ? "" : text(value);
        } else if (answer) {
          letter = letterOf(answer.s);
          given = answer.o === null ? `(no answer: ${answer.e || "unknown"})` : answer.o;
        }
        const cell = element("td", MARKS[letter][0], mark(letter), element("span", "", ...difference(expected, given, letter === "r")));
        cell.dataset.label = data.roles[at];
        cell.dir = "auto";
        return cell;
      });
      const wanted = element("td", "", element("span", "", expected));
      wanted.dataset.label = "expected";
      wanted.dir = "auto";
      const head = element("th", "", field);
      head.scope = "row";
      return element("tr", "", head, wanted, ...cells);
    });
    const heads = ["", "expected", ...data.roles].map((name) => {
      const head = element("th", "", name);
      head.scope = "col";
      return head;
    });
    const table = element("table", "fields", element("thead", "", element("tr", "", ...heads)), element("tbody", "", ...rows));
    const raw = sample.answers.map((answer, at) => {
      if (!fields || !answer || objects[at]) return null;
      const whole = answer.o === null ? `(no answer: ${answer.e || "unknown"})` : answer.o;
      return folded(`${data.roles[at]} gave no JSON object: ${whole.slice(0, 90)}${whole.length > 90 ? "…" : ""}`, whole);
    });
    return [table, ...raw.filter(Boolean)];
  };
  const folded = (title, body) => {
    const inside = typeof body === "string" ? element("div", "text", body) : body;
    inside.dir = "auto";
    return element("details", "", element("summary", "", title), inside);
  };
  const article = (sample) => {
    const chips = sample.answers.map((answer, at) => {
      const score = answer && answer.s !== null ? `${Math.round(answer.s * 100)} %` : "–";
      const rank = at === data.subject ? "subject" : "other";
      return element("span", `chip ${rank}`, `${data.roles[at]} `, mark(answer ? letterOf(answer.s) : "-"), ` ${score}`);
    });
    const meta = Object.entries(sample.meta || {}).map(([name, value]) => `${name}: ${value}`).join(" · ");
    const head = element("header", "", element("h3", "", sample.id), ...chips);
    const failing = sample.answers.flatMap((answer, at) => (answer && answer.f ? [
      element("p", "small", element("b", "", data.roles[at])),
      element("ul", "failed", ...answer.f.map(([index, why]) => element("li", "", element("code", "", data.checks[index]), ` ${why}`))),
    ] : []));
    // An answer is judged by its question: a short one stands above it.
    const short = sample.input.length <= SHORT_INPUT;
    const below = element("div", "more", ...(short ? [] : [folded("Input", sample.input)]));
    if (failing.length) below.append(folded("Checks that failed", element("div", "", ...failing)));
    const made = element("article", "sample", head);
    if (meta) made.append(element("p", "meta", meta));
    if (short) {
      const asked = element("p", "asked", sample.input);
      asked.dir = "auto";
      made.append(asked);
    }
    made.append(...fieldTable(sample), below);
    return made;
  };

  const grow = (step) => {
    list.append(...found.slice(shown, shown + step).map(article));
    shown = Math.min(shown + step, found.length);
    more.hidden = shown >= found.length;
  };
  const apply = () => {
    const wanted = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    found = data.samples.filter((sample) => fits(sample) && wanted.every((word) => wordsOf(sample).includes(word)));
    list.replaceChildren();
    shown = 0;
    grow(STEP);
    const all = data.samples.length;
    const rest = data.left_out ? ` (${data.left_out} more are in the record only)` : "";
    count.textContent = (found.length === all ? `${all} samples` : `${found.length} of ${all} samples`) + rest;
    nothing.hidden = found.length > 0;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.show === state.show));
    [by.value, candidate.value, search.value] = [state.by, String(state.candidate), state.search];
  };

  const option = (value, name) => { const made = element("option", "", name); made.value = value; return made; };
  const group = (name, options) => { const made = element("optgroup", "", ...options); made.label = name; return made; };
  by.append(option("", "score"));
  if (data.metrics.length > 1) by.append(group("metrics", data.metrics.map(([name], index) => option(`m:${index}`, name))));
  by.append(group("checks", data.checks.map((name, index) => option(`c:${index}`, name))));
  candidate.append(...data.roles.map((role, index) => option(String(index), role)));
  if (data.roles.length < 2) candidate.parentElement.hidden = true;
  for (const button of buttons) {
    if (data.against === null && ["gained", "lost"].includes(button.dataset.show)) button.hidden = true;
    button.addEventListener("click", () => { state.show = button.dataset.show; apply(); });
  }
  by.addEventListener("change", () => { state.by = by.value; apply(); });
  candidate.addEventListener("change", () => { state.candidate = Number(candidate.value); apply(); });
  controls.addEventListener("submit", (event) => event.preventDefault());
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { state.search = search.value; apply(); }, 120);
  });
  more.addEventListener("click", () => grow(STEP));
  if ("IntersectionObserver" in window) {
    new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && shown > 0 && shown < found.length) grow(STEP); }, { rootMargin: "600px" }).observe(more);
  }
  addEventListener("beforeprint", () => grow(Math.max(0, 100 - shown)));

  // Links and bookmarks: #show=failed&by=CHECK&of=ROLE&search=WORDS.
  const follow = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    if (!["show", "by", "of", "search"].some((key) => asked.has(key))) return false;
    const [name, role] = [asked.get("by"), data.roles.indexOf(asked.get("of"))];
    const metric = data.metrics.findIndex(([known]) => known === name);
    const check = data.checks.indexOf(name);
    state.show = buttons.some((button) => button.dataset.show === asked.get("show")) ? asked.get("show") : "all";
    state.by = check >= 0 ? `c:${check}` : metric >= 0 ? `m:${metric}` : "";
    state.candidate = role >= 0 ? role : data.subject;
    state.search = asked.get("search") || "";
    apply();
    return true;
  };
  addEventListener("hashchange", () => { if (follow()) document.getElementById("samples").focus(); });
  controls.hidden = false;
  if (!follow()) apply();
  // When the page can be used, in milliseconds since it was asked for.
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
