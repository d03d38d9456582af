import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";
import { precacheList } from "./precache.ts";
import { licences, swaggerFiles } from "./vendored.ts";

export default defineConfig({
  plugins: [svelte(), swaggerFiles(), licences(), precacheList()],
  build: {
    outDir: "../src/entobot/web/pages",
    emptyOutDir: true,
    target: "es2022",
    // The polyfill and inlined assets would both need a wider policy than `script-src 'self'`.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rolldownOptions: { input: { phone: "index.html", admin: "admin.html" } },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
