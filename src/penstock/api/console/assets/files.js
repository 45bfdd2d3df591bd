// Files of a request: small ones inside of it, larger ones as uploads.
import { send } from "./acts.js";
import { say } from "./messages.js";

const INSIDE_BYTES = 512 * 1024; // as the other clients do

// A file as a member of an input; null after it has said what went wrong.
export async function asMember(file) {
  return file.size <= INSIDE_BYTES ? await asUri(file) : await asUpload(file);
}

export async function fetched(link, name) {
  const answer = await fetch(link);
  if (!answer.ok) {
    say("The file of the task is not there any more.", "bad");
    return null;
  }
  return new File([await answer.blob()], name, { type: answer.headers.get("content-type") ?? "" });
}

function asUri(file) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(file);
  });
}

async function asUpload(file) {
  const base = document.body.dataset.console;
  const upload = await send(`${base}v1/uploads`, { body: { size: file.size, content_type: file.type || undefined, name: file.name } });
  if (upload === null) return null;
  const sent = await fetch(upload.url, { method: upload.method, headers: upload.headers, body: file });
  if (sent.ok) return { upload_id: upload.upload_id };
  say("The file could not be uploaded.", "bad");
  return null;
}
