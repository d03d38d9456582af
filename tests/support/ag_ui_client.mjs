/* An unmodified @ag-ui/client: says what it is told to, one run after another, and prints what it made of the answers. */
import { createRequire } from "node:module";

const [web, url, key, steps] = process.argv.slice(2);
const { HttpAgent } = createRequire(`${web}/package.json`)("@ag-ui/client");

const agent = new HttpAgent({ url, headers: { Authorization: `Bearer ${key}` } });
const told = [];
for (const step of JSON.parse(steps)) {
  if (step.say !== undefined) agent.addMessage({ id: step.id, role: "user", content: step.say });
  const events = [];
  let failed = null;
  try {
    await agent.runAgent(step.run ?? {}, { onEvent: ({ event }) => void events.push(event.type) });
  } catch (error) {
    failed = String(error.message ?? error);
  }
  const messages = agent.messages.map(({ role, content }) => ({ role, content }));
  told.push({ events, failed, messages, interrupts: agent.pendingInterrupts ?? null });
}
console.log(JSON.stringify(told));
process.exit(0);
