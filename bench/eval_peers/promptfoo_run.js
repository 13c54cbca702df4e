// The samples and checks of task.toml with promptfoo, its whole `evaluate` as a library: vars, a provider that gives the
// outputs, ten assertions a test, results written. See docs/evaluation-speed.md.
//
//     npm install promptfoo@0.123.1
//     cp BENCH/*.js . && node promptfoo_run.js rows.jsonl RESULTS.json
//
// BENCH is the folder of this file: the program is found from where the script lies.
const fs = require("node:fs");
const path = require("node:path");

const here = (name) => `file://${path.join(__dirname, name)}`;
const FIELDS = ["company", "date", "address", "total"];
const SCHEMA = {
  type: "object",
  required: FIELDS,
  additionalProperties: false,
  properties: Object.fromEntries(FIELDS.map((name) => [name, { type: "string" }])),
};
const own = (name) => ({ type: "javascript", metric: name, value: `${here("checks.js")}:${name}` });
const ASSERTIONS = [
  { type: "equals", metric: "exact", value: "{{ expected }}" },
  { type: "regex", metric: "regex", value: "\\d{2}/\\d{2}/\\d{4}" },
  own("number"),
  own("length"),
  { type: "contains-any", metric: "contains", value: ["total", "the"] },
  { type: "is-json", metric: "valid" },
  { type: "is-json", metric: "schema", value: SCHEMA },
  own("fields"),
  own("token_f1"),
  own("rouge_l"),
];

// As Python's json.dumps writes a flat object of texts.
function text(expected) {
  if (typeof expected === "string") return expected;
  const pairs = Object.entries(expected).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  return `{${pairs.join(", ")}}`;
}

async function main() {
  const { evaluate } = await import("promptfoo");
  const started = performance.now();
  const lines = fs.readFileSync(process.argv[2], "utf-8").trim().split("\n").map((line) => JSON.parse(line));
  const tests = lines.map((row) => ({
    vars: { input: row.input, expected: text(row.expected), output: row.meta.output },
  }));
  const suite = {
    prompts: ["{{ input }}"],
    providers: [here("provider.js")],
    defaultTest: { assert: ASSERTIONS },
    tests,
    outputPath: process.argv[3],
    writeLatestResults: false,
  };
  const result = await evaluate(suite, { maxConcurrency: 100, cache: false, showProgressBar: false });
  const summary = result.toEvaluateSummary ? await result.toEvaluateSummary() : result;
  const seconds = (performance.now() - started) / 1000;
  const sums = {};
  for (const row of summary.results) {
    for (const [name, value] of Object.entries(row.namedScores ?? {})) sums[name] = (sums[name] ?? 0) + value;
  }
  const n = summary.results.length;
  console.log(Object.entries(sums).map(([name, sum]) => `${name} ${(sum / n).toFixed(4)}`).join(" "));
  console.log(`promptfoo: ${n} samples, 10 checks, ${seconds.toFixed(2)} s, ${(n / seconds).toFixed(0)} samples/s`);
}

main().then(() => process.exit(0));
