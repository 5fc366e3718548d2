import { type DatagramOptions, DatagramServer, type DatagramStatistics } from "./datagram.js";
import { RpcServer, type RpcServerOptions } from "./server.js";

export interface Place {
  readonly host: string;
  readonly port: number;
}

export type DualServerOptions = RpcServerOptions & Pick<DatagramOptions, "admits" | "network">;

/** Programs over TCP, and those that say so over UDP on the same port number; on each address that it is told. */
export class DualServer {
  readonly rpc: RpcServer;
  readonly #datagrams: DatagramServer;

  constructor(options: DualServerOptions) {
    this.rpc = new RpcServer(options);
    const { onUnexpected = () => {} } = options;
    this.#datagrams = new DatagramServer({ ...options, programs: this.rpc.programs, onUnexpected });
  }

  datagramStatistics(): DatagramStatistics {
    return this.#datagrams.statistics();
  }

  /** @throws the socket's error, and nothing more listens than before */
  async listen(place: Place): Promise<Place> {
    const bound = await this.rpc.listen(place);
    try {
      await this.#datagrams.listen(bound);
      return bound;
    } catch (error) {
      await this.rpc.unlisten(bound, { drainMs: 0 });
      throw error;
    }
  }

  async unlisten(place: Place, options: { drainMs: number }): Promise<void> {
    await Promise.all([this.#datagrams.unlisten(place), this.rpc.unlisten(place, options)]);
  }

  async close(options: { drainMs: number }): Promise<void> {
    await Promise.all([this.#datagrams.close(), this.rpc.close(options)]);
  }
}
