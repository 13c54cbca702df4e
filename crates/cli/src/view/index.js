"use strict";
// Asks for the runs every two seconds while the page is looked at, and shows them from text nodes only.
(() => {
  const live = document.querySelector(".live");
  const running = document.querySelector(".running");
  const boards = document.querySelector(".boards");
  const rows = document.querySelector(".runs tbody");
  const nothing = document.querySelector(".nothing");
  let last = "";
  const element = (tag, name, ...children) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...children);
    return made;
  };
  const cell = (label, name, ...children) => {
    const made = element("td", name, ...children);
    made.dataset.label = label;
    return made;
  };
  const bare = (value, unit) => (unit === "number" ? value.toFixed(2) : (100 * value).toFixed(1));
  const score = ({ score, unit }) => (score === null ? "–" : bare(score, unit) + (unit === "number" ? "" : " %"));
  const interval = ({ low, high, reason, unit }) =>
    low === null ? reason || "no interval" : `${bare(low, unit)} – ${bare(high, unit)}`;
  // A number with its interval, and with what it rests on where that is not all samples.
  const whole = (record) => {
    const counted = record.counted === record.n ? "" : `, ${record.counted} of ${record.n}`;
    return `${score(record)} (${interval(record)}${counted})`;
  };
  const link = (run, text) => {
    const made = element("a", "", text);
    made.href = `/run/${run.id.split("/").map(encodeURIComponent).join("/")}`;
    return made;
  };
  const rowHead = (...children) => {
    const made = element("th", "", ...children);
    made.scope = "row";
    return made;
  };
  const whisker = (record) => {
    const share = (value) => 100 * Math.min(1, Math.max(0, value));
    if (record.score === null || record.unit === "number") return "";
    const made = element("span", "whisker");
    made.setAttribute("aria-hidden", "true");
    const [line, dot] = [document.createElement("i"), document.createElement("b")];
    const [low, high] = [record.low ?? record.score, record.high ?? record.score].map(share);
    line.style.left = `${low}%`;
    line.style.width = `${high - low}%`;
    dot.style.left = `${share(record.score)}%`;
    made.append(line, dot);
    return made;
  };
  const table = (name, heads, body) => {
    const cells = heads.map((head) => { const made = element("th", "", head); made.scope = "col"; return made; });
    return element("table", name, element("thead", "", element("tr", "", ...cells)), element("tbody", "", ...body));
  };
  const spark = (points) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 100 100");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "Training loss by step");
    const [first, end] = [points[0][0], points[points.length - 1][0]];
    const most = Math.max(...points.map((point) => point[1]), 1e-9);
    const line = document.createElementNS(space, "polyline");
    line.setAttribute("points", points.map(([step, loss]) => `${(100 * (step - first)) / Math.max(1, end - first)},${97 - (94 * loss) / most}`).join(" "));
    svg.append(line);
    return svg;
  };
  const bar = (record) => {
    const made = element("progress", "");
    made.max = Math.max(1, record.n);
    made.value = record.done;
    made.setAttribute("aria-label", `${record.role}: ${record.done} of ${record.n} samples`);
    return made;
  };
  const liveRun = (run) => {
    const box = element("div", "run", element("h3", "", run.id));
    if (run.training) {
      const { step, epoch, loss, seconds } = run.training;
      box.append(element("p", "small", `Training: step ${step}, epoch ${epoch.toFixed(2)}, loss ${loss.toFixed(3)}, ${Math.round(seconds)} s`));
      if (run.training.points.length > 1) box.append(spark(run.training.points));
    }
    for (const record of run.records.filter((record) => record.done < record.n)) {
      box.append(element("p", "small", `${record.role}: ${record.done} of ${record.n} samples, ${record.metric} so far ${whole(record)}`), bar(record));
    }
    return box;
  };
  const board = (runs) => {
    const groups = new Map();
    for (const run of runs.filter((run) => !run.points)) {
      for (const record of run.records.filter((record) => record.done === record.n)) {
        const key = `${record.task}\n${record.split}\n${record.key}`;
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push([run, record]);
      }
    }
    return [...groups.values()].sort((a, b) => a[0][1].task.localeCompare(b[0][1].task)).flatMap((group) => {
      group.sort((a, b) => (b[1].score ?? -2) - (a[1].score ?? -2));
      const { task, split, n, metric } = group[0][1];
      const made = group.map(([run, record], index) => {
        const rate = record.rows_per_s === null ? "–" : `${record.rows_per_s.toLocaleString("en", { maximumSignificantDigits: 3 })} rows/s`;
        const counted = record.counted === record.n ? "" : `, ${record.counted} samples`;
        const range = interval(record) + counted;
        return element("tr", index === 0 ? "first" : "", rowHead(element("b", "", record.role), " ", element("span", "interval", record.candidate)),
          cell(metric, "value", score(record)), cell("interval", "range", whisker(record), element("span", "interval", range)),
          cell("speed", "", rate), cell("run", "", link(run, run.id)));
      });
      const head = element("h3", "", `${task} `, element("small", "", `${split}, ${n} samples`));
      return [head, table("board", ["Candidate", metric, "Interval", "Speed", "Run"], made)];
    });
  };
  const show = (runs) => {
    const going = runs.filter((run) => run.state === "running");
    live.hidden = going.length === 0;
    running.replaceChildren(...going.map(liveRun));
    boards.replaceChildren(...board(runs));
    rows.replaceChildren(...runs.map((run) => {
      const finished = run.records.some((record) => record.done === record.n);
      const written = new Date(1000 * run.updated).toLocaleString();
      const names = run.records.map((record) => `${record.role} ${whole(record)}`).join(" · ");
      return element("tr", "", rowHead(finished ? link(run, run.id) : run.id), cell("state", `state ${run.state}`, run.state),
        cell("written", "", written), cell("candidates", "", names || "training only"));
    }));
    nothing.hidden = runs.length > 0;
    document.documentElement.dataset.runs = String(runs.length);
  };
  const ask = async () => {
    if (!document.hidden) {
      try {
        const text = await (await fetch("/runs.json")).text();
        if (text !== last) show(JSON.parse(text));
        last = text;
      } catch { /* the program was ended; what is shown stays */ }
    }
    setTimeout(ask, 2000);
  };
  ask();
})();
