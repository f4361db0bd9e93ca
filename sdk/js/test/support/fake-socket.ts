import type { SocketLike } from '../../src/environment.ts';

/** The browser's end of a socket; the server's end is `deliver`, `shut` and `received`. */
export class FakeSocket implements SocketLike {
  onopen: ((event: never) => unknown) | null = null;
  onmessage: ((event: never) => unknown) | null = null;
  onclose: ((event: never) => unknown) | null = null;
  onerror: ((event: never) => unknown) | null = null;
  readonly url: string;
  readonly protocols: string[];
  readonly received: Record<string, unknown>[] = [];
  /** Cut: nothing passes either way, and neither end is told. */
  cut = false;
  ended = false;
  #hear: (socket: FakeSocket, message: Record<string, unknown>) => void;

  constructor(
    url: string,
    protocols: string[],
    hear: (socket: FakeSocket, message: Record<string, unknown>) => void,
  ) {
    this.url = url;
    this.protocols = protocols;
    this.#hear = hear;
  }

  send(data: string): void {
    if (this.cut || this.ended) return;
    const message = JSON.parse(data) as Record<string, unknown>;
    this.received.push(message);
    queueMicrotask(() => this.#hear(this, message));
  }

  close(): void {
    this.ended = true;
  }

  open(): void {
    this.onopen?.({} as never);
  }

  deliver(message: unknown): void {
    if (this.cut || this.ended) return;
    this.onmessage?.({ data: typeof message === 'string' ? message : JSON.stringify(message) } as never);
  }

  /** An error, with no word of an end. */
  fail(): void {
    this.onerror?.({} as never);
  }

  shut(code: number): void {
    if (this.ended) return;
    this.ended = true;
    this.onclose?.({ code } as never);
  }
}
