import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

/**
 * Writes `sw.js` with the list of files to keep offline and a version that changes exactly when one of them does.
 * Admin chunks are left out: the service worker never serves `/admin`.
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
      const assets = Object.keys(bundle).filter((name) => name.startsWith("assets/") && !name.includes("admin"));
      const hash = createHash("sha256");
      for (const name of Object.keys(bundle).sort()) {
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
          .replace("__VERSION__", hash.digest("hex").slice(0, 16))
          .replace('"__FILES__"', JSON.stringify([...fixed, ...assets.sort().map((name) => `/${name}`)])),
      });
    },
  };
}
