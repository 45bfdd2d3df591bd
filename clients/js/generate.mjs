// Writes src/schema.ts from docs/openapi.json: the method and path of each operation, and the types of what it takes and
// of what it answers when it accepts. Refusals are all alike (Problem), and Replicate's dialect has clients of its own.
// Usage: node generate.mjs [DOCUMENT] [OUT]
import { readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const [
  document = new URL("../../docs/openapi.json", import.meta.url),
  out = new URL("src/schema.ts", import.meta.url),
] = process.argv.slice(2);
const { paths, components, ...rest } = JSON.parse(readFileSync(document, "utf8"));

/** The object with each entry replaced by those that `change` returns. */
const changed = (object, change) => Object.fromEntries(Object.entries(object).flatMap(change));

const withoutExamples = (content) => content && changed(content, ([type, { schema }]) => [[type, { schema }]]);
const accepted = (responses) =>
  changed(responses, ([status, { description, content }]) =>
    status < "300" ? [[status, { description, content: withoutExamples(content) }]] : [],
  );
const operation = ({ summary, operationId, parameters, requestBody, responses }) => ({
  summary,
  operationId,
  parameters,
  requestBody: requestBody && { ...requestBody, content: withoutExamples(requestBody.content) },
  responses: accepted(responses),
});
const ours = changed(paths, ([path, item]) =>
  path.startsWith("/v1/") ? [[path, changed(item, ([method, said]) => [[method, operation(said)]])]] : [],
);

const used = new Set();
const follow = (value) => {
  for (const [, name] of JSON.stringify(value).matchAll(/#\/components\/schemas\/(\w+)/g)) {
    if (!used.has(name)) follow(components.schemas[used.add(name) && name]);
  }
};
follow([ours, { $ref: "#/components/schemas/Problem" }]);
const schemas = changed(components.schemas, ([name, schema]) => (used.has(name) ? [[name, schema]] : []));

const pruned = JSON.parse(JSON.stringify({ ...rest, paths: ours, components: { schemas } }));
const nodes = await openapiTS(pruned, { defaultNonNullable: false, emptyObjectsUnknown: true });
const types = nodes.filter((node) => ["components", "operations"].includes(node.name.text));
const routes = Object.entries(ours).flatMap(([path, item]) =>
  Object.entries(item).map(([method, { operationId }]) => `  ${operationId}: ["${method.toUpperCase()}", "${path}"],`),
);
writeFileSync(
  out,
  `// Made by generate.mjs from docs/openapi.json.

/** Method and path of each operation of the API. */
export const ROUTES = {
${routes.join("\n")}
} as const;

${astToString(types)}`,
);
