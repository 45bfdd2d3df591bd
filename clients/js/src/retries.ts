import { PenstockApiError } from "./problems.js";

/**
 * The pause before retry n is random between 0 and base × 2^n seconds, at most the cap, on top of what the server asks
 * for: all clients of a server that comes back do not come back in the same moment.
 */
const BASE = 0.2;
const CAP = 5;

/** What a try is given in any case: whoever has no patience wants one try, and not none. */
const LEAST = 2;

/** A timer that is longer fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Is called before each repeat, with its reason and the pause in seconds. */
export type OnPause = (error: PenstockApiError, pauseSeconds: number) => void;

/** Seconds by a clock that nobody sets. */
const now = (): number => performance.now() / 1000;

/**
 * The tries of one request, for a number of seconds in all. While bytes move the patience begins anew, but only until a
 * try has failed: a link that breaks at the same place each time would be tried for ever.
 */
export class Tries {
  #giveUp: number;
  #failed = false;
  #longest = BASE;

  constructor(
    readonly patience: number,
    readonly onPause?: OnPause | undefined,
    readonly repeat = true,
  ) {
    this.#giveUp = now() + patience;
  }

  /** Notes that bytes were transferred. */
  moved(): void {
    if (!this.#failed) this.#giveUp = now() + this.patience;
  }

  /** Returns how many seconds the other side may be silent in the next try. */
  silence(longest: number): number {
    const left = this.#failed ? this.#giveUp - now() : this.patience;
    return Math.min(longest, Math.max(LEAST, left));
  }

  /** Waits for the next try. Throws the error when no try would help, or none is left. */
  async pauseAfter(error: unknown, signal?: AbortSignal | undefined): Promise<void> {
    if (!(error instanceof PenstockApiError)) throw error;
    const pause = (error.retryAfter ?? 0) + Math.random() * this.#longest;
    this.#failed = true;
    this.#longest = Math.min(CAP, this.#longest * 2);
    if (!this.repeat || !error.retryable || now() + pause > this.#giveUp) throw error;
    this.onPause?.(error, pause);
    await sleep(pause, signal);
  }
}

/** Waits that many seconds. Throws the reason of the signal as soon as it is aborted. */
export function sleep(seconds: number, signal?: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = (): void => (clearTimeout(timer), reject(signal?.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", stop), resolve()), seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Runs work with a signal that is aborted with that of the caller, or after that many seconds with a TimeoutError. */
export async function limited<T>(
  seconds: number | undefined,
  caller: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  caller?.throwIfAborted();
  const controller = new AbortController();
  const stop = (): void => controller.abort(caller?.reason);
  const expire = (): void => controller.abort(new DOMException(`it has not ended within ${seconds} s`, "TimeoutError"));
  caller?.addEventListener("abort", stop, { once: true });
  const timer = seconds === undefined ? undefined : setTimeout(expire, Math.min(seconds * 1000, LONGEST_TIMER_MS));
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    caller?.removeEventListener("abort", stop);
  }
}
