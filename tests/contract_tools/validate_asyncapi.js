// Reads an AsyncAPI document from standard input; prints what the AsyncAPI project's own parser says of it.
const { Parser } = require("@asyncapi/parser");
const { readFileSync } = require("node:fs");

new Parser().parse(readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  const errors = diagnostics.filter((one) => one.severity === 0);
  const messages = document === undefined ? [] : document.allMessages().all().map((one) => one.id());
  process.stdout.write(JSON.stringify({ errors, messages }));
});
