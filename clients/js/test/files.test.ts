import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { openAsBlob, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type PenstockApiError, sendUpload } from "penstock-client";
import { all, client, photo, refusedAs, slow } from "./server.js";

const penstock = client();

test("a file is uploaded once, tells how far it is, and serves any number of tasks", async () => {
  const told: number[] = [];
  const upload = await penstock.upload(new File([photo, randomBytes(3_000_000)], "photo.jpg"), {
    onProgress: (sent, size) => told.push(sent / size),
  });
  const runs = [1, 2].map((tiles) => penstock.run({ ...slow(tiles), input: upload }));

  assert.deepEqual(
    (await Promise.all(runs)).map(({ result }) => result?.data),
    [{ tiles: 1 }, { tiles: 2 }],
  );
  assert.ok(told.length > 2 && told.at(-1) === 1);
  assert.deepEqual(told, [...told].sort());
  assert.equal((await penstock.call("getUpload", { path: { upload_id: upload.upload_id } })).name, "photo.jpg");
});

test("a page without a key sends a file to the place that was opened for it", async () => {
  const file = new Blob([photo]);
  const opened = await penstock.call("openUpload", { body: { size: file.size } });
  await sendUpload(opened, file);

  assert.equal((await penstock.call("getUpload", { path: { upload_id: opened.upload_id } })).status, "READY");
  await assert.rejects(
    sendUpload({ ...opened, url: opened.url.replace(/token=.*/, "token=x") }, file),
    refusedAs("upload_not_found"),
  );
});

test("a file that cannot be read any more is not tried again", async () => {
  const path = join(tmpdir(), `penstock-${process.pid}`);
  writeFileSync(path, photo);
  const file = await openAsBlob(path);
  const opened = await penstock.call("openUpload", { body: { size: file.size } });
  rmSync(path);

  await assert.rejects(sendUpload(opened, file), { name: "NotReadableError" });
});

test("what is too big for a request goes as an upload by itself", async () => {
  const { task_id } = await penstock.submit({ ...slow(1), input: new Blob([photo, randomBytes(1_000_000)]) });

  assert.equal((await penstock.wait(task_id)).status, "SUCCESS");
});

test("a batch runs its lines, which are read as they end", async () => {
  const lines = Array.from({ length: 30 }, (_, n) => ({
    custom_id: `photo ${n}`,
    input: photo,
    params: { tiles: n + 1, tile_s: 0.001 },
  }));
  const submitted = await penstock.submitBatch({ lines, defaults: { model: "slow-v1", reuse: false } });
  const ended = await penstock.waitBatch(submitted.batch_id);
  const read = await all(penstock.batchLines(submitted.batch_id));

  assert.deepEqual([ended.status, ended.counts.succeeded], ["COMPLETED", 30]);
  assert.deepEqual(read.map(({ custom_id }) => custom_id).sort(), lines.map(({ custom_id }) => custom_id).sort());
  assert.deepEqual(await all(penstock.batchLines(submitted.batch_id, { start: 28 })), read.slice(28));
  assert.ok((await all(penstock.listBatches())).some(({ batch_id }) => batch_id === submitted.batch_id));
  await penstock.deleteBatch(submitted.batch_id);
  await assert.rejects(penstock.getBatch(submitted.batch_id), refusedAs("result_expired"));
});

test("a batch is canceled", async () => {
  const lines = [{ custom_id: "one", input: photo, params: { tiles: 100 } }];
  const { batch_id } = await penstock.submitBatch({ lines, defaults: { model: "slow-v1", reuse: false } });
  await penstock.cancelBatch(batch_id);

  assert.equal((await penstock.waitBatch(batch_id, { timeoutSeconds: 60 })).counts.canceled, 1);
});

test("a batch that is refused says which lines are wrong", async () => {
  const lines = ["good", "twice", "twice"].map((custom_id) => ({ custom_id, input: photo }));

  await assert.rejects(penstock.submitBatch({ lines, defaults: { model: "slow-v1" } }), ({ code, findings }: PenstockApiError) => {
    assert.equal(code, "invalid_request");
    assert.deepEqual(findings.map(({ line, custom_id, param }) => [line, custom_id, param]), [[3, "twice", "custom_id"]]);
    return true;
  });
});
