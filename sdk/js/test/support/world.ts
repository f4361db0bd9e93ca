import { PermcastClient, type NetworkEvent, type PermcastOptions, type State, type Trace } from '../../src/index.ts';
import { FakeClock, settle } from './clock.ts';
import { FakeServer } from './fake-server.ts';

export type SignedIn = Extract<State, { status: 'signed_in' }>;

/** A client, a server, and the time and chance between them. */
export class World {
  readonly clock = new FakeClock();
  readonly server = new FakeServer(() => this.clock.now);
  readonly client: PermcastClient;
  readonly states: State[] = [];
  readonly traces: Trace[] = [];
  /** What chance gives, always. */
  chance = 0.5;
  online = true;
  readonly #network = new Set<(event: NetworkEvent) => void>();

  constructor(options: PermcastOptions = {}) {
    this.client = new PermcastClient({
      baseUrl: 'https://permcast.test',
      ...options,
      environment: {
        now: () => this.clock.now,
        elapsed: () => this.clock.now,
        random: () => this.chance,
        timer: (delayMs, callback) => this.clock.timer(delayMs, callback),
        fetch: (url, init) => this.server.fetch(url, init),
        socket: (url, protocols) => this.server.connect(url, protocols),
        network: {
          online: () => this.online,
          subscribe: (listener) => {
            this.#network.add(listener);
            return () => this.#network.delete(listener);
          },
        },
      },
    });
    this.client.onChange((state) => this.states.push(state));
    this.client.onTrace((trace) => this.traces.push(trace));
  }

  /** Signed in, and connected where the server lets it. */
  static async signedIn(options: PermcastOptions = {}, prepare: (world: World) => void = () => undefined): Promise<World> {
    const world = new World(options);
    prepare(world);
    await world.signIn();
    return world;
  }

  async signIn(): Promise<void> {
    await this.client.signIn({ username: 'ben', password: 'secret' });
    await settle();
  }

  network(event: NetworkEvent): void {
    if (event === 'online') this.online = true;
    if (event === 'offline') this.online = false;
    for (const listener of this.#network) listener(event);
  }

  get state(): SignedIn {
    const { state } = this.client;
    if (state.status !== 'signed_in') throw new Error(`the client is ${state.status}`);
    return state;
  }

  get refreshes(): number {
    return this.server.called('/oauth/token').length;
  }
}
