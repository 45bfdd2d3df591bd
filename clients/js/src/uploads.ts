import { repeated } from "./connection.js";
import { Tries, type OnPause } from "./retries.js";
import { accepted } from "./transport.js";
import type { OpenedUpload, Options } from "./types.js";

/** Longest silence of a receiver, in seconds: it writes all of the file to disk before it answers. */
const STORED = 120;

/** Larger files have no digest, since the platform makes one only of bytes in memory. */
const DIGEST_BYTES = 256 * 1024 * 1024;

const PIECE_BYTES = 64 * 1024;

/** How a file is sent. */
export interface SendOptions extends Options {
  /** Is told how many bytes of how many were sent. It begins anew when the file is sent again. */
  onProgress?: ((sent: number, size: number) => void) | undefined;
  patienceSeconds?: number | undefined;
  onPause?: OnPause | undefined;
}

/** Where the bytes of an upload go, as `openUpload` has answered it. */
export type Destination = Pick<OpenedUpload, "url" | "headers">;

/**
 * Sends a file to the URL of an upload, which needs no key: a page sends it to what your server has opened.
 * It is sent again while that may help. Throws PenstockApiError.
 */
export async function sendUpload(to: Destination, file: Blob, options: SendOptions = {}): Promise<void> {
  const { signal, onProgress, patienceSeconds = 120, onPause } = options;
  const tries = new Tries(patienceSeconds, onPause);
  const put = "XMLHttpRequest" in globalThis ? byXhr : byFetch;
  await repeated(to.url, tries, STORED, signal, async (connection) => {
    const moved = (sent: number): void => {
      connection.alive();
      tries.moved();
      onProgress?.(sent, file.size);
    };
    await accepted(await connection.during(put(to, file, connection.signal, moved)), connection);
  });
}

/** Returns the sha256 in hex; undefined of a huge file, and in a page of plain http, which cannot make it. */
export async function sha256Of(contents: Blob): Promise<string | undefined> {
  const subtle = crypto.subtle as SubtleCrypto | undefined;
  if (!subtle || contents.size > DIGEST_BYTES) return undefined;
  return hex(new Uint8Array(await subtle.digest("SHA-256", await contents.arrayBuffer())));
}

/** Returns bytes in hex. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

type Put = (to: Destination, file: Blob, signal: AbortSignal, moved: (sent: number) => void) => Promise<Response>;

/** For browsers, where nothing else tells how much has been sent. */
const byXhr: Put = ({ url, headers }, file, signal, moved) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }): void => moved(loaded);
    request.onload = (): void => {
      const retryAfter = request.getResponseHeader("retry-after") ?? "";
      resolve(
        new Response(request.responseText || null, { status: request.status, headers: { "retry-after": retryAfter } }),
      );
    };
    request.onerror = request.onabort = (): void => reject(new TypeError("the request has failed"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });

/** For Node: the file is read as it is sent, with its length announced, which buckets insist on. */
const byFetch: Put = ({ url, headers }, file, signal, moved) => {
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    async pull(out): Promise<void> {
      if (sent) moved(sent); // what came before was taken
      if (sent === file.size) return out.close();
      const piece = await file.slice(sent, sent + PIECE_BYTES).arrayBuffer();
      out.enqueue(new Uint8Array(piece));
      sent += piece.byteLength;
    },
  });
  const how = {
    method: "PUT",
    headers: { ...headers, "content-length": String(file.size) },
    body,
    signal,
    duplex: "half",
  };
  return fetch(url, how as RequestInit);
};
