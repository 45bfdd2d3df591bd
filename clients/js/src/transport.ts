import { Connection, repeated } from "./connection.js";
import { hostOf, PenstockApiError, refusal } from "./problems.js";
import { Tries, type OnPause } from "./retries.js";
import type { Options } from "./types.js";

/** Longest silence of a server, in seconds, in addition to the time it was asked to wait. */
const ANSWER = 30;

/** The paths where an operator may name a tenant, and those where nobody may, which the server then refuses. */
const OF_A_TENANT = /^\/v1\/(tasks|batches|uploads|stats|usage|workers$|queues\/[^/]+\/purge)/;

/** What a task token opens. */
const BY_TOKEN = /^\/v1\/tasks\//;

/** How a client finds its server, and for how long it tries. */
export interface Settings {
  /** Of the server, such as `https://penstock.example.com`. */
  url?: string | undefined;
  /** What `penstock keys new` has printed. Keep it out of pages: a page has a `token`, or asks your own server. */
  apiKey?: string | undefined;
  /** In place of a key: the token of one task, which reads that task. */
  token?: string | undefined;
  /** Reads and acts in another tenant, with a key that has the scope `operate`. */
  tenant?: string | undefined;
  /** How long a request is repeated while that may help, and how long it may bring nothing: 120, at least 2. */
  patienceSeconds?: number | undefined;
  /** Is called before each repeat. */
  onPause?: OnPause | undefined;
  /** In place of the `fetch` of the platform. */
  fetch?: typeof fetch | undefined;
}

/** What a request says. */
export interface Said extends Options {
  body?: string | undefined;
  headers?: Record<string, string> | undefined;
  /** Whether it is safe to repeat. */
  repeat?: boolean | undefined;
  /** Seconds that the server was asked to wait. */
  waitSeconds?: number | undefined;
}

/** How an answer becomes a value. */
export type Read<T> = (answer: Response, connection: Connection, tries: Tries) => Promise<T>;

/** Sends requests to one server, and repeats them while that may help. */
export class Transport {
  readonly url: string;
  readonly #headers: Record<string, string>;
  readonly #token: string | undefined;
  readonly #tenant: string | undefined;
  readonly #fetch: typeof fetch;

  /** Throws TypeError if the URL is none, or if there is neither a key nor a token. */
  constructor(readonly settings: Settings) {
    const environ = (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env ?? {};
    const {
      token,
      tenant,
      url = environ["PENSTOCK_URL"],
      apiKey = token ? undefined : environ["PENSTOCK_API_KEY"],
    } = settings;
    if (!url || !/^https?:$/.test(new URL(url).protocol)) {
      throw new TypeError(`${url} is no URL of a server; it looks like http://127.0.0.1:8000`);
    }
    if (!apiKey && !token) throw new TypeError(`no API key for ${url}; give apiKey or token, or set PENSTOCK_API_KEY`);
    if (apiKey && !/^[!-~]+$/.test(apiKey)) throw new TypeError("the API key has characters that no key has");
    this.url = url.replace(/\/+$/, "");
    this.#headers = apiKey ? { authorization: `Bearer ${apiKey}` } : {};
    this.#token = token;
    this.#tenant = tenant;
    this.#fetch = settings.fetch ?? ((...request) => fetch(...request));
  }

  /** Returns what `read` makes of the answer. Throws PenstockApiError if the server refuses, or is not reached. */
  send<T>(method: string, path: string, said: Said, read: Read<T>): Promise<T> {
    const tries = this.#tries(said.repeat);
    return repeated(this.url + path, tries, ANSWER + (said.waitSeconds ?? 0), said.signal, async (connection) =>
      read(await this.open(method, said, connection), connection, tries),
    );
  }

  /**
   * Yields the items of a stream, which `open` opens again, at the path of that moment, where it broke. An item that is
   * undefined is a sign of life; each renews the patience.
   */
  async *stream<T>(
    path: () => string,
    silence: number,
    open: (connection: Connection) => AsyncGenerator<T | undefined>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<T, void, undefined> {
    let tries = this.#tries();
    for (;;) {
      const connection = new Connection(this.url + path(), tries.silence(silence), signal);
      try {
        for await (const item of open(connection)) {
          tries = this.#tries();
          if (item !== undefined) yield item;
        }
        return;
      } catch (error) {
        connection.close();
        await tries.pauseAfter(error, signal);
      } finally {
        connection.close();
      }
    }
  }

  /** Returns the answer as soon as its head is there. Throws PenstockApiError if it is a refusal. */
  async open(method: string, said: Said, connection: Connection): Promise<Response> {
    const { body, signal } = { body: said.body ?? null, signal: connection.signal };
    const headers = { ...this.#headers, ...said.headers };
    const sent = this.#fetch(connection.url, { method, headers, body, signal, credentials: "omit" });
    const answer = await accepted(await connection.during(sent), connection);
    const type = answer.headers.get("content-type");
    if (said.headers?.["accept"] && type && !type.startsWith(said.headers["accept"])) throw strange(answer, connection);
    return answer;
  }

  /** Returns a path with its query: the tenant, the token, and what is said but for undefined and null. */
  pathOf(path: string, query: object = {}): string {
    const tenant = OF_A_TENANT.test(path) ? this.#tenant : undefined;
    const token = BY_TOKEN.test(path) ? this.#token : undefined;
    const search = new URLSearchParams(
      Object.entries({ tenant, token, ...query }).flatMap(([name, value]) => pairs(name, value)),
    );
    return search.size ? `${path}?${search}` : path;
  }

  #tries(repeat?: boolean): Tries {
    return new Tries(this.settings.patienceSeconds ?? 120, this.settings.onPause, repeat);
  }
}

/** Returns the answer. Throws PenstockApiError if it is a refusal. */
export async function accepted(answer: Response, connection: Connection): Promise<Response> {
  if (answer.ok) return answer;
  throw refusal(connection.url, answer, await text(answer, connection));
}

/** Reads text. */
export function text(answer: Response, connection: Connection): Promise<string> {
  return connection.during(answer.text());
}

/** Reads JSON; undefined where there is no body. Throws PenstockApiError if something else than Penstock answered. */
export async function json<T>(answer: Response, connection: Connection): Promise<T> {
  const body = await text(answer, connection);
  try {
    return (body ? JSON.parse(body) : undefined) as T;
  } catch (error) {
    throw strange(answer, connection, error);
  }
}

/** Returns the error of an answer that is not Penstock's. */
function strange({ status }: Response, { url }: Connection, cause?: unknown): PenstockApiError {
  const said = { code: `http_${status}`, status };
  return new PenstockApiError(`${hostOf(url)} answered, and not as Penstock does`, said, cause);
}

/** Fills the names in a path. Throws TypeError for a name that would lead to another path. */
export function filled(template: string, names: object = {}): string {
  return template.replace(/\{(\w+)\}/g, (_, key: string) => {
    const name = String((names as Record<string, unknown>)[key] ?? "");
    if (["", ".", ".."].includes(name)) throw new TypeError(`${key} is ${name ? `'${name}'` : "empty"}`);
    return encodeURIComponent(name);
  });
}

function pairs(name: string, value: unknown): [string, string][] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value.map((one) => [name, String(one)]);
  if (value instanceof Date) return [[name, value.toISOString()]];
  if (typeof value !== "object") return [[name, String(value)]];
  return Object.entries(value).flatMap(([key, one]) => {
    if (one === undefined || one === null)
      throw new TypeError(`${name} ${key} is ${one}; leave it out, or say what it has to be`);
    return pairs(`${name}.${key}`, one);
  });
}
