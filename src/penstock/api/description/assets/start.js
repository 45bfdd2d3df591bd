// Starts Swagger UI with the description of the API, whose examples are made such that they can be run as they are.
const prefix = document.currentScript.dataset.prefix;
const methods = ["get", "put", "post", "patch", "delete"];

localStorage.removeItem("authorized");  // where earlier versions of this page have left an API key

// Ids that the page has been answered take the place of the made-up ones of the examples in later requests.
const examples = {};
const answered = {};
const isId = (name) => name.endsWith("_id");

function operationsOf(document) {
  return Object.values(document.paths).flatMap((item) => methods.map((method) => item[method]).filter(Boolean));
}

/** Keeps what must be given, and only describes what may be left out: a made-up filter or key would change the request. */
function keepNeeded(parameter) {
  if (parameter.schema?.type === "object") parameter.example = {};  // else Swagger UI makes up members
  if (parameter.example === undefined || typeof parameter.example === "object") return;
  if (parameter.required) {
    if (isId(parameter.name)) examples[parameter.name] = parameter.example;
    return;
  }
  parameter.description = `${parameter.description ?? ""} (such as \`${parameter.example}\`)`.trim();
  delete parameter.example;
}

/** Makes each code of a refusal a link to its page. */
function linkCodes(status, response) {
  if (status < "400") return;
  const codes = response.description.split(", ").filter((code) => /^[a-z_]+$/.test(code));
  if (codes.length) response.description = codes.map((code) => `[${code}](${prefix}/errors/${code})`).join(", ");
}

/** Takes tokens out of the dialog for keys: one that a URL has is a parameter of it. */
function asParameter(operation, tokens) {
  const isToken = (need) => Object.keys(need).some((name) => tokens.includes(name));
  const [all, others] = [operation.security ?? [], (operation.security ?? []).filter((need) => !isToken(need))];
  if (all.length > others.length) {
    const token = { name: "token", in: "query", required: !others.length, schema: { type: "string" } };
    operation.parameters = [...(operation.parameters ?? []), { ...token, description: "The token of the URL" }];
  }
  operation.security = others;
}

function prepared(document) {
  const schemes = document.components.securitySchemes;
  const tokens = Object.keys(schemes).filter((name) => schemes[name].in === "query");
  document.components.securitySchemes = { apiKey: schemes.apiKey };  // Bearer is another way for the same key
  for (const operation of operationsOf(document)) {
    asParameter(operation, tokens);
    operation.security = operation.security.filter((need) => !("bearer" in need));
    (operation.parameters ?? []).forEach(keepNeeded);
    Object.entries(operation.responses).forEach(([status, response]) => linkCodes(status, response));
  }
  return document;
}

function remember(answer) {
  const found = answer.ok && answer.body && typeof answer.body === "object" ? answer.body : {};
  for (const [name, example] of Object.entries(examples)) {
    const id = found[name] ?? found.id;  // predictions and files call theirs `id`; all begin with what they are, as tsk_
    if (typeof id === "string" && id.slice(0, 4) === example.slice(0, 4)) answered[name] = id;
  }
  return answer;
}

function withAnswered(request) {
  if (!request.url.includes("/schema/")) {
    for (const [name, id] of Object.entries(answered)) request.url = request.url.replaceAll(examples[name], id);
  }
  return request;
}

/** Below each refusal, a link to the page of its code. */
const explained = ({ React }) => ({
  wrapComponents: {
    responseBody: (Body) => (properties) => {
      const code = /"code": ?"([a-z_]+)"/.exec(properties.content ?? "")?.[1];
      const link = { href: `${prefix}/errors/${code}`, target: "_blank", rel: "noopener", className: "about-error" };
      const isProblem = code && /"type": ?"urn:penstock:error:/.test(properties.content);
      return React.createElement(
        React.Fragment, null,
        React.createElement(Body, properties),
        isProblem ? React.createElement("a", link, `What ${code} means`) : null,
      );
    },
  },
});

fetch(`${prefix}/schema/openapi.json`).then((answer) => answer.json()).then((document) => SwaggerUIBundle({
  spec: prepared(document),
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [explained],
  layout: "BaseLayout",
  validatorUrl: null,
  tryItOutEnabled: true,
  persistAuthorization: false,
  requestInterceptor: withAnswered,
  responseInterceptor: remember,
}));
