// A provider for promptfoo that gives the output that stands in the row.
module.exports = class {
  id() {
    return "given";
  }

  async callApi(prompt, context) {
    return { output: context.vars.output };
  }
};
