// Replicate's npm client as its users write it, but for `baseUrl` and `auth`. URL KEY PHOTO NOISE WIDE ACT ...; prints what it got.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import Replicate, { parseProgressFromLogs, validateWebhook } from "replicate";

const [url, key, photo, noise, wide, ...wanted] = process.argv.slice(2);
const MODEL = "someone/superres-x4";
const DAMAGED = `data:image/png;base64,${readFileSync(noise).subarray(0, 2000).toString("base64")}`;

const replicate = new Replicate({ baseUrl: `${url}/replicate/v1`, auth: key });
const bytes = readFileSync(photo);
const image = new File([bytes], "photo.jpg", { type: "image/jpeg" });

const said = (promise) => promise.then(() => "nothing", (error) => error.message);
const ids = (page) => page.results.map(({ id }) => id);
const names = (page) => page.results.map(({ name }) => name);

async function blobOf(output) {
  const { type, size } = await output.blob();
  return { type, size, protocol: output.url().protocol };
}

async function runs() {
  const seen = { block: [], poll: [] };
  const input = { image, scale: 4, face_enhance: false, output_format: "jpg" };
  const block = await replicate.run(MODEL, { input }, ({ status }) => seen.block.push(status));
  const poll = await replicate.run(
    MODEL,
    { input: { ...input, output_quality: 70 }, wait: { mode: "poll", interval: 20 } },
    ({ status }) => seen.poll.push(status),
  );
  const version = await replicate.run(`${MODEL}:f121d640bd286e1f`, { input: { image: bytes, output_format: "webp" } });
  const uri = `data:image/jpeg;base64,${bytes.toString("base64")}`;
  const encoded = await replicate.run(MODEL, { input: { image: uri, output_format: "webp", output_quality: 60 } });
  return {
    block: await blobOf(block),
    poll: await blobOf(poll),
    version: await blobOf(version),
    encoded: await blobOf(encoded),
    score: (await replicate.run("penstock/image-scoring-v1", { input: { image } })).score,
    seen,
  };
}

async function large() {
  const output = await replicate.run(MODEL, { input: { image: readFileSync(noise), variant: "clean" } });
  const blob = typeof output === "string" ? await (await fetch(output)).blob() : await output.blob();
  return { kind: typeof output, type: blob.type, size: blob.size, url: output.toString() };
}

async function files() {
  const made = await replicate.files.create(image, { album: 42 });
  const read = await replicate.files.get(made.id);
  const listed = ids(await replicate.files.list()).includes(made.id);
  const output = await replicate.run(MODEL, { input: { image: made.urls.get, output_format: "webp" } });
  const deleted = await replicate.files.delete(made.id);
  return {
    name: read.name,
    type: read.content_type,
    size: read.size,
    metadata: read.metadata,
    listed,
    type_of_output: (await output.blob()).type,
    deleted,
    still_listed: ids(await replicate.files.list()).includes(made.id),
  };
}

async function models() {
  const model = await replicate.models.get("someone", "image-scoring-v1");
  const version = await replicate.models.versions.get("someone", model.name, model.latest_version.id);
  const run = await replicate.run(`penstock/${model.name}:${version.id}`, { input: { image } });
  return {
    listed: names(await replicate.models.list()),
    versions: ids(await replicate.models.versions.list("someone", model.name)).length,
    same: version.id === model.latest_version.id,
    output: version.openapi_schema.components.schemas.Output.type,
    keys: Object.keys(run),
  };
}

async function deployments() {
  const deployment = await replicate.deployments.get("someone", "superres-x4");
  const made = await replicate.deployments.predictions.create("someone", "superres-x4", {
    input: { image },
    wait: true,
  });
  return {
    listed: names(await replicate.deployments.list()),
    model: deployment.current_release.model,
    version: deployment.current_release.version === made.version,
    status: made.status,
  };
}

async function predictions() {
  const made = await replicate.predictions.create({ model: MODEL, input: { image: readFileSync(noise) } });
  const canceled = await replicate.predictions.cancel(made.id);
  const pages = [];
  for await (const page of replicate.paginate(replicate.predictions.list)) pages.push(...page);
  const aborted = new AbortController();
  let progress = null;
  const output = await replicate.run(
    MODEL,
    { input: { image: readFileSync(wide) }, wait: { mode: "poll", interval: 20 }, signal: aborted.signal },
    (prediction) => {
      progress ??= parseProgressFromLogs(prediction);
      if (progress) aborted.abort();
    },
  );
  return {
    canceled: canceled.status,
    read: (await replicate.predictions.get(made.id)).status,
    listed: pages.some(({ id }) => id === made.id),
    output,
    progress,
  };
}

async function webhooks() {
  const { key: secret } = await replicate.webhooks.default.secret.get();
  let told;
  const heard = new Promise((resolve) => {
    told = createServer((request, response) => {
      const parts = [];
      request.on("data", (part) => parts.push(part));
      request.on("end", () => {
        response.writeHead(204).end();
        resolve({ headers: request.headers, body: Buffer.concat(parts).toString() });
      });
    });
  });
  await new Promise((resolve) => told.listen(0, "127.0.0.1", resolve));
  const made = await replicate.predictions.create({
    model: MODEL,
    input: { image },
    webhook: `http://127.0.0.1:${told.address().port}/told`,
    webhook_events_filter: ["completed"],
  });
  const { headers, body } = await heard;
  told.close();
  told.closeAllConnections();
  const prediction = JSON.parse(body);
  return {
    valid: await validateWebhook({ headers, body }, secret),
    forged: await validateWebhook({ headers, body: `${body} ` }, secret),
    same: prediction.id === made.id,
    status: prediction.status,
    output: (await fetch(prediction.output)).headers.get("content-type"),
  };
}

async function refusals() {
  return {
    scale: await said(replicate.run(MODEL, { input: { image, scale: 10 } })),
    face: await said(replicate.run(MODEL, { input: { image, face_enhance: true } })),
    unknown: await said(replicate.run(MODEL, { input: { image, tiles: 400 } })),
    model: await said(replicate.run("someone/superres-x5", { input: { image } })),
    damaged: await said(replicate.run(MODEL, { input: { image: DAMAGED } })),
    stream: await said(replicate.stream(MODEL, { input: { image } }).next()),
  };
}

const acts = { runs, large, files, models, deployments, predictions, webhooks, refusals };
const found = {};
for (const name of wanted) found[name] = await acts[name]();
console.log(JSON.stringify(found));
