// Reads a CSV file from standard input with the delimiter given as an argument; prints its rows as JSON, or its faults.
const { parse } = require("papaparse");
const { readFileSync } = require("node:fs");

const { data, errors } = parse(readFileSync(0, "utf8"), { delimiter: process.argv[2], skipEmptyLines: "greedy" });
process.stdout.write(JSON.stringify({ rows: data, errors }));
