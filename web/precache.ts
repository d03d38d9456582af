import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin, Rolldown } from "vite";

/**
 * Writes `sw.js` with the list of files to keep offline and a version that changes exactly when one of them does.
 * They are what the phone app may come to load; the service worker never serves `/admin`.
 */
export function precacheList(): Plugin {
  let root = "";
  return {
    name: "entobot-precache",
    apply: "build",
    configResolved(config) {
      root = config.root;
    },
    generateBundle(_options, bundle) {
      const assets = reachedFrom("phone", bundle);
      const hash = createHash("sha256");
      for (const name of assets) {
        const output = bundle[name]!;
        hash.update(name).update(output.type === "chunk" ? output.code : output.source);
      }
      const fixed = ["/", "/manifest.webmanifest", "/icon.svg"];
      for (const name of fixed.slice(1)) hash.update(readFileSync(join(root, "public", name)));
      const source = readFileSync(join(root, "src/phone/service-worker.js"), "utf8");
      hash.update(source);
      this.emitFile({
        type: "asset",
        fileName: "sw.js",
        source: source
          .replaceAll("__VERSION__", hash.digest("hex").slice(0, 16))
          .replace('"__FILES__"', JSON.stringify([...fixed, ...assets.map((name) => `/${name}`)])),
      });
    },
  };
}

/** Scripts and styles that an entry loads, at once or later. */
function reachedFrom(entry: string, bundle: Rolldown.OutputBundle): string[] {
  const start = Object.values(bundle).find((one) => one.type === "chunk" && one.isEntry && one.name === entry);
  const found = new Set<string>();
  const waiting = start === undefined ? [] : [start.fileName];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (found.has(name)) continue;
    found.add(name);
    const chunk = bundle[name];
    if (chunk?.type !== "chunk") continue;
    waiting.push(...chunk.imports, ...chunk.dynamicImports, ...(chunk.viteMetadata?.importedCss ?? []));
  }
  return [...found].filter((name) => name.startsWith("assets/")).sort();
}
