/** Who can be given a conversation: the gateway's list of agents, as it was last told. */
export interface AgentRow {
  name: string;
  kind: string;
  state: "failed" | "ready" | "starting";
  detail: string;
  is_default: boolean;
}

/** Of a conversation's agent; `gone`: not set up any more, or not for this person. */
export type Standing = AgentRow["state"] | "gone";

type Ask = (method: "GET", path: string) => Promise<Response>;

class Agents {
  rows = $state.raw<AgentRow[]>([]);
  loaded = $state(false);

  async load(ask: Ask): Promise<void> {
    this.rows = ((await (await ask("GET", "/api/v1/agents")).json()) as { rows: AgentRow[] }).rows;
    this.loaded = true;
  }

  /** Names to choose from, the one that answers unasked first; the gateway's own is "". */
  get choices(): string[] {
    const first = this.rows.find((row) => row.is_default)?.name ?? "";
    return [first, ...this.rows.map((row) => row.name).filter((name) => name !== first)];
  }

  /** Who answers in a conversation that names this one, or none. */
  nameOf(named: string | undefined): string {
    return named ?? this.choices[0]!;
  }

  standing(name: string): Standing {
    if (name === "" || !this.loaded) return "ready";
    return this.rows.find((row) => row.name === name)?.state ?? "gone";
  }
}

export const agents = new Agents();
