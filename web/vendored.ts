import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const SWAGGER = ["swagger-ui.css", "swagger-ui-bundle.js"];

/** Puts the viewer of the API's description beside the pages: `/api/docs` loads it from here, from no third party. */
export function swaggerFiles(): Plugin {
  let root = "";
  return {
    name: "entobot-swagger",
    apply: "build",
    configResolved: (config) => void (root = config.root),
    generateBundle() {
      for (const name of SWAGGER) {
        const source = readFileSync(join(root, "node_modules/swagger-ui-dist", name), "utf8");
        // The maps they point to are not shipped.
        const text = source.replace(/\n?(\/\/|\/\*)# sourceMappingURL=.*$/m, "");
        this.emitFile({ type: "asset", fileName: `docs/${name}`, source: text });
      }
    },
  };
}

/** `licenses.txt`: the licence of every package of which anything is shipped. */
export function licences(): Plugin {
  let root = "";
  return {
    name: "entobot-licences",
    apply: "build",
    configResolved: (config) => void (root = config.root),
    generateBundle(_options, bundle) {
      const names = new Set(["swagger-ui-dist"]);
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === "chunk" ? chunk.moduleIds : []) {
          const match = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id);
          if (match?.[1] !== undefined) names.add(match[1]);
        }
      }
      const parts = [...names].sort().map((name) => describe(join(root, "node_modules", name), name));
      this.emitFile({ type: "asset", fileName: "licenses.txt", source: parts.join("\n\n") });
    },
  };
}

function describe(folder: string, name: string): string {
  const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string; license?: string };
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt", "license"].map((one) => join(folder, one)).find((one) => existsSync(one));
  const more = ["NOTICE", "swagger-ui-bundle.js.LICENSE.txt"].map((one) => join(folder, one)).filter((one) => existsSync(one));
  const text = [file, ...more].map((one) => (one === undefined ? "" : `\n\n${readFileSync(one, "utf8").trim()}`)).join("");
  return `${"=".repeat(72)}\n${name} ${about.version} (${about.license ?? "see below"})${text}`;
}
