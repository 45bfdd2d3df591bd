import { PenstockApiError, unreachable } from "./problems.js";
import type { Tries } from "./retries.js";

/**
 * One request and its answer. It is given up when the other side is silent for too long while something is expected
 * from it, and when the signal of the caller says so.
 */
export class Connection {
  readonly #controller = new AbortController();
  readonly #stop = (): void => this.#controller.abort(this.#caller?.reason);
  readonly #caller: AbortSignal | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly signal = this.#controller.signal;

  constructor(
    readonly url: string,
    readonly silence: number,
    caller?: AbortSignal,
  ) {
    caller?.throwIfAborted();
    caller?.addEventListener("abort", this.#stop, { once: true });
    this.#caller = caller;
  }

  /** Waits for the other side. Throws PenstockApiError if it is silent or the connection breaks. */
  async during<T>(work: Promise<T>): Promise<T> {
    this.alive();
    try {
      return await work;
    } catch (error) {
      this.#caller?.throwIfAborted();
      if (this.signal.aborted) throw this.signal.reason;
      const { cause } = error as { cause?: unknown };
      if (cause instanceof DOMException) throw cause; // a file that cannot be read any more
      throw error instanceof PenstockApiError
        ? error
        : unreachable(this.url, reasonOf(this.url, error), { cause: error });
    } finally {
      clearTimeout(this.#timer);
    }
  }

  /** Begins to count the silence anew. */
  alive(): void {
    clearTimeout(this.#timer);
    const quiet = unreachable(this.url, `no answer for ${this.silence.toPrecision(3)} s`);
    this.#timer = setTimeout(() => this.#controller.abort(quiet), this.silence * 1000);
  }

  /** Yields the body in pieces. Nobody's silence counts while the caller is at work with one. */
  async *pieces(answer: Response): AsyncGenerator<Uint8Array, void, undefined> {
    const reader = answer.body?.getReader();
    while (reader) {
      const piece = await this.during(reader.read());
      if (piece.done) return;
      yield piece.value;
    }
  }

  /** Yields the lines of the body, without their ends, and last what follows the last end. */
  async *lines(answer: Response): AsyncGenerator<string, void, undefined> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const piece of this.pieces(answer)) {
      const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) yield line.endsWith("\r") ? line.slice(0, -1) : line;
    }
    yield rest + decoder.decode();
  }

  /** Lets go of it; what has not been read is not wanted. */
  close(): void {
    this.#caller?.removeEventListener("abort", this.#stop);
    this.#controller.abort();
  }
}

/** Works over one connection after the other until that succeeds, or no further try would help. */
export async function repeated<T>(
  url: string,
  tries: Tries,
  silence: number,
  signal: AbortSignal | undefined,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  for (;;) {
    const connection = new Connection(url, tries.silence(silence), signal);
    try {
      return await work(connection).finally(() => connection.close());
    } catch (error) {
      await tries.pauseAfter(error, signal);
    }
  }
}

function reasonOf(url: string, error: unknown): string {
  const { message, cause } = error as { message?: string; cause?: { code?: string; message?: string } };
  const page = (globalThis as { location?: { origin: string } }).location?.origin;
  const elsewhere = page && page !== new URL(url).origin ? `, or it does not let pages of ${page} in` : "";
  return `no connection (${cause?.code ?? cause?.message ?? message ?? String(error)})${elsewhere}`;
}
